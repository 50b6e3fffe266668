"""A task: the protocol of a system, its reward and its normaliser."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from jaxsearch.protocol import Protocol
from jaxsearch.rewards.answers import Normalise, cover_em, exact_match, f1
from jaxsearch.rewards.outcome import Outcome, RewardError
from jaxsearch.rewards.own import check_reward
from jaxsearch.trajectory import Segment
from jaxsearch.user_code import call_error, error_text

# Parts of a demonstration that checks whether a protocol can parse its turns.
_THOUGHT, _QUERY, _ANSWER = "a thought", "a query", "an answer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A protocol with its reward and normaliser, checked at construction.

    A custom task is a value in any importable module. Most differ from an existing one
    in only one or two fields: `dataclasses.replace(RESEARCH, name="mine", ...)`.

    Attributes:
      reward: (segments, golden_answers, *, has_ended, protocol) -> Outcome; judges the
        policy's segments by the tags of the protocol.
      reward_of_text: (response, golden_answers, *, has_ended, protocol) -> Outcome;
        judges a text without provenance, like the reference implementation.
      uses_end: whether the reward depends on `has_ended`.
      normalise: text -> text, for `metrics`.
      own_reward: reward in place of `reward` wherever a rollout's question and row are
        known: a function, or several with weights, as `rewards.own` describes them;
        None for none. The prediction stays that of `reward`.

    Raises:
      ValueError: if a field has the wrong type, a reward cannot take these arguments,
        or the parts of the protocol contradict each other.
    """

    name: str
    protocol: Protocol
    reward: Callable[..., Outcome]
    reward_of_text: Callable[..., Outcome]
    uses_end: bool
    normalise: Normalise
    own_reward: Any = None

    def __post_init__(self):
        if not isinstance(self.protocol, Protocol):
            raise ValueError(
                f"task {self.name!r}: protocol must be a Protocol, such as "
                f"jaxsearch.protocol.RESEARCH, got {self.protocol!r:.80}"
            )
        for field in ("reward", "reward_of_text", "normalise"):
            if not callable(vars(self)[field]):
                raise ValueError(
                    f"task {self.name!r}: {field} must be a function, got "
                    f"{vars(self)[field]!r:.80}"
                )
        for field, first in (("reward", "segments"), ("reward_of_text", "response")):
            _check_reward(self.name, field, first, vars(self)[field])
        _check_protocol(self.name, self.protocol)
        if self.own_reward is not None:
            check_reward(self.own_reward)

    def with_opened(self, opened: str) -> "Task":
        """The task for replies that begin after a tag which the prompt has opened.

        Args:
          opened: the tag, or "".

        Raises:
          ValueError: if the protocol cannot judge such replies.
        """
        protocol = self.protocol.with_opened([opened] if opened else [])
        return dataclasses.replace(self, protocol=protocol)

    def judge(
        self,
        segments: Sequence[Segment],
        golden_answers: Sequence[str],
        *,
        has_ended: bool,
        label: str,
    ) -> Outcome:
        """The `reward` of a rollout.

        Raises:
          RewardError: if the reward failed; the error contains the rollout's label.
        """
        return self._outcome(self.reward, segments, golden_answers, has_ended, label)

    def judge_text(
        self,
        response: str,
        golden_answers: Sequence[str],
        *,
        has_ended: bool,
        label: str,
    ) -> Outcome:
        """The `reward_of_text` of a response, after what the prompt has opened.

        Raises:
          RewardError: if the reward failed; the error contains the response's label.
        """
        return self._outcome(
            self.reward_of_text,
            self.protocol.opened + response,
            golden_answers,
            has_ended,
            label,
        )

    def _outcome(
        self,
        reward: Callable[..., Outcome],
        judged: str | Sequence[Segment],
        golden_answers: Sequence[str],
        has_ended: bool,
        label: str,
    ) -> Outcome:
        try:
            outcome = reward(
                judged, golden_answers, has_ended=has_ended, protocol=self.protocol
            )
        except Exception as error:  # a user's function may raise anything
            raise RewardError(
                f"{error_text(error)}; in the reward of {label} by task {self.name!r}"
            ) from error
        if not isinstance(outcome, Outcome):
            raise RewardError(
                f"a reward must return an Outcome, got {outcome!r:.80}; in the reward "
                f"of {label} by task {self.name!r}"
            )
        return outcome

    def metrics(
        self, prediction: str | None, golden_answers: Sequence[str]
    ) -> dict[str, float]:
        """`em`, `f1` and `cover_em` in 0..1; all 0 if there is no prediction."""
        if prediction is None:
            return {"em": 0.0, "f1": 0.0, "cover_em": 0.0}
        # The three metrics compare the same texts.
        normalise = functools.cache(self.normalise)
        return {
            "em": exact_match(prediction, golden_answers, normalise),
            "f1": f1(prediction, golden_answers, normalise),
            "cover_em": cover_em(prediction, golden_answers, normalise),
        }


def _check_reward(task: str, field: str, first: str, reward: Any) -> None:
    """Checks the signature of a reward.

    Raises:
      ValueError: if it cannot be called with the arguments that a task passes.
    """
    if error := call_error(reward, (), (), has_ended=True, protocol=None):
        raise ValueError(
            f"task {task!r}: {field} must accept ({first}, golden_answers, *, "
            f"has_ended, protocol), but its signature is {error}"
        )


def _check_protocol(task: str, protocol: Protocol) -> None:
    """Checks that a protocol can parse the turns that it writes.

    Raises:
      ValueError: if it cannot.
    """

    def refuse(problem: str) -> ValueError:
        return ValueError(f"task {task!r}: protocol {protocol.name!r}: {problem}")

    turn = protocol.search_turn(_THOUGHT, _QUERY)
    if not protocol.stop_tags or not turn.endswith(protocol.stop_tags):
        raise refuse(
            f"search_turn writes {turn!r}, which ends with none of the stop tags "
            f"{protocol.stop_tags}"
        )
    if protocol.query(turn) != _QUERY or protocol.is_last(turn):
        raise refuse(
            f"search_turn writes {turn!r}, which asks for {protocol.query(turn)!r} and "
            f"{'ends' if protocol.is_last(turn) else 'does not end'} the rollout; "
            f"expected a query for {_QUERY!r}"
        )
    answer = protocol.answer_turn(_THOUGHT, _ANSWER)
    if not protocol.has_answer([Segment(text=answer, is_policy=True)]):
        raise refuse(f"answer_turn writes {answer!r}, in which has_answer finds none")
    frame = protocol.frame("")
    for tag in (*protocol.stop_tags, *protocol.result):
        if tag not in protocol.control_tags:
            raise refuse(
                f"{tag!r} is not among control_tags, so a passage could contain it"
            )
    if not all(tag in frame for tag in protocol.result):
        raise refuse(f"frame writes {frame!r} without the tags {protocol.result}")
