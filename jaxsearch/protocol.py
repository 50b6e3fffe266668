"""The text contract between policy, search and reward."""

import dataclasses
from collections.abc import Callable, Sequence

from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a policy asks, how passages come back, what an answer looks like.

    Attributes:
      stop_tags: strings that end a turn; the search runs when one is written.
      control_tags: strings deleted from retrieved text.
      messages: question -> chat messages, for tokenizers with a chat template.
      prompt: question -> prompt text, for tokenizers without one.
      query: text of one turn -> what the policy asks for; "" when it asks nothing.
      observation: passages -> text put into the context.
      has_answer: segments -> whether the policy wrote a well-formed answer.
    """

    name: str
    stop_tags: tuple[str, ...]
    control_tags: tuple[str, ...]
    messages: Callable[[str], list[dict[str, str]]]
    prompt: Callable[[str], str]
    query: Callable[[str], str]
    observation: Callable[[Sequence[Passage]], str]
    has_answer: Callable[[Sequence[Segment]], bool]
