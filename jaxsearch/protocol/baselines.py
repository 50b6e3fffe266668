"""Baselines: direct answer, retrieve-then-read, and iterative retrieval.

The papers compare their policies with baselines like these. They answer in Search-R1's
tags, so they are judged like its policies, with the same budgets. The prompts in
`prompts/` are our own; `{think}`, `{search}`, `{result}` and `{answer}` in them stand
for the tags of the protocol.
"""

import dataclasses
import functools
from pathlib import Path

from jaxsearch.protocol.search_r1 import SearchR1
from jaxsearch.protocol.tags import TagPair, xml_tags

_PROMPTS = Path(__file__).parent / "prompts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline(SearchR1):
    """A fixed scheme of searches, with a prompt from a file of the package.

    Attributes:
      limit: number of searches per rollout; see `max_searches`.
    """

    limit: int

    @property
    def max_searches(self) -> int:
        return self.limit

    @property
    def enough(self) -> str:
        return (
            "\nNothing more is looked up: write the final answer between "
            f"{self.answer.open} and {self.answer.close}.\n"
        )

    def default_prompt(self, question: str) -> str:
        return self._instructions(question)

    def default_messages(self, question: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": self._instructions(question)}]

    def _instructions(self, question: str) -> str:
        text = _prompt_file(self.name)
        for kind, pair in self.pairs[:4]:
            text = text.replace(f"{{{kind}}}", f"{pair.open} and {pair.close}")
        # Last, so that placeholders in the question are not replaced.
        return text.replace("{question}", question)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Direct(Baseline):
    """Answers from what the model knows, without a search."""

    name: str = "direct"
    limit: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrieveThenRead(Baseline):
    """One search, with the question as the query, before the model writes."""

    name: str = "retrieve_then_read"
    limit: int = 1

    def first_turn(self, question: str) -> str:
        return f"{self.search.open} {question} {self.search.close}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Iterative(RetrieveThenRead):
    """Searches with the question, then with each sentence that the model adds.

    Source: IRCoT (Trivedi et al. 2023, arXiv:2212.10509), which retrieves with the
    question and then with every new sentence of the chain of thought. There a second
    prompt reads all passages at the end; here the model answers in the same context.
    """

    name: str = "iterative"
    search: TagPair = xml_tags("step")
    limit: int = 5


@functools.cache
def _prompt_file(name: str) -> str:
    return (_PROMPTS / f"{name}.txt").read_text(encoding="utf-8")


DIRECT = Direct()
RETRIEVE_THEN_READ = RetrieveThenRead()
ITERATIVE = Iterative()
