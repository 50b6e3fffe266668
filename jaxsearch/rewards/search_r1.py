"""Search-R1's rewards: exact match, and exact match with format.

Rollouts are given as segments with provenance or, in the functions named `*_text`, as a
single text, which is judged as a whole, like by the reference. The tags are those of
the protocol.

- Segments: only the text of the policy is judged. Every observation counts as one empty
  result. A result tag written by the policy is a forgery and bad format, and an answer
  contains no observation.
- In segments, an answer that is empty once normalised, such as "A", is wrong; in a
  single text it equals any other such answer, as in the reference.
- In both cases, a rollout without an answer has no prediction. In the reference its
  prediction is the example in the prompt ("Beijing"), the last answer in the prompt and
  response together; the reference's rule that a missing answer earns nothing is never
  reached.

Source: Search-R1, verl/utils/reward_score/qa_em.py and qa_em_format.py (v0.3).
"""

import dataclasses
from collections.abc import Iterable, Sequence

from jaxsearch.protocol import Protocol
from jaxsearch.rewards.answers import (
    Metric,
    em_check,
    exact_match,
    normalise_research,
    require_golden_answers,
    sub_em,
)
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.search_r1_format import (
    ParsedRollout,
    parse_segments,
    parse_text,
)
from jaxsearch.trajectory import Segment

FORMAT_REWARD = 0.2  # for a valid sequence
BAD_FORMAT_REWARD = 0.1  # for a wrong answer in an invalid sequence
# The scripts of v0.3 use 0; the reference's test vectors also contain this value.
RETRIEVAL_REWARD = 0.1


def search_r1(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """1 if the last answer is a golden answer, else 0; `has_ended` has no effect."""
    require_golden_answers(golden_answers)
    return _exact(parse_segments(segments, protocol), golden_answers, exact_match)


def search_r1_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`search_r1` for a text without provenance, equal to the reference.

    As in the reference, an empty list of golden answers gives 0.
    """
    parsed = parse_text(response, protocol)
    outcome = _exact(parsed, golden_answers, em_check)
    return _with_findings(outcome, parsed, golden_answers)


def search_r1_format(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
    retrieval_reward: float = 0.0,
) -> Outcome:
    """1 for a right answer in a valid sequence, else 0.8; 0.2 and 0.1 if it is wrong.

    A missing answer earns 0. A sequence is valid if it begins with thoughts, all
    thoughts are followed by a search and its result or by the answer, there is only
    white space between the tagged texts, and nothing follows the answer.

    Args:
      retrieval_reward: added for a wrong answer in a valid sequence if any result
        contains a golden answer; the policy's text does not count.
    """
    require_golden_answers(golden_answers)
    parsed = parse_segments(segments, protocol)
    return _with_format(parsed, golden_answers, retrieval_reward, exact_match)


def search_r1_format_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
    retrieval_reward: float = 0.0,
) -> Outcome:
    """`search_r1_format` for a text without provenance, equal to the reference."""
    parsed = parse_text(response, protocol)
    outcome = _with_format(parsed, golden_answers, retrieval_reward, em_check)
    return _with_findings(outcome, parsed, golden_answers)


def _has_golden_answer(blocks: Iterable[str], golden_answers: Sequence[str]) -> bool:
    return bool(golden_answers) and any(
        sub_em(block, golden_answers, normalise_research) for block in blocks
    )


def _is_right(parsed: ParsedRollout, golden_answers: Sequence[str], em: Metric) -> bool:
    return (
        parsed.prediction is not None
        and bool(golden_answers)
        and em(parsed.prediction, golden_answers, normalise_research) == 1.0
    )


def _exact(parsed: ParsedRollout, golden_answers: Sequence[str], em: Metric) -> Outcome:
    is_right = _is_right(parsed, golden_answers, em)
    return Outcome(
        reward=float(is_right),
        terms={"answer": float(is_right)},
        reason=_answer_words(parsed, is_right),
        prediction=parsed.prediction,
    )


def _format_terms(
    parsed: ParsedRollout,
    is_right: bool,
    golden_answers: Sequence[str],
    retrieval: float,
) -> dict[str, float]:
    terms = {"answer": 0.0, "format": 0.0, "retrieval": 0.0}
    if is_right:
        terms["answer"] = 1.0 - FORMAT_REWARD
    if not parsed.fault:
        terms["format"] = FORMAT_REWARD
        if not is_right and _has_golden_answer(parsed.retrieved, golden_answers):
            terms["retrieval"] = retrieval
    elif parsed.prediction is not None and not is_right:
        terms["format"] = BAD_FORMAT_REWARD
    return terms


def _with_format(
    parsed: ParsedRollout,
    golden_answers: Sequence[str],
    retrieval_reward: float,
    em: Metric,
) -> Outcome:
    is_right = _is_right(parsed, golden_answers, em)
    terms = _format_terms(parsed, is_right, golden_answers, retrieval_reward)
    words = _answer_words(parsed, is_right)
    return Outcome(
        reward=sum(terms.values()),
        terms=terms,
        reason=f"{words}; bad format: {parsed.fault}" if parsed.fault else words,
        prediction=parsed.prediction,
    )


def _answer_words(parsed: ParsedRollout, is_right: bool) -> str:
    if parsed.prediction is None:
        return "no answer"
    return "right answer" if is_right else "wrong answer"


def _with_findings(
    outcome: Outcome, parsed: ParsedRollout, golden_answers: Sequence[str]
) -> Outcome:
    """The outcome with the reference's other rewards and checks as findings."""
    is_right = _is_right(parsed, golden_answers, em_check)
    has_part = parsed.prediction is not None and bool(golden_answers)
    rewards = {
        name: sum(_format_terms(parsed, is_right, golden_answers, part).values())
        for name, part in (
            ("format_v03", 0.0),
            (f"format_retrieval_{RETRIEVAL_REWARD}", RETRIEVAL_REWARD),
        )
    }
    findings = {
        "subem": sub_em(parsed.prediction, golden_answers, normalise_research)
        if has_part
        else 0.0,
        "extracted": parsed.prediction,
        "valid": not parsed.fault,
        "retrieval_correct": _has_golden_answer(parsed.retrieved, golden_answers),
        **rewards,
    }
    return dataclasses.replace(outcome, findings=findings)
