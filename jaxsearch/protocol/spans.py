"""Text of the policy, and the spans between tags in it.

Every search is a plain find: a lazy regular expression is quadratic in a text of many
opening tags and no closing one.
"""

import itertools
from collections.abc import Sequence

from jaxsearch.protocol.tags import TagPair
from jaxsearch.trajectory import Segment


def policy_runs(segments: Sequence[Segment]) -> list[str | None]:
    """Policy text in order, neighbours joined; None in place of each observation."""
    return [
        "".join(segment.text for segment in run) if is_policy else None
        for is_policy, run in itertools.groupby(segments, lambda s: s.is_policy)
    ]


def first_span(text: str, tags: TagPair) -> str | None:
    """The text between the first opening tag and the closing tag after it, if any."""
    start = text.find(tags.open)
    end = text.find(tags.close, start)
    if start < 0 or end < 0:
        return None
    return text[start + len(tags.open) : end]


def last_span(text: str, tags: TagPair) -> str | None:
    """The last span that closes; each opens after the one before it has closed.

    Source: Search-R1, reward_score/qa_em.py, where a lazy regular expression does it.
    """
    spans = closed_spans(text, tags)
    return spans[-1] if spans else None


def closed_spans(text: str, tags: TagPair) -> list[str]:
    """The text of every span that closes, in order."""
    spans, end = [], 0
    while (start := text.find(tags.open, end)) >= 0:
        start += len(tags.open)
        close = text.find(tags.close, start)
        if close < 0:
            break
        spans.append(text[start:close])
        end = close + len(tags.close)
    return spans


def without_spans(text: str, tags: TagPair, joint: str) -> str:
    """The text with `joint` in place of every span that closes and its tags."""
    kept, end = [], 0
    while (start := text.find(tags.open, end)) >= 0:
        close = text.find(tags.close, start)
        if close < 0:
            break
        kept.append(text[end:start])
        end = close + len(tags.close)
    return joint.join([*kept, text[end:]])
