"""A trajectory on the terminal: one line for every thought, query, passage, answer."""

import itertools
import re

from jaxsearch.protocol import Protocol
from jaxsearch.protocol.display import Block, SpanKind
from jaxsearch.trajectory import SEARCH, Trajectory

# Lines also have labels, for readers who cannot see the colours.
_STYLES = {
    SpanKind.THINK: "cyan",
    SpanKind.SEARCH: "bold yellow",
    SpanKind.RESULT: "grey50",
    SpanKind.ANSWER: "bold green",
    SpanKind.OTHER: "magenta",
}
_END = re.compile(r"<[^<>\s]*>\s*$")


def print_trajectory(trajectory: Trajectory, protocol: Protocol) -> None:
    """Prints the question, then a line for every thought, query, passage, answer."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def line(label: str, text: str, style: str) -> None:
        console.print(Text(f"  {label:>9}  ", "dim"), Text(text.strip(), style), sep="")

    console.print(Text(trajectory.question, "bold"))
    for block in protocol.blocks(trajectory.segments):
        for kind, text in _lines(block):
            line(kind.verb, text, _STYLES[kind])
    for call in trajectory.tool_calls:
        if call.has_failed:
            tool = "" if call.tool == SEARCH else f"{call.tool} "
            line("fails", f"{tool}{call.query}: {call.failure}", "red")
    golden = " or ".join(trajectory.golden_answers)
    line("expected", f"{golden} ({trajectory.status})", "dim")


def _lines(block: Block) -> list[tuple[SpanKind, str]]:
    """The texts of a block by author, each with its kind.

    Text from the search is a RESULT. Passages that the policy wrote itself are OTHER,
    and keep their tags.
    """
    found = []
    for is_policy, group in itertools.groupby(block.pieces, lambda p: p.is_policy):
        pieces = list(group)
        kind = block.kind if is_policy else SpanKind.RESULT
        if is_policy and kind is SpanKind.RESULT:
            kind = SpanKind.OTHER
            text = "".join(piece.text for piece in pieces)
        else:
            text = "".join(piece.text for piece in pieces if not piece.is_tag)
        if block.kind is SpanKind.OTHER:
            # Removes the end token; text after the answer is kept.
            text = _END.sub("", text)
        if text.strip():
            found.append((kind, text))
    return found
