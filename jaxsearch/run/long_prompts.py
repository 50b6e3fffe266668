"""Questions whose prompts exceed their budget: refused together, or left out."""

import dataclasses

from jaxsearch.bad_rows import NUM_NAMED, Note
from jaxsearch.data.question import Question


class LongPromptsError(ValueError):
    """Prompts exceed their budget.

    Args:
      found: which questions have too long prompts.
      advice: what to do, with the options of commands that take fields of a config.

    Attributes:
      found: the text without the advice, for commands with other options.
    """

    def __init__(self, found: str, advice: str):
        super().__init__(f"{found}; {advice}")
        self.found = found


@dataclasses.dataclass
class LongPrompts:
    """The questions of a run whose prompts are too long.

    Attributes:
      budget: the largest length of a prompt, in tokens.
      found: these questions, and the lengths of their prompts.
      num_checked: number of questions checked so far.
    """

    budget: int
    found: list[tuple[Question, int]] = dataclasses.field(default_factory=list)
    num_checked: int = 0

    def is_long(self, question: Question, num_tokens: int) -> bool:
        """Whether a prompt is too long; then its question is collected."""
        self.num_checked += 1
        if num_tokens <= self.budget:
            return False
        self.found.append((question, num_tokens))
        return True

    def settle(self, *, drop: bool, note: Note) -> None:
        """Notes the questions if they are to be dropped, else refuses them.

        Args:
          drop: whether to continue without these questions.
          note: receives their number and the first `NUM_NAMED`.

        Raises:
          LongPromptsError: if there are any and `drop` is False.
        """
        if not self.found:
            return
        if drop:
            note(f"{self._text()}; they were dropped")
            return
        raise LongPromptsError(
            self._text(),
            f"{self._remedy()}, or drop these questions with --data.drop-long-prompts "
            "True",
        )

    def rest(self, questions: list[Question]) -> list[Question]:
        """The other questions of a list.

        Raises:
          LongPromptsError: if all of them are too long.
        """
        dropped = {id(question) for question, _ in self.found}
        kept = [question for question in questions if id(question) not in dropped]
        if questions and not kept:
            raise LongPromptsError(
                f"{self._text()}; no other question is left", self._remedy()
            )
        return kept

    def _text(self) -> str:
        named = [
            f"question {question.id!r:.80} has {num_tokens}"
            for question, num_tokens in self.found[:NUM_NAMED]
        ]
        if len(self.found) > NUM_NAMED:
            named.append(f"and {len(self.found) - NUM_NAMED:,} more")
        return (
            f"the prompts of {len(self.found):,} of {self.num_checked:,} questions "
            f"exceed the budget of {self.budget} tokens: {', '.join(named)}"
        )

    def _remedy(self) -> str:
        longest = max(num_tokens for _, num_tokens in self.found)
        return f"raise --rollout.max-prompt-len ({longest} fits all)"
