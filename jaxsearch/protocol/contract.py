"""What a protocol is, whatever its tags."""

import dataclasses
from collections.abc import Callable, Sequence

from jaxsearch.protocol.spans import outside, policy_runs
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment


def never_last(turn_text: str) -> bool:
    """For protocols whose rollouts end with an end token alone."""
    return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a policy asks, how passages come back, what an answer looks like.

    Attributes:
      stop_tags: strings that end a turn; the search runs when one is written, unless
        the turn `is_last`.
      control_tags: strings deleted from retrieved text.
      spoken_tags: opening and closing tag of each kind of text that is no thought: of
        queries and of answers.
      messages: question -> chat messages, for tokenizers with a chat template.
      prompt: question -> prompt text, for tokenizers without one.
      query: text of one turn -> what the policy asks for; "" when it asks nothing.
      result_open, result_close: stand around what a search brought.
      render: passages -> the text between them. Whoever puts it into a context
        strips control tags from it once more: two passages may hold half a tag each.
      has_answer: segments -> whether the policy wrote a well-formed answer.
      is_last: text of a turn that ended with a stop tag -> whether the rollout ends
        with it, as if by an end token.
      reminder: what a policy may read, in place of a result, after a turn that asked
        nothing; "" for none.
    """

    name: str
    stop_tags: tuple[str, ...]
    control_tags: tuple[str, ...]
    messages: Callable[[str], list[dict[str, str]]]
    prompt: Callable[[str], str]
    query: Callable[[str], str]
    result_open: str
    render: Callable[[Sequence[Passage]], str]
    result_close: str
    has_answer: Callable[[Sequence[Segment]], bool]
    is_last: Callable[[str], bool] = never_last
    reminder: str = ""
    spoken_tags: tuple[tuple[str, str], ...] = ()

    def framed(self, body: str) -> str:
        """A rendered text as it enters the context."""
        return f"{self.result_open}{body}{self.result_close}"

    def observation(self, passages: Sequence[Passage]) -> str:
        """The observation of passages that hold no control tags."""
        return self.framed(self.render(passages))

    def thought(self, segments: Sequence[Segment]) -> str:
        """What the policy wrote besides queries and answers, words with single spaces.

        Control tags are deleted; an end token counts as it is spelled.
        """
        runs = (run for run in policy_runs(segments) if run is not None)
        text = " ".join(outside(run, self.spoken_tags) for run in runs)
        for tag in self.control_tags:
            text = text.replace(tag, " ")
        return " ".join(text.split())
