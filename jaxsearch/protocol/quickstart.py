"""The quickstarts' forms of ReSearch's and R1-Searcher's protocols.

For a tiny policy that learns the tags from examples and reads no instructions, with a
vocabulary of whole words with a leading space, which has no newline.
"""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol.r1_searcher import (
    BEGIN_DOCUMENTS,
    END_DOCUMENTS,
    R1_SEARCHER,
)
from jaxsearch.protocol.research import RESEARCH
from jaxsearch.search.passages import Passage


def _one_line_render(passages: Sequence[Passage]) -> str:
    """Texts without titles, exactly one space around every word."""
    words = (word for passage in passages for word in passage.text.split())
    return " ".join(["", *words, ""])


QUICKSTART = dataclasses.replace(
    RESEARCH,
    name="quickstart",
    messages=lambda question: [{"role": "user", "content": question}],
    prompt=lambda question: question,
    render=_one_line_render,
)

QUICKSTART_R1_SEARCHER = dataclasses.replace(
    R1_SEARCHER,
    name="quickstart_r1_searcher",
    messages=lambda question: [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "<think>"},
    ],
    prompt=lambda question: f"{question} <think>",
    result_open=f" {BEGIN_DOCUMENTS}",
    render=_one_line_render,
    result_close=END_DOCUMENTS,
)
