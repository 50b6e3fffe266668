"""Search-R1's protocol: answers end a rollout as searches end a turn."""

from collections.abc import Sequence

from jaxsearch.protocol.contract import Protocol
from jaxsearch.protocol.spans import holds_one_answer, policy_text
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Segment

# Stands for an observation in a text that is judged.
EMPTY_INFORMATION = "\n\n<information></information>\n\n"

_INSTRUCTIONS = (
    "Answer the question below. Reason between <think> and </think> first, and again "
    "whenever something new has been found. If your reasoning shows that you lack a "
    "fact, ask the search tool with a query between <search> and </search>; what it "
    "finds stands between <information> and </information>. You may ask as often as "
    "you like. When nothing is missing, write the answer alone, without explanation, "
    "between <answer> and </answer>."
)


def _prompt(question: str) -> str:
    return f"{_INSTRUCTIONS}\nQuestion: {question}\n"


def _messages(question: str) -> list[dict[str, str]]:
    """One message of the user's. Source: Search-R1, data preparation; wording ours."""
    return [{"role": "user", "content": _prompt(question)}]


def _query(turn_text: str) -> str:
    """What stands between the turn's first <search> that closes and its </search>.

    Source: Search-R1, search_r1/llm_agent/generation.py.
    """
    _, _, after = turn_text.partition("<search>")
    query, stop_tag, _ = after.partition("</search>")
    return query.strip() if stop_tag else ""


def _is_last(turn_text: str) -> bool:
    """Whether the turn has come to an answer.

    Source: as `_query`. There a turn goes on to the first </search> and then its first
    pair of tags counts; here it stops at the first closing tag of either kind, so that
    an answer inside a query ends the rollout.
    """
    before, closing, _ = turn_text.partition("</answer>")
    return bool(closing) and "<answer>" in before


def _render(passages: Sequence[Passage]) -> str:
    """`Doc 1(Title: first line) the other lines`, one after the other."""
    documents = []
    for number, passage in enumerate(passages, start=1):
        title, _, text = passage.contents.partition("\n")
        documents.append(f"Doc {number}(Title: {title}) {text}\n")
    return "".join(documents).strip()


def _has_answer(segments: Sequence[Segment]) -> bool:
    """Whether there is exactly one answer, in one turn."""
    text = policy_text(segments, EMPTY_INFORMATION)
    return holds_one_answer(text, EMPTY_INFORMATION)


SEARCH_R1 = Protocol(
    name="search_r1",
    stop_tags=("</search>", "</answer>"),
    control_tags=tuple(
        tag
        for name in ("think", "search", "information", "answer")
        for tag in (f"<{name}>", f"</{name}>")
    ),
    spoken_tags=(("<search>", "</search>"), ("<answer>", "</answer>")),
    messages=_messages,
    prompt=_prompt,
    query=_query,
    is_last=_is_last,
    result_open="\n\n<information>",
    render=_render,
    result_close="</information>\n\n",
    has_answer=_has_answer,
    reminder=(
        "\nNothing was looked up: a query goes between <search> and </search>, the "
        "final answer between <answer> and </answer>.\n"
    ),
)
