"""Budgets of a rollout, and the short list of shapes that they ask for."""

import dataclasses

# Programs are compiled for a limit and for its halves down to a quarter.
_NUM_BUCKETS = 3
_SMALLEST_BUCKET = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Budgets of a rollout, in tokens unless named otherwise."""

    num_slots: int  # B, rollouts in flight
    max_len: int  # S, prompt, turns and observations together
    max_prompt_len: int
    max_turn_len: int
    max_observation_len: int
    max_searches: int  # per rollout

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            least = 0 if name == "max_searches" else 1
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in ("max_prompt_len", "max_observation_len"):
            value = dataclasses.asdict(self)[name]
            if value >= self.max_len:
                raise ValueError(
                    f"{name} must be below max_len so that a turn has room, got "
                    f"{value} and {self.max_len}"
                )


def buckets(limit: int) -> tuple[int, ...]:
    """The limit and its halves, smallest first: the shapes that get compiled."""
    halves = [limit >> i for i in range(_NUM_BUCKETS)]
    return tuple(sorted({limit, *(h for h in halves if h >= _SMALLEST_BUCKET)}))


def bucket_of(sizes: tuple[int, ...], needed: int) -> int:
    """The smallest bucket that holds `needed`.

    Errors: ValueError when none does.
    """
    for size in sizes:
        if size >= needed:
            return size
    raise ValueError(f"{needed} does not fit; at most {sizes[-1]} do")
