"""Workloads of `bench rollout` and `bench update`: rollouts of given turn lengths."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

from jaxsearch.json_files import read_json_object
from jaxsearch.json_types import typed
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.hf_config import from_hf_config

_PACKAGED = Path(__file__).parent / "workloads"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """Scripted rollouts: a model, and the length of every turn.

    Lengths are in tokens. Rollout i belongs to question i // group_size. After every
    turn but the last, one observation of `observation_len` tokens is appended.
    """

    model: dict[str, Any]  # a Hugging Face config
    dtype: str
    slots: int
    num_questions: int
    group_size: int
    prompt_len: int
    observation_len: int
    temperature: float
    top_p: float
    retrieval_latency_s: float
    turn_lens: tuple[tuple[int, ...], ...]

    def __post_init__(self):
        for name in (
            *("slots", "num_questions", "group_size"),
            *("prompt_len", "observation_len"),
        ):
            value = dataclasses.asdict(self)[name]
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        if len(self.turn_lens) != self.num_rollouts:
            raise ValueError(
                f"turn_lens has {len(self.turn_lens)} rollouts, expected num_questions "
                f"x group_size = {self.num_rollouts}"
            )
        if len({len(turns) for turns in self.turn_lens}) != 1:
            raise ValueError(
                "all rollouts of turn_lens must have the same number of turns"
            )
        if not self.turn_lens[0] or min(map(min, self.turn_lens)) < 1:
            raise ValueError("every turn of turn_lens must have at least one token")
        if not 0 < self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ValueError(
                "temperature must be positive and top_p in (0, 1], got "
                f"{self.temperature} and {self.top_p}"
            )
        if not 0 <= self.retrieval_latency_s < math.inf:
            raise ValueError("retrieval_latency_s must not be negative")

    @property
    def num_rollouts(self) -> int:
        return self.num_questions * self.group_size

    @property
    def num_turns(self) -> int:
        return len(self.turn_lens[0])

    @property
    def max_turn_len(self) -> int:
        return max(map(max, self.turn_lens))

    @property
    def policy_tokens(self) -> int:
        """Number of sampled tokens of all rollouts."""
        return sum(map(sum, self.turn_lens))

    @property
    def row_lens(self) -> list[int]:
        """Length of each finished rollout."""
        rest = self.prompt_len + (self.num_turns - 1) * self.observation_len
        return [rest + sum(turns) for turns in self.turn_lens]

    @functools.cached_property
    def architecture(self) -> Architecture:
        return from_hf_config(self.model)


def workload_path(name: str) -> Path:
    """Returns the path of a workload file, or of a packaged workload by its name.

    Raises:
      ValueError: if there is neither.
    """
    packaged = _PACKAGED / f"{name}.json"
    path = packaged if packaged.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _PACKAGED.glob("*.json")))
        raise ValueError(f"workload {name} is neither a file nor one of: {known}")
    return path


def read_workload(name: str) -> Workload:
    """Reads a workload file, or a packaged workload by its name.

    Raises:
      ValueError: if the workload does not exist or the file is malformed; the message
        names the file.
    """
    path = workload_path(name)
    fields = read_json_object(path)
    # A comment says what the workload is for.
    fields.pop("comment", None)
    try:
        workload = typed(fields, Workload, "the workload")
        _ = workload.architecture
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return workload
