"""A trajectory as HTML, with the author and kind of each span and the reward."""

import html
from collections.abc import Mapping, Sequence

from jaxsearch.monitor.rollout_log import LoggedRollout
from jaxsearch.protocol import Protocol
from jaxsearch.protocol.display import Block, Piece, SpanKind, unmarked, with_end_tag
from jaxsearch.report.series import number_text
from jaxsearch.trajectory import SEARCH, Segment, ToolCall

# Classes of the style sheet.
CLASSES: Mapping[SpanKind, str] = {
    SpanKind.THINK: "thinking",
    SpanKind.SEARCH: "query",
    SpanKind.RESULT: "passages",
    SpanKind.ANSWER: "answer",
    SpanKind.OTHER: "plain",
}


def article(
    rollout: LoggedRollout, protocol: Protocol | None, *, step: int, place: str
) -> str:
    """One trajectory, with the values of the page's filters as data attributes.

    Args:
      protocol: None to show text by author only, without marking tags.
      step: step of the run.
      place: the step for a reader, such as "rl 1".
    """
    escape = html.escape
    return (
        f'<article class="trajectory" tabindex="-1" data-step="{step}" '
        f'data-place="{escape(place)}" '
        f'data-prompt="{rollout.prompt_index}" data-sample="{rollout.sample_index}" '
        f'data-status="{escape(rollout.status)}" data-reward="{rollout.reward}">'
        f'<p class="where">{escape(place)} · question {escape(rollout.question_id)} · '
        f"sample {rollout.sample_index}</p><h3>{escape(rollout.question)}</h3>"
        f"{attempt(rollout, protocol)}</article>\n"
    )


def attempt(rollout: LoggedRollout, protocol: Protocol | None) -> str:
    """The facts of a trajectory and its text, without its question.

    Args:
      protocol: None to show text by author only, without marking tags.
    """
    facts = {
        "Gold": gold_text(rollout.golden_answers),
        "Predicted": predicted(rollout.prediction),
        "Reward": reward_text(rollout.reward, rollout.terms),
        "Reason": html.escape(rollout.reason),
        "Ended": status_words(rollout.status),
        "Tokens": f"{rollout.policy_len} of {rollout.total_len} written by the policy",
    }
    if rollout.advantage is not None:
        by_turn = rollout.advantage
        values = by_turn if isinstance(by_turn, list) else [by_turn]
        facts["Advantage"] = ", ".join(map(number_text, values))
    return (
        f"{facts_list(facts)}"
        f"{transcript(rollout.segments, rollout.tool_calls, protocol)}"
    )


def predicted(prediction: str | None) -> str:
    """The prediction in quotes; without quotes that there is none."""
    if prediction is None:
        return "<i>no prediction</i>"
    return f"<q>{html.escape(prediction.strip())}</q>"


def facts_list(facts: Mapping[str, str]) -> str:
    """Facts about a trajectory, HTML by name, as a list."""
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts.items()
    )
    return f"<dl>{rows}</dl>"


def transcript(
    segments: Sequence[Segment],
    tool_calls: Sequence[ToolCall],
    protocol: Protocol | None,
) -> str:
    """The text after the prompt, by kind and author, and the calls of tools.

    Args:
      protocol: None to show text by author only, without marking tags.
    """
    blocks = unmarked(segments) if protocol is None else protocol.blocks(segments)
    blocks = with_end_tag(blocks)
    return (
        f'<div class="blocks">{"".join(map(_block, blocks))}</div>{_calls(tool_calls)}'
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


def reward_text(reward: float, terms: Mapping[str, float]) -> str:
    """The reward, and its terms by name."""
    parts = "".join(
        f"<span>{html.escape(name)} {number_text(value)}</span>"
        for name, value in terms.items()
    )
    parts = f'<span class="parts">{parts}</span>' if parts else ""
    return f"<b>{number_text(reward)}</b> {parts}"


def _calls(calls: Sequence[ToolCall]) -> str:
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


def gold_text(golden_answers: Sequence[str]) -> str:
    """The golden answers."""
    gold = "".join(f"<span>{html.escape(one)}</span>" for one in golden_answers)
    return f'<span class="gold">{gold}</span>'


def status_words(status: str) -> str:
    """How a rollout ended, in words."""
    return html.escape(status.replace("_", " "))
