"""The interface between the rollout loop and the tools that answer a policy."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxsearch.data.question import Question
from jaxsearch.trajectory import Status, ToolCall


class RolloutId(NamedTuple):
    """The identity of one rollout, which stays the same if the rollout is restarted.

    Attributes:
      stage: number of the stage; evaluations have separate numbers.
      prompt_index: index of the question in the question stream.
      sample_index: index of the sample in the group of that question.
    """

    stage: int
    prompt_index: int
    sample_index: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """Text that the policy reads before its next turn.

    Attributes:
      call: the record of the call. The number of deleted tags and the truncation are
        filled in when the text is tokenized.
      parts: external texts: passages, a result, an error message. Control tags and
        special tokens are deleted from each part and from the output of `render`; if
        the observation exceeds its token budget, parts are cut from the end.
      opening, closing: text around the parts. It enters the context unchanged, so it
        must not contain external text.
      render: parts -> the text between opening and closing. If the observation is cut,
        it receives fewer and shorter parts.

    Raises:
      ValueError: if a field is of another type.
    """

    call: ToolCall
    parts: tuple[str, ...]
    opening: str = ""
    closing: str = ""
    render: Callable[[Sequence[str]], str] = "".join

    def __post_init__(self):
        is_tuple = isinstance(self.parts, tuple | list)
        frame = (self.opening, self.closing)
        for is_right, expected, value in (
            (isinstance(self.call, ToolCall), "call must be a ToolCall", self.call),
            (
                is_tuple and all(isinstance(part, str) for part in self.parts),
                "parts must be a tuple of strings",
                self.parts,
            ),
            (
                all(isinstance(text, str) for text in frame),
                "opening and closing must be strings",
                frame,
            ),
            (callable(self.render), "render must be a function", self.render),
        ):
            if not is_right:
                raise ValueError(f"Observation: {expected}, got {value!r:.80}")

    def body(self, parts: Sequence[str]) -> str:
        """The rendered text of these parts, without opening and closing.

        Raises:
          ValueError: if `render` does not return a string.
        """
        text = self.render(parts)
        if not isinstance(text, str):
            raise ValueError(
                "Observation: render must return a string, got "
                f"{type(text).__name__} for {len(parts)} parts"
            )
        return text

    def text(self, parts: Sequence[str]) -> str:
        """The text of the observation with these parts, free of control tags."""
        return f"{self.opening}{self.body(parts)}{self.closing}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """The end of a rollout, decided by the environment.

    Attributes:
      status: ENDED, or TOOL_FAILED to leave the rollout out of the update.
      call: the record of the call, if there was one.

    Raises:
      ValueError: for another status, or a call that is no ToolCall.
    """

    status: Status = Status.ENDED
    call: ToolCall | None = None

    def __post_init__(self):
        if self.status not in (Status.ENDED, Status.TOOL_FAILED):
            raise ValueError(
                "an environment ends a rollout with Status.ENDED or "
                f"Status.TOOL_FAILED, got {self.status!r:.80}"
            )
        if not isinstance(self.call, ToolCall | None):
            raise ValueError(
                f"Done: call must be a ToolCall or None, got {self.call!r:.80}"
            )


class Environment(abc.ABC):
    """Answers the turns of a policy.

    Methods are called outside the decoding thread, and by several replicas of a process
    at once; calls about the same rollout never overlap. State must be kept by rollout
    id. A run has one environment for training and others for evaluation.

    If a tool fails, return an observation that reports the failure, or `Done`. An
    exception is treated as a defect and ends the run.

    Attributes:
      stop_tags: strings that end a turn, in addition to those of the run's protocol.
        They are deleted from all parts of observations.
      control_tags: other strings to delete from all parts of observations.
    """

    stop_tags: tuple[str, ...] = ()
    control_tags: tuple[str, ...] = ()

    @abc.abstractmethod
    def step(
        self, turns: Sequence[tuple[RolloutId, str]]
    ) -> Sequence[Observation | Done]:
        """Returns one answer for each turn.

        The turns are those currently waiting, each from a different rollout. A turn
        ends with a stop tag, possibly followed by a few characters. The tag may be one
        of the protocol's tags that this environment does not use.
        """

    def start(self, rollouts: Sequence[tuple[RolloutId, Question]]) -> None:
        """Begins rollouts.

        A rollout that was started before is restarted and makes the same turns again,
        so its state must be reset.
        """
        return

    def close(self, rollout_ids: Sequence[RolloutId]) -> None:
        """Ends rollouts. Not called after an error or an interrupt."""
        return

    def shortest_observations(self) -> Sequence[Observation]:
        """Observations without external text, which must fit the token budget.

        They are checked once, when a run starts.
        """
        return ()


def text_between(turn_text: str, opening: str, closing: str) -> str | None:
    """The text of a call, between two tags and stripped; None without these tags.

    The closing tag is the first one in the turn, the opening tag the last one before.
    """
    before, closed, _ = turn_text.partition(closing)
    _, opened, text = before.rpartition(opening)
    return text.strip() if closed and opened else None
