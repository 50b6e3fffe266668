"""ReSearch's protocol."""

import dataclasses
from collections.abc import Sequence

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.spans import first_span
from jaxsearch.protocol.tags import TagPair, xml_tags
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

BOX = ("\\boxed{", "}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReSearch(Protocol):
    """Thoughts, queries and a boxed answer, each between a pair of tags.

    The tags and roles are those of ReSearch. The wording of the prompt is ours, so a
    published checkpoint needs a prompt template.
    """

    name: str = "research"
    think: TagPair = xml_tags("think")
    search: TagPair = xml_tags("search")
    answer: TagPair = xml_tags("answer")
    result_open: str = " <result>"
    result_close: str = "</result>"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*self.control_tags, *BOX)

    @property
    def instructions(self) -> str:
        think, search, result, answer = (
            f"{pair.open} and {pair.close}"
            for pair in (self.think, self.search, self.result, self.answer)
        )
        example = f"{self.answer.open} It is \\boxed{{the answer}} {self.answer.close}"
        return (
            "You answer questions and can consult a search tool while you work. Put "
            f"your reasoning between {think}. If a fact is missing, write one query "
            f"between {search}: the tool then replies with passages between {result}, "
            "which you never write yourself. Reason again about what came back, and "
            "repeat this as many times as the question needs. As soon as you know the "
            f"answer, finish with one short sentence between {answer} whose answer, "
            f"and nothing else, stands in \\boxed{{}}, like this: {example}"
        )

    def default_messages(self, question: str) -> list[dict[str, str]]:
        """Instructions as the system message, and the question as the user message.

        Source: ReSearch, chat format.
        """
        return [
            {"role": "system", "content": self.instructions},
            {"role": "user", "content": question},
        ]

    def default_prompt(self, question: str) -> str:
        """The same prompt as text for a base model to continue."""
        return f"{self.instructions}\n\nQuestion: {question}\nReply:"

    def query(self, turn_text: str) -> str:
        """The text between the last closing tag and the opening tag before it.

        Source: ReSearch, rollout loop. That code takes the last opening tag of the
        whole turn, so an opening tag in the same token as the stop tag empties the
        query; here only opening tags before the stop tag count.
        """
        before_stop, stop_tag, _ = turn_text.rpartition(self.search.close)
        _, open_tag, query = before_stop.rpartition(self.search.open)
        return query.strip() if stop_tag and open_tag else ""

    def render(self, passages: Sequence[Passage]) -> str:
        """The contents of all passages, with a blank line in between.

        Source: ReSearch, rollout loop.
        """
        contents = "\n\n".join(passage.contents for passage in passages).strip()
        return f"\n{contents}\n"

    def has_answer(self, segments: Sequence[Segment]) -> bool:
        """Whether there is exactly one answer, within one turn, that contains a box."""
        answer = first_span(self.policy_text(segments), self.answer) or ""
        return all(brace in answer for brace in BOX) and super().has_answer(segments)

    def search_turn(self, thought: str, query: str) -> str:
        return (
            f"{self.think.open} {thought} {self.think.close} "
            f"{self.search.open} {query} {self.search.close}"
        )

    def answer_turn(self, thought: str, answer: str) -> str:
        boxed = rf"\[ \boxed{{{answer}}} \]"
        return self._after_thought(thought, f"The final answer is {boxed}")

    def brief_answer_turn(self, thought: str, answer: str) -> str:
        """`answer_turn` with the box alone between the tags."""
        return self._after_thought(thought, rf"\boxed{{{answer}}}")

    def _after_thought(self, thought: str, answer: str) -> str:
        thoughts = f"{self.think.open} {thought} {self.think.close} " if thought else ""
        return f"{thoughts}{self.answer.open} {answer} {self.answer.close}"


RESEARCH = ReSearch()
