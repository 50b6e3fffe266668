"""The text contract between policy, search and reward."""

import dataclasses
import itertools
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
      result_open, result_close: stand around what a search brought.
      render: passages -> the text between them. Whoever puts it into a context
        strips control tags from it once more: two passages may hold half a tag each.
      has_answer: segments -> whether the policy wrote a well-formed answer.
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

    def framed(self, body: str) -> str:
        """A rendered text as it enters the context."""
        return f"{self.result_open}{body}{self.result_close}"

    def observation(self, passages: Sequence[Passage]) -> str:
        """The observation of passages that hold no control tags."""
        return self.framed(self.render(passages))


# Stands for an observation in a text that is judged. Its spaces keep the ends of
# two turns from joining into a tag.
EMPTY_RESULT = " <result></result> "

_RESEARCH_INSTRUCTIONS = (
    "You answer questions and can consult a search tool while you work. Put your "
    "reasoning between <think> and </think>. If a fact is missing, write one query "
    "between <search> and </search>: the tool then replies with passages between "
    "<result> and </result>, which you never write yourself. Reason again about what "
    "came back, and repeat this as many times as the question needs. As soon as you "
    "know the answer, finish with one short sentence between <answer> and </answer> "
    "whose answer, and nothing else, stands in \\boxed{}, like this: "
    "<answer> It is \\boxed{the answer} </answer>"
)


def policy_runs(segments: Sequence[Segment]) -> list[str | None]:
    """Policy text in order, neighbours joined; None where the search spoke."""
    return [
        "".join(segment.text for segment in run) if is_policy else None
        for is_policy, run in itertools.groupby(segments, lambda s: s.is_policy)
    ]


def policy_text(segments: Sequence[Segment]) -> str:
    """What the policy wrote, with `EMPTY_RESULT` in place of every observation."""
    runs = policy_runs(segments)
    return "".join(EMPTY_RESULT if run is None else run for run in runs)


def answer_in(text: str) -> str | None:
    """What stands between the first <answer> and the next </answer>, if both are there.

    Plain finds, not a lazy regular expression: that one is quadratic in a text of
    many opening tags and no closing one.
    """
    start = text.find("<answer>")
    end = text.find("</answer>", start)
    if start < 0 or end < 0:
        return None
    return text[start + len("<answer>") : end]


def _research_messages(question: str) -> list[dict[str, str]]:
    """Instructions as the system message, the question alone as the user's.

    Source: ReSearch, chat form. The tags and the roles are the source's; the wording
    is ours, so a published checkpoint needs its own template.
    """
    return [
        {"role": "system", "content": _RESEARCH_INSTRUCTIONS},
        {"role": "user", "content": question},
    ]


def _research_prompt(question: str) -> str:
    """The same instructions as text that a base model continues."""
    return f"{_RESEARCH_INSTRUCTIONS}\n\nQuestion: {question}\nReply:"


def _research_query(turn_text: str) -> str:
    """The text between the last </search> and the <search> before it, stripped.

    Source: ReSearch, rollout loop. There the last <search> of the whole turn is
    taken, so an opening tag in the same token as the stop tag empties the query; here
    the query is what stands before the stop tag.
    """
    before_stop, stop_tag, _ = turn_text.rpartition("</search>")
    _, open_tag, query = before_stop.rpartition("<search>")
    return query.strip() if stop_tag and open_tag else ""


def _research_render(passages: Sequence[Passage]) -> str:
    """Whole contents, a blank line between passages. Source: ReSearch, rollout loop."""
    contents = "\n\n".join(passage.contents for passage in passages).strip()
    return f"\n{contents}\n"


def _research_has_answer(segments: Sequence[Segment]) -> bool:
    """Whether there is exactly one answer, in one turn, with a box in it."""
    text = policy_text(segments)
    answer = answer_in(text)
    return (
        answer is not None
        and text.count("<answer>") == text.count("</answer>") == 1
        and EMPTY_RESULT not in answer
        and "\\boxed{" in answer
        and "}" in answer
    )


def _one_line_render(passages: Sequence[Passage]) -> str:
    """Texts without titles, exactly one space around every word.

    For a vocabulary of whole words with a leading space, which has no newline.
    """
    words = (word for passage in passages for word in passage.text.split())
    return " ".join(["", *words, ""])


RESEARCH = Protocol(
    name="research",
    stop_tags=("</search>",),
    control_tags=tuple(
        tag
        for name in ("think", "search", "result", "answer")
        for tag in (f"<{name}>", f"</{name}>")
    ),
    messages=_research_messages,
    prompt=_research_prompt,
    query=_research_query,
    result_open=" <result>",
    render=_research_render,
    result_close="</result>",
    has_answer=_research_has_answer,
)

# For a tiny policy that learns the tags from examples and reads no instructions.
QUICKSTART = dataclasses.replace(
    RESEARCH,
    name="quickstart",
    messages=lambda question: [{"role": "user", "content": question}],
    prompt=lambda question: question,
    render=_one_line_render,
)
