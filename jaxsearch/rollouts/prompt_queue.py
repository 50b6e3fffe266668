"""Queue of prompts for several replicas."""

import collections
import itertools
import threading
from collections.abc import Sequence

from jaxsearch.rollouts.records import Prompt

Waiting = tuple[Prompt, list[int]]  # a prompt and its samples that have not started


class PromptQueue:
    """The rollouts that have not started yet, in a thread-safe queue.

    Each replica gets an equal share of the rollouts. Groups are split only at the
    boundary of two shares, so that all replicas have work even with fewer prompts than
    replicas.

    Args:
      max_prompts: prompts that a replica takes at once, to fill its slots.
      has_fixed_shares: each replica rolls out its whole share, so that batches do not
        depend on timing. Otherwise a share only fills the slots once, and the remaining
        prompts go to replicas that have room.
      first_sample: sample_index of the first rollout of each group.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        *,
        num_replicas: int,
        max_prompts: int,
        has_fixed_shares: bool,
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
        num_kept = len(rollouts) if has_fixed_shares else max_prompts
        self._max_prompts = max_prompts
        self._is_dealt = has_fixed_shares
        self._shares = [collections.deque(share[:num_kept]) for share in shares]
        self._common = collections.deque(
            itertools.chain.from_iterable(share[num_kept:] for share in shares)
        )
        self._lock = threading.Lock()

    def is_empty(self, replica: int) -> bool:
        """Whether there is currently no prompt for this replica."""
        return not self._shares[replica] and not self._common

    def take(self, replica: int) -> list[Waiting]:
        """Takes prompts for a replica; empty if other replicas took the last ones."""
        with self._lock:
            source = self._shares[replica]
            num_taken = min(self._max_prompts, len(source))
            if not source:
                source = self._common
                # Fewer at once towards the end, so that replicas finish together.
                part = -(-len(source) // len(self._shares))
                num_taken = min(self._max_prompts, part)
            return [source.popleft() for _ in range(num_taken)]

    def put_back(self, replica: int, prompt: Prompt, sample_index: int) -> None:
        """Puts a rollout back at the front of the queue, to be restarted."""
        with self._lock:
            queue = self._shares[replica] if self._is_dealt else self._common
            queue.appendleft((prompt, [sample_index]))
