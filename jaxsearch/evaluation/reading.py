"""Whether the observations contain golden answers and supporting pages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsearch.rewards.answers import normalise_research

# Any text may contain these answers, so finding them has no meaning.
_SAYS_NOTHING = frozenset({"", "yes", "no", "noanswer"})
# Text that may precede a title in a passage's line, and text that must follow it: a
# new line (ReSearch), ")" (Search-R1), spaces or "Text:" (R1-Searcher).
_BEFORE = re.compile(r'[\n>]\s*(?:\(\d+\)|doc \d+\()?\s*(?:title:\s*)?"?$')
_AFTER = re.compile(r'"?(?=\s*(?:$|[\n)])|\s{2}|\s+text:)')
_MAX_BEFORE = 32  # characters


def has_read_answer(line: Mapping[str, Any]) -> bool | None:
    """Whether an observation contains a golden answer, as whole words.

    Texts are compared after `normalise_research`.

    Args:
      line: a line of predictions.

    Returns:
      None if the line has no segments, or only answers such as "yes".
    """
    golds = {normalise_research(gold) for gold in line["golden_answers"]}
    golds -= _SAYS_NOTHING
    if not golds or "segments" not in line:
        return None
    texts = (f" {normalise_research(text)} " for text in observations(line))
    return any(f" {gold} " in text for text in texts for gold in golds)


def has_read_titles(line: Mapping[str, Any]) -> bool | None:
    """Whether passages of all supporting titles were retrieved.

    Args:
      line: a line of predictions.

    Returns:
      None if the line has no segments, or no supporting titles.
    """
    titles = supporting_titles(line.get("metadata", {}))
    if not titles or "segments" not in line:
        return None
    text = "\n".join(observations(line)).lower()
    return all(_has_title(text, title.lower()) for title in titles)


def _has_title(text: str, title: str) -> bool:
    """Whether a passage in the text has the title; both are in lower case."""
    start = text.find(title)
    while start >= 0:
        end = start + len(title)
        before = text[max(0, start - _MAX_BEFORE) : start]
        if _BEFORE.search("\n" + before if start <= _MAX_BEFORE else before) and (
            _AFTER.match(text, end)
        ):
            return True
        start = text.find(title, start + 1)
    return False


def observations(line: Mapping[str, Any]) -> list[str]:
    """The texts of a line's segments that the policy did not write."""
    return [one["text"] for one in line["segments"] if not one["is_policy"]]


def supporting_titles(metadata: Mapping[str, Any]) -> Sequence[str]:
    """The titles of the pages that answer a question; empty if unknown."""
    titles = metadata.get("supporting_titles")
    found = titles if isinstance(titles, list) else []
    return [title for title in found if isinstance(title, str) and title]
