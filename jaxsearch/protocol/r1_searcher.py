"""R1-Searcher's protocol: thoughts that the prompt has opened, searches inside them."""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.display import Block, SpanKind, blocks
from jaxsearch.protocol.tags import TagPair, bar_tags, xml_tags
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class R1Searcher(Protocol):
    """A reply that begins inside the thoughts; a turn without a query ends a rollout.

    The wording of the prompt is ours.
    """

    name: str = "r1_searcher"
    think: TagPair = xml_tags("think")
    search: TagPair = bar_tags("query")
    answer: TagPair = xml_tags("answer")
    result_open: str = "\n\n<|begin_of_documents|>\n"
    result_close: str = "<|end_of_documents|>\n\n"

    @property
    def pairs(self) -> tuple[tuple[SpanKind, TagPair], ...]:
        """In this order: the quickstart's vocabulary numbers its pieces by it."""
        think, search, result, answer, *calls = super().pairs
        return (think, answer, search, result, *calls)

    @property
    def placeholder(self) -> str:
        """An observation that found a passage: the format rules look for one."""
        return f"\n\n{self.result.open}\n(1)\n{self.result.close}\n\n"

    @property
    def instructions(self) -> str:
        search, result, answer = (
            f"{pair.open} and {pair.close}"
            for pair in (self.search, self.result, self.answer)
        )
        return (
            "You answer the user's question after thinking about it step by step. Your "
            f"thoughts come first and end with {self.think.close}; then follows the "
            f"final answer, as short as it can be, between {answer}. While you think "
            "you may look facts up, one at a time and as often as you need: write a "
            f"few keywords between {search}, and the passages that were found appear "
            f"between {result}. Only the search writes passages. After your thoughts, "
            f"end like this: {self.think.close}\n\n{self.answer.open} the answer "
            f"{self.answer.close}"
        )

    def default_messages(self, question: str) -> list[dict[str, str]]:
        """System, user, and the beginning of the reply: the opened thoughts."""
        return [
            {"role": "system", "content": self.instructions},
            {"role": "user", "content": question},
            {"role": "assistant", "content": self.think.open},
        ]

    def default_prompt(self, question: str) -> str:
        """The same as text that a base model continues."""
        return f"{self.instructions}\n\nQuestion: {question}\nReply: {self.think.open}"

    def query(self, turn_text: str) -> str:
        """The keywords after the turn's last opening tag, without double quotes.

        Source: R1-Searcher, rollout loop.
        """
        before_stop, stop_tag, _ = turn_text.rpartition(self.search.close)
        _, open_tag, query = before_stop.rpartition(self.search.open)
        if not stop_tag or not open_tag:
            return ""
        return " ".join(query.replace('"', "").split())

    def is_last(self, turn_text: str) -> bool:
        """Whether the turn has no query and no call. Source: as for `query`."""
        return not self.query(turn_text) and not self.is_tool_call(turn_text)

    def render(self, passages: Sequence[Passage]) -> str:
        """A numbered line for each passage, or the word None.

        Source: R1-Searcher, rollout loop. Its corpora hold one line per passage, the
        title and then three spaces before the text; passages with a quoted title on a
        line of its own (FlashRAG's form) are brought into that shape.
        """
        lines = (f"({i}){_line(p)}\n" for i, p in enumerate(passages, start=1))
        return "".join(lines) or "None"

    def blocks(self, segments: Sequence[Segment]) -> list[Block]:
        """As for every protocol, but the text begins inside the thoughts."""
        return blocks(segments, self.pairs, opened=SpanKind.THINK)

    def search_turn(self, thought: str, query: str) -> str:
        return f"{thought} {self.search.open} {query} {self.search.close}"

    def answer_turn(self, thought: str, answer: str) -> str:
        thoughts = f"{thought} " if thought else ""
        return (
            f"{thoughts}{self.think.close} "
            f"{self.answer.open} {answer} {self.answer.close}"
        )


def _line(passage: Passage) -> str:
    title, newline, text = passage.contents.partition("\n")
    is_quoted = len(title) > 1 and title.startswith('"') and title.endswith('"')
    if newline and is_quoted:
        return f"{passage.title}   {text}"
    return passage.contents.removeprefix("\n")


R1_SEARCHER = R1Searcher()
