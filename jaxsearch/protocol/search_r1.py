"""Search-R1's protocol, in which the closing tag of an answer ends the rollout."""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.tags import TagPair, xml_tags
from jaxsearch.search.passages import Passage


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchR1(Protocol):
    """A prompt in one user message, and results between <information> tags.

    The wording of the prompt and of the reminder is ours.
    """

    name: str = "search_r1"
    think: TagPair = xml_tags("think")
    search: TagPair = xml_tags("search")
    answer: TagPair = xml_tags("answer")
    result_open: str = "\n\n<information>"
    result_close: str = "</information>\n\n"

    @property
    def stop_tags(self) -> tuple[str, ...]:
        search, *calls = super().stop_tags
        return (search, self.answer.close, *calls)

    @property
    def reminder(self) -> str:
        return (
            f"\nNothing was looked up: a query goes between {self.search.open} and "
            f"{self.search.close}, the final answer between {self.answer.open} and "
            f"{self.answer.close}.\n"
        )

    def default_prompt(self, question: str) -> str:
        think, search, result, answer = (
            f"{pair.open} and {pair.close}"
            for pair in (self.think, self.search, self.result, self.answer)
        )
        return (
            f"Answer the question below. Reason between {think} first, and again "
            "whenever something new has been found. If your reasoning shows that you "
            f"lack a fact, ask the search tool with a query between {search}; what it "
            f"finds stands between {result}. You may ask as often as you like. When "
            "nothing is missing, write the answer alone, without explanation, between "
            f"{answer}.\nQuestion: {question}\n"
        )

    def default_messages(self, question: str) -> list[dict[str, str]]:
        """One user message.

        Source: Search-R1, data preparation.
        """
        return [{"role": "user", "content": self.default_prompt(question)}]

    def query(self, turn_text: str) -> str:
        """The text between the turn's first opening tag and the next closing tag.

        Source: Search-R1, search_r1/llm_agent/generation.py.
        """
        _, _, after = turn_text.partition(self.search.open)
        query, stop_tag, _ = after.partition(self.search.close)
        return query.strip() if stop_tag else ""

    def ends_rollout(self, turn_text: str) -> bool:
        """Whether the turn contains an answer.

        Source: see `query`. In that code a turn continues to the first closing tag of a
        query, and then its first pair of tags counts; here it stops at the first
        closing tag of either kind, so that an answer inside a query ends the rollout.
        """
        before, closing, _ = turn_text.partition(self.answer.close)
        return bool(closing) and self.answer.open in before

    def render(self, passages: Sequence[Passage]) -> str:
        """A line `Doc 1(Title: first line) other lines` for each passage."""
        documents = []
        for number, passage in enumerate(passages, start=1):
            title, _, text = passage.contents.partition("\n")
            documents.append(f"Doc {number}(Title: {title}) {text}\n")
        return "".join(documents).strip()

    def search_turn(self, thought: str, query: str) -> str:
        return (
            f"{self.think.open} {thought} {self.think.close}\n"
            f"{self.search.open} {query} {self.search.close}"
        )

    def answer_turn(self, thought: str, answer: str) -> str:
        end = f"{self.answer.open} {answer} {self.answer.close}"
        if not thought:
            return end
        return f"{self.think.open} {thought} {self.think.close}\n{end}"


SEARCH_R1 = SearchR1()
