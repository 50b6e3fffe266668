"""R1-Searcher's protocol: the prompt opens the thoughts, which contain the searches."""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.display import Block, SpanKind, blocks
from jaxsearch.protocol.tags import TagPair, bar_tags, xml_tags
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class R1Searcher(Protocol):
    """Replies that begin inside the thoughts; a turn without a query ends the rollout.

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
        """All tags, in the order that the quickstart's vocabulary numbers them."""
        think, search, result, answer, *calls = super().pairs
        return (think, answer, search, result, *calls)

    @property
    def placeholder(self) -> str:
        """An observation with a passage, because the format rules require one."""
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
        """System and user messages, and the start of the reply, the opened thoughts."""
        return [
            {"role": "system", "content": self.instructions},
            {"role": "user", "content": question},
            {"role": "assistant", "content": self.think.open},
        ]

    def default_prompt(self, question: str) -> str:
        """The same prompt as text for a base model to continue."""
        return f"{self.instructions}\n\nQuestion: {question}\nReply: {self.think.open}"

    def with_opened(self, tags: Sequence[str]) -> Protocol:
        """The protocol, whose rules are for replies that begin inside the thoughts.

        Raises:
          ValueError: if the prompt does not open the thoughts, or opens other tags.
        """
        if tuple(tags) != (self.think.open,):
            written = " ".join(tags) or "no tag"
            raise ValueError(
                f"protocol {self.name!r} judges replies that begin in the thoughts, "
                f"but the prompt begins the reply with {written}; end the prompt "
                f"template with one {self.think.open}"
            )
        return self

    def query(self, turn_text: str) -> str:
        """The keywords after the turn's last opening tag, without double quotes.

        Source: R1-Searcher, rollout loop.
        """
        before_stop, stop_tag, _ = turn_text.rpartition(self.search.close)
        _, open_tag, query = before_stop.rpartition(self.search.open)
        if not stop_tag or not open_tag:
            return ""
        return " ".join(query.replace('"', "").split())

    def ends_rollout(self, turn_text: str) -> bool:
        """Whether the turn has no query. Source: see `query`."""
        return not self.query(turn_text)

    def render(self, passages: Sequence[Passage]) -> str:
        """A numbered line per passage, or the word None if there are none.

        Source: R1-Searcher, rollout loop. Its corpora have one line per passage, with
        three spaces between title and text; passages with a quoted title on a separate
        line (FlashRAG's format) are converted to that format.
        """
        lines = (f"({i}){_line(p)}\n" for i, p in enumerate(passages, start=1))
        return "".join(lines) or "None"

    def blocks(self, segments: Sequence[Segment]) -> list[Block]:
        """Same as `Protocol.blocks`, but the text begins inside the thoughts."""
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
