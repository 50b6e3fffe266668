"""Prompts that wait to be rolled out, for several replicas at once."""

import collections
import itertools
import threading
from collections.abc import Sequence

from jaxsearch.rollout.records import Prompt

Waiting = tuple[Prompt, list[int]]  # members of its group that are still to start


class PromptQueue:
    """Who is to start next. Any thread may take.

    Replicas take whole groups, but for those that an even share of all rollouts cuts:
    so fewer questions than replicas leave none without work.

    Args:
      is_dealt: each replica gets its share at once, and what is computed together does
        not depend on time. Otherwise whoever has room takes the next.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        num_replicas: int,
        *,
        is_dealt: bool,
    ):
        rollouts = list(itertools.product(range(len(prompts)), range(group_size)))
        bounds = [len(rollouts) * i // num_replicas for i in range(num_replicas + 1)]
        shares = [
            collections.deque(
                (prompts[number], [member for _, member in run])
                for number, run in itertools.groupby(rollouts[a:b], lambda one: one[0])
            )
            for a, b in itertools.pairwise(bounds)
        ]
        # Takers of one queue leave the others their part of what is left.
        self._num_takers = 1 if is_dealt else num_replicas
        if not is_dealt:
            shares = [collections.deque(itertools.chain(*shares))] * num_replicas
        self._shares = shares
        self._lock = threading.Lock()

    def is_empty(self, replica: int) -> bool:
        """Whether there is nothing for this replica, for now."""
        return not self._shares[replica]

    def take(self, replica: int, most: int) -> list[Waiting]:
        """Up to `most` of those that wait; none if others were faster."""
        with self._lock:
            share = self._shares[replica]
            num_taken = min(most, -(-len(share) // self._num_takers))
            return [share.popleft() for _ in range(num_taken)]

    def put_back(self, replica: int, prompt: Prompt, member: int) -> None:
        """A rollout that starts again, before all others."""
        with self._lock:
            self._shares[replica].appendleft((prompt, [member]))
