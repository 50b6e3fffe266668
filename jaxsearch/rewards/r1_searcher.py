r"""R1-Searcher's rewards: the two stages of its paper, and three rewards of its code.

Rollouts are given as segments with provenance or, in the functions named `*_text`, as a
single text. The response begins inside the thoughts, because the prompt opens them. The
tags are those of the protocol.

- Segments: only the text of the policy is judged. Every observation counts as one
  well-formed block with a passage (the code punishes a search that finds nothing).
  Document tags written by the policy are a forgery and bad format, and an answer must
  not be interrupted by an observation; the code accepts both in some cases.
- Single text: tags and words count anywhere, exactly as in the code.

Sources: arXiv:2503.05592, section 3; R1-Searcher, train/reward_server_qwen_zero.py,
reward_server_llama_stage1.py and reward_server_llama_stage2.py.
"""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol import Protocol
from jaxsearch.rewards.answers import (
    Metric,
    cover_em,
    cover_exact_match_score_1,
    f1,
    normalise_r1_searcher,
    require_golden_answers,
)
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.r1_searcher_format import (
    ParsedRollout,
    code_fault,
    paper_fault,
    parse_segments,
    parse_text,
    qwen_fault,
    reply_fault,
    tag_counts,
)
from jaxsearch.trajectory import Segment

RETRIEVAL_REWARD = FORMAT_REWARD = 0.5  # of stage 1
PAPER_PENALTY = QWEN_PENALTY = -2.0
LLAMA_PENALTY = -1.0

# End tokens, which the texts judged by the code contain, but `response` does not.
_QWEN_END, _LLAMA_END = "<|endoftext|>", "<|eot_id|>"


def r1_searcher_stage1(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """0.5 for any search and 0.5 for good format; the answer earns nothing.

    The format is that of `r1_searcher_stage2`. As in all of these rewards, `has_ended`
    has no effect on segments.
    """
    require_golden_answers(golden_answers)
    return _paper_stage1(parse_segments(segments, protocol))


def r1_searcher_stage1_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`r1_searcher_stage1` for a text without provenance."""
    return _paper_stage1(parse_text(response, protocol))


def r1_searcher_stage2(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """F1, and -2 for bad format.

    The paper describes its rules in prose. Our interpretation: one end of the thoughts,
    followed by one answer between its tags; every query between its tags and followed
    by documents, no documents without a query; no tags inside the answer; no unreadable
    text, which means no U+FFFD and, as in the code, no Chinese characters outside
    documents.
    """
    require_golden_answers(golden_answers)
    return _paper_stage2(parse_segments(segments, protocol), golden_answers)


def r1_searcher_stage2_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`r1_searcher_stage2` for a text without provenance."""
    return _paper_stage2(parse_text(response, protocol), golden_answers)


def r1_searcher_qwen(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """F1, and -2 for bad format, as in the code for Qwen without stage 1.

    Bad format also includes "assistant" (or "Assistant") anywhere, an answer of more
    than ten words, or an answer that contains the name of a query or document tag.
    """
    require_golden_answers(golden_answers)
    parsed = parse_segments(segments, protocol)
    return _by_f1(parsed, golden_answers, qwen_fault(parsed), QWEN_PENALTY)


def r1_searcher_qwen_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`r1_searcher_qwen` for a text without provenance, equal to the reference."""
    parsed = parse_text(response + _QWEN_END * has_ended, protocol)
    outcome = _by_f1(parsed, golden_answers, qwen_fault(parsed), QWEN_PENALTY)
    return dataclasses.replace(outcome, findings=parsed.findings)


def r1_searcher_llama_stage1(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """1 if the answer has all golden tokens, else -1; 0.5 for searches, 0.5 for format.

    The paper's stage 1 has no reward for answers.
    """
    require_golden_answers(golden_answers)
    parsed = parse_segments(segments, protocol)
    return _llama_stage1(parsed, golden_answers, cover_em)


def r1_searcher_llama_stage1_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`r1_searcher_llama_stage1` for one text, equal to the reference."""
    parsed = parse_text(response + _LLAMA_END * has_ended, protocol)
    outcome = _llama_stage1(parsed, golden_answers, cover_exact_match_score_1)
    return dataclasses.replace(outcome, findings=parsed.findings)


def r1_searcher_llama_stage2(
    segments: Sequence[Segment],
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """F1, and -1 for bad format (-2 in the paper)."""
    require_golden_answers(golden_answers)
    parsed = parse_segments(segments, protocol)
    return _by_f1(parsed, golden_answers, code_fault(parsed), LLAMA_PENALTY)


def r1_searcher_llama_stage2_text(
    response: str,
    golden_answers: Sequence[str],
    *,
    has_ended: bool,
    protocol: Protocol,
) -> Outcome:
    """`r1_searcher_llama_stage2` for one text, equal to the reference."""
    parsed = parse_text(response + _LLAMA_END * has_ended, protocol)
    outcome = _by_f1(parsed, golden_answers, code_fault(parsed), LLAMA_PENALTY)
    return dataclasses.replace(outcome, findings=parsed.findings)


def _paper_stage1(parsed: ParsedRollout) -> Outcome:
    fault = paper_fault(parsed)
    retrieval = RETRIEVAL_REWARD if parsed.num_searches else 0.0
    good_format = 0.0 if fault else FORMAT_REWARD
    searches = f"{parsed.num_searches} searches"
    return Outcome(
        reward=retrieval + good_format,
        terms={"retrieval": retrieval, "format": good_format},
        reason=f"{searches}, bad format: {fault}" if fault else searches,
        prediction=parsed.prediction,
    )


def _paper_stage2(parsed: ParsedRollout, golden_answers: Sequence[str]) -> Outcome:
    return _by_f1(parsed, golden_answers, paper_fault(parsed), PAPER_PENALTY)


def _llama_stage1(
    parsed: ParsedRollout, golden_answers: Sequence[str], covers: Metric
) -> Outcome:
    require_golden_answers(golden_answers)
    prediction = parsed.prediction
    is_right = prediction is not None and covers(
        prediction, golden_answers, normalise_r1_searcher
    )
    counts = tag_counts(parsed.text, parsed.protocol)
    has_searched = len(counts) == 1 and counts != {0} and not parsed.fault
    fault = parsed.fault or reply_fault(parsed.text, parsed.protocol)
    terms = {
        "answer": 1.0 if is_right else -1.0,
        "retrieval": RETRIEVAL_REWARD if has_searched else 0.0,
        "format": 0.0 if fault else FORMAT_REWARD,
    }
    words = [
        "right answer" if is_right else "wrong or no answer",
        "searched" if has_searched else "no search, or its tags do not match",
        f"bad format: {fault}" if fault else "good format",
    ]
    return Outcome(
        reward=sum(terms.values()),
        terms=terms,
        reason="; ".join(words),
        prediction=prediction,
    )


def _by_f1(
    parsed: ParsedRollout, golden_answers: Sequence[str], fault: str, penalty: float
) -> Outcome:
    require_golden_answers(golden_answers)
    prediction = parsed.prediction
    answer_f1 = 0.0
    if prediction is not None:
        answer_f1 = f1(prediction, golden_answers, normalise_r1_searcher)
    found = f"f1 {answer_f1:.4g}" if prediction is not None else "no answer"
    return Outcome(
        reward=answer_f1 + penalty if fault else answer_f1,
        terms={"f1": answer_f1, "format": penalty if fault else 0.0},
        reason=f"{found}; bad format: {fault}" if fault else found,
        prediction=prediction,
    )
