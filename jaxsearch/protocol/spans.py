"""The policy's text, and spans between tags in it.

All functions use `str.find`, because a lazy regular expression takes quadratic time in
a text with many opening tags and no closing tag.
"""

import itertools
from collections.abc import Sequence

from jaxsearch.protocol.tags import TagPair
from jaxsearch.trajectory import Segment


def policy_runs(segments: Sequence[Segment]) -> list[str | None]:
    """The policy's texts in order, with None in place of each observation.

    Consecutive segments of the same author are joined.
    """
    return [
        "".join(segment.text for segment in run) if is_policy else None
        for is_policy, run in itertools.groupby(segments, lambda s: s.is_policy)
    ]


def first_span(text: str, tags: TagPair) -> str | None:
    """The text between the first opening tag and the next closing tag, or None."""
    start = text.find(tags.open)
    end = text.find(tags.close, start)
    if start < 0 or end < 0:
        return None
    return text[start + len(tags.open) : end]


def last_span(text: str, tags: TagPair) -> str | None:
    """The last closed span, where each span opens after the previous one has closed.

    Source: Search-R1, reward_score/qa_em.py, which uses a lazy regular expression.
    """
    spans = closed_spans(text, tags)
    return spans[-1] if spans else None


def closed_spans(text: str, tags: TagPair) -> list[str]:
    """The text of every closed span, in order."""
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
    """Replaces every closed span and its tags by `joint`."""
    kept, end = [], 0
    while (start := text.find(tags.open, end)) >= 0:
        close = text.find(tags.close, start)
        if close < 0:
            break
        kept.append(text[end:start])
        end = close + len(tags.close)
    return joint.join([*kept, text[end:]])
