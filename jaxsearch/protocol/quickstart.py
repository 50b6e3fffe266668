"""Variants of ReSearch's and R1-Searcher's protocols for the quickstarts.

The quickstarts' tiny policy learns the tags from examples and needs no instructions.
Its vocabulary has whole words with a leading space, and no newline.
"""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol.r1_searcher import R1Searcher
from jaxsearch.protocol.research import ReSearch
from jaxsearch.search.passages import Passage


def one_line(passages: Sequence[Passage]) -> str:
    """Texts without titles, with exactly one space around every word."""
    words = (word for passage in passages for word in passage.text.split())
    return " ".join(["", *words, ""])


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuickstartReSearch(ReSearch):
    """ReSearch's protocol on one line, without instructions."""

    name: str = "quickstart"

    def default_messages(self, question: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": question}]

    def default_prompt(self, question: str) -> str:
        return question

    def render(self, passages: Sequence[Passage]) -> str:
        return one_line(passages)

    def answer_turn(self, thought: str, answer: str) -> str:
        """Only the box, with its braces as separate words."""
        return self._after_thought(thought, rf"\boxed{{ {answer} }}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuickstartR1Searcher(R1Searcher):
    """R1-Searcher's protocol on one line, without instructions."""

    name: str = "quickstart_r1_searcher"
    result_open: str = " <|begin_of_documents|>"
    result_close: str = "<|end_of_documents|>"

    def default_messages(self, question: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": question},
            {"role": "assistant", "content": self.think.open},
        ]

    def default_prompt(self, question: str) -> str:
        return f"{question} {self.think.open}"

    def render(self, passages: Sequence[Passage]) -> str:
        return one_line(passages)


QUICKSTART = QuickstartReSearch()
QUICKSTART_R1_SEARCHER = QuickstartR1Searcher()
