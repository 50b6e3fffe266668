"""A trajectory as HTML, with the author and kind of each span and the reward."""

import html
from collections.abc import Mapping

from jaxsearch.monitor.rollout_log import LoggedRollout
from jaxsearch.protocol import Protocol
from jaxsearch.protocol.display import Block, Piece, SpanKind, unmarked
from jaxsearch.report.series import number_text
from jaxsearch.trajectory import SEARCH, ToolCall

# Classes of the style sheet.
CLASSES: Mapping[SpanKind, str] = {
    SpanKind.THINK: "thinking",
    SpanKind.SEARCH: "query",
    SpanKind.RESULT: "passages",
    SpanKind.ANSWER: "answer",
    SpanKind.OTHER: "plain",
}


def article(rollout: LoggedRollout, protocol: Protocol | None, *, step: int) -> str:
    """One trajectory, with the values of the page's filters as data attributes.

    Args:
      protocol: None to show text by author only, without marking tags.
    """
    escape = html.escape
    segments = rollout.segments
    blocks = unmarked(segments) if protocol is None else protocol.blocks(segments)
    answer = "none" if rollout.prediction is None else rollout.prediction
    gold = "".join(f"<span>{escape(one)}</span>" for one in rollout.golden_answers)
    facts = {
        "Gold": f'<span class="gold">{gold}</span>',
        "Predicted": f"<q>{escape(answer)}</q>",
        "Reward": f"<b>{number_text(rollout.reward)}</b> {_terms(rollout)}",
        "Reason": escape(rollout.reason),
        "Ended": _words(rollout.status),
        "Tokens": f"{rollout.policy_len} of {rollout.total_len} written by the policy",
    }
    if rollout.advantage is not None:
        by_turn = rollout.advantage
        values = by_turn if isinstance(by_turn, list) else [by_turn]
        facts["Advantage"] = ", ".join(map(number_text, values))
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
        f'<div class="blocks">{"".join(map(_block, blocks))}</div>'
        f"{_calls(rollout.tool_calls)}</article>\n"
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
        f'<section class="block {CLASSES[block.kind]}">'
        f"<h4>{block.kind.heading}{note}</h4>"
        f'<div class="text">{text}</div></section>'
    )


def _piece(piece: Piece) -> str:
    text = html.escape(piece.text)
    if piece.is_tag:
        text = f'<code class="tag">{text}</code>'
    if piece.is_policy:
        return f'<span class="policy">{text}</span>'
    return f'<span class="masked" title="not trained on">{text}</span>'


def _terms(rollout: LoggedRollout) -> str:
    terms = [
        f"<span>{html.escape(name)} {number_text(value)}</span>"
        for name, value in rollout.terms.items()
    ]
    return f'<span class="parts">{"".join(terms)}</span>' if terms else ""


def _calls(calls: tuple[ToolCall, ...]) -> str:
    if not calls:
        return '<p class="searches">No search was made.</p>'
    items = []
    for call in calls:
        notes = [call.tool]
        if call.tool == SEARCH:
            notes = [", ".join(call.passage_ids) or "no passage"]
        if call.has_failed:
            notes.append(f"the {call.tool} failed: {call.failure}")
        if call.is_truncated:
            notes.append("cut to its budget")
        if call.num_deleted_tags:
            notes.append(f"{call.num_deleted_tags} tags deleted from passages")
        items.append(
            f"<li><q>{html.escape(call.query)}</q> → "
            f"{html.escape('; '.join(notes))}</li>"
        )
    return f'<ol class="searches">{"".join(items)}</ol>'


def _words(status: str) -> str:
    return html.escape(status.replace("_", " "))
