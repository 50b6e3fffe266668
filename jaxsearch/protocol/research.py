"""ReSearch's protocol."""

from collections.abc import Sequence

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.spans import answer_in, holds_one_answer, policy_text
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

# Stands for an observation in a text that is judged. Its spaces keep the ends of
# two turns from joining into a tag.
EMPTY_RESULT = " <result></result> "

_INSTRUCTIONS = (
    "You answer questions and can consult a search tool while you work. Put your "
    "reasoning between <think> and </think>. If a fact is missing, write one query "
    "between <search> and </search>: the tool then replies with passages between "
    "<result> and </result>, which you never write yourself. Reason again about what "
    "came back, and repeat this as many times as the question needs. As soon as you "
    "know the answer, finish with one short sentence between <answer> and </answer> "
    "whose answer, and nothing else, stands in \\boxed{}, like this: "
    "<answer> It is \\boxed{the answer} </answer>"
)


def _messages(question: str) -> list[dict[str, str]]:
    """Instructions as the system message, the question alone as the user's.

    Source: ReSearch, chat form. The tags and the roles are the source's; the wording
    is ours, so a published checkpoint needs its own template.
    """
    return [
        {"role": "system", "content": _INSTRUCTIONS},
        {"role": "user", "content": question},
    ]


def _prompt(question: str) -> str:
    """The same instructions as text that a base model continues."""
    return f"{_INSTRUCTIONS}\n\nQuestion: {question}\nReply:"


def _query(turn_text: str) -> str:
    """The text between the last </search> and the <search> before it, stripped.

    Source: ReSearch, rollout loop. There the last <search> of the whole turn is
    taken, so an opening tag in the same token as the stop tag empties the query; here
    the query is what stands before the stop tag.
    """
    before_stop, stop_tag, _ = turn_text.rpartition("</search>")
    _, open_tag, query = before_stop.rpartition("<search>")
    return query.strip() if stop_tag and open_tag else ""


def _render(passages: Sequence[Passage]) -> str:
    """Whole contents, a blank line between passages. Source: ReSearch, rollout loop."""
    contents = "\n\n".join(passage.contents for passage in passages).strip()
    return f"\n{contents}\n"


def _has_answer(segments: Sequence[Segment]) -> bool:
    """Whether there is exactly one answer, in one turn, with a box in it."""
    text = policy_text(segments, EMPTY_RESULT)
    answer = answer_in(text) or ""
    has_box = "\\boxed{" in answer and "}" in answer
    return has_box and holds_one_answer(text, EMPTY_RESULT)


RESEARCH = Protocol(
    name="research",
    stop_tags=("</search>",),
    control_tags=tuple(
        tag
        for name in ("think", "search", "result", "answer")
        for tag in (f"<{name}>", f"</{name}>")
    ),
    spoken_tags=(("<search>", "</search>"), ("<answer>", "</answer>")),
    messages=_messages,
    prompt=_prompt,
    query=_query,
    result_open=" <result>",
    render=_render,
    result_close="</result>",
    has_answer=_has_answer,
)
