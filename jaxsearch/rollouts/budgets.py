"""Budgets of a rollout, and the shapes that programs are compiled for."""

import dataclasses

# Programs are compiled for a length, its half and its quarter.
_NUM_BUCKETS = 3
_SMALLEST_BUCKET = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budgets:
    """Budgets of a rollout, in tokens unless named otherwise.

    Attributes:
      search_calls: decode calls after which the result of a tool call is read, waiting
        for it if necessary. 0 reads it as soon as it arrives. This is fastest, but then
        the rows that are computed together depend on timing, and so does the rounding
        of log-probs (about 1e-7). A positive number makes two runs identical bit for
        bit.
      cache_len: tokens that the KV cache holds for all slots together; None: max_len
        per slot. When it is full, rollouts wait for others to end, or restart from
        their prompt with the same random numbers.
      page_len: W, tokens per page of the cache; None: a length chosen for the device.

    Raises:
      ValueError: for a budget that is too small, or does not fit into another one.
    """

    num_slots: int  # B, rollouts in flight
    max_len: int  # S, prompt, turns and observations together
    max_prompt_len: int
    max_turn_len: int
    max_observation_len: int
    max_calls: int  # of tools, per rollout
    search_calls: int = 0
    cache_len: int | None = None
    page_len: int | None = None

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value is None:
                continue
            least = 0 if name in ("max_calls", "search_calls") else 1
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in ("max_prompt_len", "max_observation_len"):
            value = dataclasses.asdict(self)[name]
            if value >= self.max_len:
                raise ValueError(
                    f"{name} must be below max_len so that a turn has room, got "
                    f"{value} and {self.max_len}"
                )
        if self.cache_len is not None and self.cache_len < self.max_len:
            raise ValueError(
                f"cache_len must hold one rollout of max_len = {self.max_len} tokens, "
                f"got {self.cache_len}"
            )

    def num_prompts(self, group_size: int) -> int:
        """Prompts that are prefilled together: enough for groups to fill all slots."""
        return -(-self.num_slots // group_size)


def buckets(limit: int) -> tuple[int, ...]:
    """The lengths to compile programs for, up to `limit`, in ascending order."""
    halves = [limit >> i for i in range(_NUM_BUCKETS)]
    return tuple(sorted({limit, *(h for h in halves if h >= _SMALLEST_BUCKET)}))


def row_buckets(limit: int) -> tuple[int, ...]:
    """Row lengths that updates are compiled for: buckets, and lengths in between."""
    sizes = buckets(limit)
    return tuple(sorted({*sizes, *(size * 3 // 4 for size in sizes)}))


def bucket_of(sizes: tuple[int, ...], needed: int) -> int:
    """The smallest bucket that holds `needed`.

    Raises:
      ValueError: if there is none.
    """
    for size in sizes:
        if size >= needed:
            return size
    raise ValueError(f"{needed} does not fit; the largest bucket is {sizes[-1]}")
