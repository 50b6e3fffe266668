"""What the policy wrote of a rollout, and where its answer stands."""

import itertools
from collections.abc import Sequence

from jaxsearch.trajectory import Segment


def policy_runs(segments: Sequence[Segment]) -> list[str | None]:
    """Policy text in order, neighbours joined; None where the search spoke."""
    return [
        "".join(segment.text for segment in run) if is_policy else None
        for is_policy, run in itertools.groupby(segments, lambda s: s.is_policy)
    ]


def policy_text(segments: Sequence[Segment], observation: str) -> str:
    """What the policy wrote, with `observation` in place of each that it read.

    It must keep the ends of two turns from joining into a tag.
    """
    runs = policy_runs(segments)
    return "".join(observation if run is None else run for run in runs)


def answer_in(text: str) -> str | None:
    """What stands between the first <answer> and the next </answer>, if both are there.

    Plain finds, not a lazy regular expression: that one is quadratic in a text of
    many opening tags and no closing one.
    """
    start = text.find("<answer>")
    end = text.find("</answer>", start)
    if start < 0 or end < 0:
        return None
    return text[start + len("<answer>") : end]


def holds_one_answer(text: str, observation: str) -> bool:
    """Whether there is exactly one answer, without an observation in it."""
    answer = answer_in(text)
    return (
        answer is not None
        and text.count("<answer>") == text.count("</answer>") == 1
        and observation not in answer
    )


def outside(text: str, tags: Sequence[tuple[str, str]]) -> str:
    """The text without what stands between two tags of a pair, with the tags.

    A tag that opens and is never closed takes nothing with it.
    """
    for opening, closing in tags:
        kept, end = [], 0
        while (start := text.find(opening, end)) >= 0:
            close = text.find(closing, start)
            if close < 0:
                break
            kept.append(text[end:start])
            end = close + len(closing)
        # Spaces, so that what is left does not join into a tag.
        text = " ".join([*kept, text[end:]])
    return text


def last_answer_in(text: str) -> str | None:
    """What stands in the last <answer> that closes; each opens after the one before.

    Source: Search-R1, reward_score/qa_em.py, where a lazy regular expression does it.
    """
    answer, end = None, 0
    while (start := text.find("<answer>", end)) >= 0:
        start += len("<answer>")
        close = text.find("</answer>", start)
        if close < 0:
            break
        answer, end = text[start:close], close + len("</answer>")
    return answer
