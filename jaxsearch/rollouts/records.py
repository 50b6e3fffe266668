"""Host-side records: prompts, rollouts in progress, and timings."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxsearch.data.question import Question
from jaxsearch.env.environment import RolloutId
from jaxsearch.protocol import Protocol
from jaxsearch.rollouts.slots import Row
from jaxsearch.trajectory import Status, ToolCall, Trajectory, segments_of


@dataclasses.dataclass(kw_only=True)
class Timing:
    """Times and counts of a call of `Sampler.run`.

    `seconds` minus the two waits is the time of host work. For several replicas see
    `joined_timing`.
    """

    seconds: float = 0.0
    environment_wait: float = 0.0  # seconds in which decoding waited for a tool
    device_wait: float = 0.0  # seconds in which the host waited for the device
    num_decode_calls: int = 0
    num_steps: int = 0  # decode steps, one token in every decoding slot
    num_prefilled: int = 0  # tokens of prompts
    num_observed: int = 0  # tokens of observations
    num_restarts: int = 0  # rollouts restarted because the cache was full
    asked_at: list[float] = dataclasses.field(
        default_factory=list
    )  # time of each batch of calls
    # Seconds of prefill, fork, append and decode; filled if the run is profiled.
    phases: dict[str, float] = dataclasses.field(default_factory=dict)


def joined_timing(timings: Sequence[Timing], seconds: float) -> Timing:
    """The timing of replicas that ran in parallel for `seconds`.

    Waits and phases are means over the replicas, so that they remain parts of
    `seconds`; counts are sums.
    """

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(timings)

    phases = {name for timing in timings for name in timing.phases}
    return Timing(
        seconds=seconds,
        environment_wait=mean(t.environment_wait for t in timings),
        device_wait=mean(t.device_wait for t in timings),
        num_decode_calls=sum(t.num_decode_calls for t in timings),
        num_steps=sum(t.num_steps for t in timings),
        num_prefilled=sum(t.num_prefilled for t in timings),
        num_observed=sum(t.num_observed for t in timings),
        num_restarts=sum(t.num_restarts for t in timings),
        asked_at=sorted(when for t in timings for when in t.asked_at),
        phases={
            name: mean(t.phases.get(name, 0.0) for t in timings)
            for name in sorted(phases)
        },
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """A question as ids, and its index in the question stream.

    An evaluation has the ids of many questions at once: an array of them takes a ninth
    of a list.
    """

    question: Question
    index: int
    ids: np.ndarray


class Asked(NamedTuple):
    """Slots whose turns were sent to the environment in one call.

    Attributes:
      num_decode_calls: number of decode calls made before.
    """

    slots: tuple[int, ...]
    num_decode_calls: int


@dataclasses.dataclass(kw_only=True)
class Rollout:
    """A rollout in progress.

    Attributes:
      turn_start: index of the first token of the current turn.
    """

    stage: int
    prompt: Prompt
    sample_index: int
    turn_start: int
    tool_calls: list[ToolCall] = dataclasses.field(default_factory=list)

    @property
    def id(self) -> RolloutId:
        return RolloutId(self.stage, self.prompt.index, self.sample_index)

    @property
    def turn(self) -> int:
        """Number of the current turn, counted from 0."""
        return len(self.tool_calls)

    def trajectory(
        self,
        row: Row,
        status: Status,
        protocol: Protocol,
        decode: Callable[[Int[np.ndarray, " W"]], str],
    ) -> Trajectory:
        """The finished rollout; ENDED becomes ANSWERED if there is an answer."""
        prompt, prompt_len = self.prompt, len(self.prompt.ids)
        segments = segments_of(row.tokens, row.is_policy, prompt_len, decode)
        if status is Status.ENDED and protocol.has_answer(segments):
            status = Status.ANSWERED
        return Trajectory(
            question_id=prompt.question.id,
            question=prompt.question.question,
            golden_answers=prompt.question.golden_answers,
            prompt_index=prompt.index,
            sample_index=self.sample_index,
            tokens=row.tokens,
            is_policy=row.is_policy,
            logprobs=row.logprobs,
            sampling_logprobs=row.sampling_logprobs,
            prompt_len=prompt_len,
            segments=segments,
            tool_calls=tuple(self.tool_calls),
            status=status,
            metadata=prompt.question.metadata,
        )


# Rollout -> state of the stop automaton at the start of its turn.
TurnState = Callable[[Rollout], int]


def from_the_start(rollout: Rollout) -> int:
    """The automaton's start state, for turns that end at the policy's stop tags."""
    return 0
