"""Prompts that wait to be rolled out, for several replicas at once."""

import collections
import itertools
import threading
from collections.abc import Sequence

from jaxsearch.rollout.records import Prompt

Waiting = tuple[Prompt, list[int]]  # samples still to start


class PromptQueue:
    """Who is to start next. Any thread may take.

    An even share of all rollouts is each replica's; groups are cut only where shares
    meet, so fewer questions than replicas leave none without work.

    Args:
      most: prompts that a replica takes at once, to fill its slots.
      is_dealt: replicas keep to their shares: what is computed together does not
        depend on time. Otherwise a share is what fills the slots, and whoever has room
        then takes from what is left.
      first_sample: sample_index of the first rollout of each group.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        *,
        num_replicas: int,
        most: int,
        is_dealt: bool,
        first_sample: int = 0,
    ):
        sample_indices = range(first_sample, first_sample + group_size)
        rollouts = list(itertools.product(range(len(prompts)), sample_indices))
        bounds = [len(rollouts) * i // num_replicas for i in range(num_replicas + 1)]
        shares = [
            [
                (prompts[number], [sample_index for _, sample_index in run])
                for number, run in itertools.groupby(rollouts[a:b], lambda one: one[0])
            ]
            for a, b in itertools.pairwise(bounds)
        ]
        num_kept = len(rollouts) if is_dealt else most
        self._most = most
        self._is_dealt = is_dealt
        self._shares = [collections.deque(share[:num_kept]) for share in shares]
        self._left = collections.deque(
            itertools.chain.from_iterable(share[num_kept:] for share in shares)
        )
        self._lock = threading.Lock()

    def is_empty(self, replica: int) -> bool:
        """Whether there is nothing for this replica, for now."""
        return not self._shares[replica] and not self._left

    def take(self, replica: int) -> list[Waiting]:
        """What a replica with room is to start; nothing if others were faster."""
        with self._lock:
            source = self._shares[replica]
            num_taken = min(self._most, len(source))
            if not source:
                source = self._left
                # Towards the end fewer at once, so that all end together.
                part = -(-len(source) // len(self._shares))
                num_taken = min(self._most, part)
            return [source.popleft() for _ in range(num_taken)]

    def put_back(self, replica: int, prompt: Prompt, sample_index: int) -> None:
        """A rollout that starts again, before all others."""
        with self._lock:
            queue = self._shares[replica] if self._is_dealt else self._left
            queue.appendleft((prompt, [sample_index]))
