"""Queries made of the passages of an index, to measure it without questions."""

import re
from collections.abc import Sequence

import numpy as np

from jaxsearch.search.passage_store import passages_at
from jaxsearch.search.passages import Passage

# Shorter sentences are mostly headings and abbreviations.
MIN_SENTENCE_WORDS = 5
# Passages that are drawn for a query, because some have no title or no sentence.
_DRAWN = 4


def sample_queries(
    passages: Sequence[Passage], num_queries: int, *, seed: int
) -> dict[str, list[str]]:
    """Titles and sentences of randomly drawn passages, half of each.

    Raises:
      ValueError: if the drawn passages have no titles or no sentences.
    """
    rng = np.random.default_rng(seed)
    num_each = num_queries // 2
    positions = rng.integers(len(passages), size=max(100, _DRAWN * num_queries))
    drawn = passages_at(passages, positions.tolist())
    titles = [passage.title for passage in drawn if passage.title]
    worded = [found for passage in drawn if (found := sentences(passage))]
    if not titles or not worded:
        raise ValueError(
            f"expected passages with titles and sentences of {MIN_SENTENCE_WORDS} "
            f"words or more, got {len(titles)} and {len(worded)} of {len(drawn)} drawn"
        )
    return {
        "titles": [titles[i % len(titles)] for i in range(num_each)],
        "sentences": [
            found[rng.integers(len(found))]
            for found in (worded[i % len(worded)] for i in range(num_each))
        ],
    }


def sentences(passage: Passage) -> list[str]:
    """The sentences of a passage that are long enough to be a query."""
    # A passage with a single line, as in a TSV file, has no title.
    text = passage.text or passage.contents
    found = re.split(r"(?<=[.!?])\s+", text)
    return [part for part in found if len(part.split()) >= MIN_SENTENCE_WORDS]
