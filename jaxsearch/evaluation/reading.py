"""What a policy has read: golden answers and supporting pages in its observations."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsearch.rewards.answers import normalise_research

# Answers that any text may contain, so that reading them says nothing.
_SAYS_NOTHING = frozenset({"", "yes", "no", "noanswer"})
# What may stand between the beginning of a passage's line and its title, and what must
# follow: a new line (ReSearch), ")" (Search-R1), spaces or "Text:" (R1-Searcher).
_BEFORE = r'(?:^|[\n>])\s*(?:\(\d+\)|Doc \d+\()?\s*(?:Title:\s*)?"?'
_AFTER = r'"?(?=\s*(?:$|[\n)])|\s{2}|\s+Text:)'


def has_read_answer(line: Mapping[str, Any]) -> bool | None:
    """Whether an observation contains a golden answer, as whole words.

    Texts are compared as `normalise_research` leaves them.

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
    """Whether passages of all supporting titles were read.

    Args:
      line: a line of predictions.

    Returns:
      None if the line has no segments, or no supporting titles.
    """
    titles = supporting_titles(line.get("metadata", {}))
    if not titles or "segments" not in line:
        return None
    text = "\n".join(observations(line))
    return all(
        re.search(f"{_BEFORE}{re.escape(title)}{_AFTER}", text, re.IGNORECASE)
        for title in titles
    )


def observations(line: Mapping[str, Any]) -> list[str]:
    """The texts of a line that the policy did not write."""
    return [one["text"] for one in line["segments"] if not one["is_policy"]]


def supporting_titles(metadata: Mapping[str, Any]) -> Sequence[str]:
    """The titles of the pages that answer a question, in any published layout."""
    titles = metadata.get("supporting_titles")
    if titles is None:
        facts = metadata.get("supporting_facts")
        if isinstance(facts, Mapping):
            titles = facts.get("title")
        elif isinstance(facts, list):
            titles = [fact[0] for fact in facts if isinstance(fact, list) and fact]
    if not isinstance(titles, list):
        return ()
    return [title for title in titles if isinstance(title, str) and title]
