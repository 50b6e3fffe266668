"""R1-Searcher's protocol: tags of its own, and a <think> that the prompt has opened."""

from collections.abc import Sequence

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.spans import holds_one_answer, policy_text
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

BEGIN_QUERY, END_QUERY = "<|begin_of_query|>", "<|end_of_query|>"
BEGIN_DOCUMENTS, END_DOCUMENTS = "<|begin_of_documents|>", "<|end_of_documents|>"

# Stands for an observation in a text that is judged: one that found a passage.
EMPTY_DOCUMENTS = f"\n\n{BEGIN_DOCUMENTS}\n(1)\n{END_DOCUMENTS}\n\n"

_INSTRUCTIONS = (
    "You answer the user's question after thinking about it step by step. Your "
    "thoughts come first and end with </think>; then follows the final answer, as "
    "short as it can be, between <answer> and </answer>. While you think you may look "
    "facts up, one at a time and as often as you need: write a few keywords between "
    f"{BEGIN_QUERY} and {END_QUERY}, and the passages that were found appear between "
    f"{BEGIN_DOCUMENTS} and {END_DOCUMENTS}. Only the search writes passages. After "
    "your thoughts, end like this: </think>\n\n<answer> the answer </answer>"
)


def _messages(question: str) -> list[dict[str, str]]:
    """System, user, and the beginning of the reply: the opened <think>."""
    return [
        {"role": "system", "content": _INSTRUCTIONS},
        {"role": "user", "content": question},
        {"role": "assistant", "content": "<think>"},
    ]


def _prompt(question: str) -> str:
    """The same as text that a base model continues."""
    return f"{_INSTRUCTIONS}\n\nQuestion: {question}\nReply: <think>"


def _query(turn_text: str) -> str:
    """The keywords after the turn's last opening tag, without double quotes.

    Source: R1-Searcher, rollout loop.
    """
    before_stop, stop_tag, _ = turn_text.rpartition(END_QUERY)
    _, open_tag, query = before_stop.rpartition(BEGIN_QUERY)
    if not stop_tag or not open_tag:
        return ""
    return " ".join(query.replace('"', "").split())


def _is_last(turn_text: str) -> bool:
    """A turn that stops without a query ends the rollout. Source: as `_query`."""
    return not _query(turn_text)


def _render(passages: Sequence[Passage]) -> str:
    """A numbered line for each passage, or the word None.

    Source: R1-Searcher, rollout loop. Its corpora hold one line a passage, the title
    and then three spaces before the text; passages with a quoted title on a line of
    its own (FlashRAG's form) are brought into that shape.
    """
    lines = (f"({i}){_line(p)}\n" for i, p in enumerate(passages, start=1))
    return "".join(lines) or "None"


def _line(passage: Passage) -> str:
    title, newline, text = passage.contents.partition("\n")
    is_quoted = len(title) > 1 and title.startswith('"') and title.endswith('"')
    if newline and is_quoted:
        return f"{passage.title}   {text}"
    return passage.contents.removeprefix("\n")


def _has_answer(segments: Sequence[Segment]) -> bool:
    """Whether there is exactly one answer, in one turn."""
    text = policy_text(segments, EMPTY_DOCUMENTS)
    return holds_one_answer(text, EMPTY_DOCUMENTS)


R1_SEARCHER = Protocol(
    name="r1_searcher",
    stop_tags=(END_QUERY,),
    control_tags=(
        *("<think>", "</think>", "<answer>", "</answer>"),
        *(BEGIN_QUERY, END_QUERY, BEGIN_DOCUMENTS, END_DOCUMENTS),
    ),
    spoken_tags=((BEGIN_QUERY, END_QUERY), ("<answer>", "</answer>")),
    messages=_messages,
    prompt=_prompt,
    query=_query,
    is_last=_is_last,
    result_open=f"\n\n{BEGIN_DOCUMENTS}\n",
    render=_render,
    result_close=f"{END_DOCUMENTS}\n\n",
    has_answer=_has_answer,
)
