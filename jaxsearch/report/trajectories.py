"""A trajectory as HTML: who wrote what, what it was for, and how it was judged."""

import html
import re
from collections.abc import Mapping
from typing import NamedTuple

from jaxsearch.monitor.rollout_log import LoggedRollout
from jaxsearch.report.series import number_text
from jaxsearch.trajectory import ToolCall

# What stands between the tags of ReSearch, Search-R1 and R1-Searcher.
KINDS: Mapping[str, str] = {
    "think": "thinking",
    "search": "query",
    "begin_of_query": "query",
    "result": "passages",
    "information": "passages",
    "begin_of_documents": "passages",
    "answer": "answer",
}
CLOSED_BY: Mapping[str, str] = {
    "end_of_query": "begin_of_query",
    "end_of_documents": "begin_of_documents",
}
LABELS: Mapping[str, str] = {
    "thinking": "Thinking",
    "query": "Search",
    "passages": "Passages",
    "answer": "Answer",
    "plain": "Text",
}
TAG = re.compile(
    r"<(/?)(think|search|result|information|answer)>"
    r"|<\|((?:begin|end)_of_(?:query|documents))\|>"
)


class Piece(NamedTuple):
    """Text or one tag, by one author."""

    text: str
    is_policy: bool
    is_tag: bool


class Block(NamedTuple):
    """Pieces that serve one purpose: a key of `LABELS`."""

    kind: str
    pieces: list[Piece]


def blocks(rollout: LoggedRollout) -> list[Block]:
    """A trajectory by purpose, which tags tell; authors are those of its segments.

    A tag opens a block or closes one, wherever it stands: a policy that forges
    a result shows as passages that it wrote itself.
    """
    found = [Block("plain", [])]
    is_open: list[str] = []
    for segment in rollout.segments:
        end = 0
        for match in TAG.finditer(segment.text):
            _add(found, is_open, segment.text[end : match.start()], segment.is_policy)
            end = match.end()
            tag = Piece(match[0], segment.is_policy, True)
            name = match[2] or match[3]
            if not match[1] and name not in CLOSED_BY:
                is_open.append(name)
                _begin(found, KINDS[name])
                found[-1].pieces.append(tag)
                continue
            found[-1].pieces.append(tag)
            name = CLOSED_BY.get(name, name)
            if name in is_open:
                del is_open[len(is_open) - 1 - is_open[::-1].index(name) :]
        _add(found, is_open, segment.text[end:], segment.is_policy)
    return [block for block in found if block.pieces]


def _add(found: list[Block], is_open: list[str], text: str, is_policy: bool) -> None:
    kind = KINDS[is_open[-1]] if is_open else "plain"
    # The blank between two tags belongs to no purpose of its own.
    if text.strip() and found[-1].kind != kind:
        _begin(found, kind)
    if text:
        found[-1].pieces.append(Piece(text, is_policy, False))


def _begin(found: list[Block], kind: str) -> None:
    if any(piece.text.strip() for piece in found[-1].pieces):
        found.append(Block(kind, []))
    else:
        found[-1] = Block(kind, found[-1].pieces)


def article(rollout: LoggedRollout, *, step: int) -> str:
    """One trajectory, with what the page's filters read as data attributes."""
    escape = html.escape
    answer = "none" if rollout.prediction is None else rollout.prediction
    gold = "".join(f"<span>{escape(one)}</span>" for one in rollout.golden_answers)
    facts = {
        "Gold": f'<span class="gold">{gold}</span>',
        "Predicted": f"<q>{escape(answer)}</q>",
        "Reward": f"<b>{number_text(rollout.reward)}</b> {_parts(rollout)}",
        "Reason": escape(rollout.reason),
        "Ended": _words(rollout.status),
        "Tokens": f"{rollout.policy_len} of {rollout.total_len} written by the policy",
    }
    if rollout.advantage is not None:
        facts["Advantage"] = number_text(rollout.advantage)
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts.items()
    )
    return (
        f'<article class="trajectory" tabindex="-1" data-step="{step}" '
        f'data-prompt="{rollout.prompt_index}" data-sample="{rollout.sample_index}" '
        f'data-status="{escape(rollout.status)}" data-reward="{rollout.reward}">'
        f'<p class="where">step {step} · question {escape(rollout.question_id)} · '
        f"sample {rollout.sample_index}</p><h3>{escape(rollout.question)}</h3>"
        f"<dl>{rows}</dl>"
        f'<div class="blocks">{"".join(map(_block, blocks(rollout)))}</div>'
        f"{_searches(rollout.tool_calls)}</article>\n"
    )


def _block(block: Block) -> str:
    has_masked = any(not piece.is_policy for piece in block.pieces)
    has_policy = any(
        piece.is_policy and not piece.is_tag and piece.text.strip()
        for piece in block.pieces
    )
    note = "" if has_policy or not has_masked else "<small>not trained on</small>"
    text = "".join(map(_piece, block.pieces))
    return (
        f'<section class="block {block.kind}"><h4>{LABELS[block.kind]}{note}</h4>'
        f'<div class="text">{text}</div></section>'
    )


def _piece(piece: Piece) -> str:
    text = html.escape(piece.text)
    if piece.is_tag:
        text = f'<code class="tag">{text}</code>'
    if piece.is_policy:
        return f'<span class="policy">{text}</span>'
    return f'<span class="masked" title="not trained on">{text}</span>'


def _parts(rollout: LoggedRollout) -> str:
    parts = [
        f"<span>{html.escape(name)} {number_text(value)}</span>"
        for name, value in rollout.parts.items()
    ]
    return f'<span class="parts">{"".join(parts)}</span>' if parts else ""


def _searches(searches: tuple[ToolCall, ...]) -> str:
    if not searches:
        return '<p class="searches">No search was made.</p>'
    items = []
    for search in searches:
        notes = [", ".join(search.passage_ids) or "no passage"]
        if search.has_failed:
            notes.append(f"the search failed: {search.failure}")
        if search.is_truncated:
            notes.append("cut to its budget")
        if search.num_deleted_tags:
            notes.append(f"{search.num_deleted_tags} tags deleted from passages")
        items.append(
            f"<li><q>{html.escape(search.query)}</q> → "
            f"{html.escape('; '.join(notes))}</li>"
        )
    return f'<ol class="searches">{"".join(items)}</ol>'


def _words(status: str) -> str:
    return html.escape(status.replace("_", " "))
