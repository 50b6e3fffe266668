"""ReSearch's rewards: that of its code and equation 2 of its paper.

Rollouts are given as segments with provenance (`research`, `research_paper`) or as a
single text without it (`research_text`, `research_paper_text`). The tags are those of
the protocol.

- Segments: only the text of the policy is judged. Every observation counts as one empty
  result, so passages cannot earn a reward or break the format. A result tag written by
  the policy is a forgery and bad format, and an answer must not be interrupted by an
  observation. The reference accepts both.
- Single text: tags count anywhere, exactly as in the reference.

Source: ReSearch, reward_score/re_search.py (compute_score), and equation 2 of
arXiv:2503.19470.
"""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol import Protocol
from jaxsearch.protocol.spans import first_span
from jaxsearch.rewards.answers import (
    f1,
    last_boxed,
    normalise_research,
    require_golden_answers,
)
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.trajectory import Segment

GOOD_FORMAT_REWARD = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Parsed:
    """A rollout parsed for the reward rules.

    Attributes:
      fault: the first format fault; "" if there is none.
    """

    fault: str
    prediction: str | None


def research(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """F1, or 0.1 if F1 is 0; 0 for bad format or a missing end token.

    This is the rule of the reference code, which is stricter than that of the paper
    (`research_paper`). Without the end token there is no prediction either, as in the
    reference's evaluation.
    """
    require_golden_answers(golden_answers)
    return _code_rule(_parse_segments(segments, protocol), golden_answers, has_ended)


def research_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`research` for a text without provenance, equal to the reference.

    As in the reference, an empty list of golden answers gives an F1 of 0.
    """
    return _code_rule(_parse_text(response, protocol), golden_answers, has_ended)


def research_paper(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """F1 if it is not 0, in any format; else 0.1 for good format, else 0.

    The equation does not mention the end token, so `has_ended` has no effect.
    """
    require_golden_answers(golden_answers)
    return _paper_rule(_parse_segments(segments, protocol), golden_answers)


def research_paper_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`research_paper` for a text without provenance."""
    return _paper_rule(_parse_text(response, protocol), golden_answers)


def _parse_segments(segments: Sequence[Segment], protocol: Protocol) -> _Parsed:
    text = protocol.policy_text(segments)
    fault = (
        "result tags written by the policy"
        if protocol.is_forged(segments)
        else _format_fault(text, protocol)
    )
    answer = first_span(text, protocol.answer)
    if answer is None:
        return _Parsed(fault=fault, prediction=None)
    # A box that opens before an observation and closes after it would contain the
    # passages, so only the last turn's part of the answer is read.
    last_part, is_interrupted = protocol.last_part(answer)
    if is_interrupted and not fault:
        fault = "search inside the answer"
    return _Parsed(fault=fault, prediction=last_boxed(last_part))


def _parse_text(response: str, protocol: Protocol) -> _Parsed:
    answer = first_span(response, protocol.answer)
    return _Parsed(
        fault=_format_fault(response, protocol),
        prediction=None if answer is None else last_boxed(answer),
    )


def _format_fault(text: str, protocol: Protocol) -> str:
    """The first rule that `text` breaks, in the reference's words; "" if none."""
    think, answer_tags = protocol.think, protocol.answer
    if text.count(think.open) != text.count(think.close):
        return f"{think.open} {think.close} not paired"
    if think.open not in text:
        return f"{think.open} or {think.close} not found"
    if any(text.count(tag) != 1 for tag in answer_tags):
        return f"{answer_tags.open} or {answer_tags.close} not found"
    if fault := _search_fault(text, protocol):
        return fault
    answer = first_span(text, answer_tags)
    if answer is None:
        return f"{answer_tags.open} must be before {answer_tags.close}"
    if "\\boxed{" not in answer or "}" not in answer:
        return "answer is missing \\boxed{} format"
    return ""


def _search_fault(text: str, protocol: Protocol) -> str:
    """The fault of the first search that is not closed or has no result; "" if none."""
    tags, result_tags = protocol.search, protocol.result
    search = text.find(tags.open)
    while search >= 0:
        search_end = text.find(tags.close, search)
        result = text.find(result_tags.open, search)
        result_end = text.find(result_tags.close, max(result, search))
        if min(search_end, result, result_end) < 0:
            return "search/result tags are incomplete"
        if not search_end < result < result_end:
            return "search/result tags are nested in the wrong order"
        search = text.find(tags.open, result_end)
    return ""


def _code_rule(
    parsed: _Parsed, golden_answers: Sequence[str], has_ended: bool
) -> Outcome:
    prediction = parsed.prediction if has_ended else None
    if parsed.fault:
        return _no_reward(f"bad format: {parsed.fault}", prediction)
    if not has_ended:
        return _no_reward("over length", prediction)
    if prediction is None:
        return _no_reward("find box error", prediction)
    return _by_f1(prediction, golden_answers)


def _paper_rule(parsed: _Parsed, golden_answers: Sequence[str]) -> Outcome:
    prediction = parsed.prediction
    # A box that cannot be parsed has no answer, so it is not the equation's format.
    fault = parsed.fault or ("find box error" if prediction is None else "")
    if prediction is not None:
        outcome = _by_f1(prediction, golden_answers)
        if outcome.terms["f1"] > 0.0 or not fault:
            return outcome
    return _no_reward(f"bad format: {fault}", prediction)


def _by_f1(prediction: str, golden_answers: Sequence[str]) -> Outcome:
    answer_f1 = (
        f1(prediction, golden_answers, normalise_research) if golden_answers else 0.0
    )
    if answer_f1 > 0.0:
        return Outcome(
            reward=answer_f1,
            terms={"format": 0.0, "f1": answer_f1},
            reason=f"correct answer, get f1 score: {answer_f1}",
            prediction=prediction,
        )
    return Outcome(
        reward=GOOD_FORMAT_REWARD,
        terms={"format": GOOD_FORMAT_REWARD, "f1": 0.0},
        reason=f"wrong answer but good format: {prediction}",
        prediction=prediction,
    )


def _no_reward(reason: str, prediction: str | None) -> Outcome:
    return Outcome(
        reward=0.0,
        terms={"format": 0.0, "f1": 0.0},
        reason=reason,
        prediction=prediction,
    )
