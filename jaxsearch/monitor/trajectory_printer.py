"""A trajectory on the terminal: one line for every thought, query, passage, answer."""

import itertools

from jaxsearch.monitor.console import Console
from jaxsearch.protocol import Protocol
from jaxsearch.protocol.display import END_TOKEN, Block, SpanKind
from jaxsearch.trajectory import SEARCH, Segment, Trajectory

# Lines also have labels, for readers who cannot see the colours.
_STYLES = {
    SpanKind.THINK: "cyan",
    SpanKind.SEARCH: "bold yellow",
    SpanKind.RESULT: "grey50",
    SpanKind.ANSWER: "bold green",
    SpanKind.OTHER: "magenta",
}


def print_trajectory(
    trajectory: Trajectory, protocol: Protocol, console: Console | None = None
) -> None:
    """Prints the question, then a line for every thought, query, passage, answer."""
    printer = TrajectoryPrinter(protocol, console)
    printer.print_question(trajectory.question)
    printer.print_rest(trajectory)
    printer.print_expected(trajectory)


class TrajectoryPrinter:
    """Prints a rollout, at once or segment by segment as it grows.

    Args:
      protocol: the protocol that it is written in.
      console: receives the lines; None prints them to standard output.
    """

    def __init__(self, protocol: Protocol, console: Console | None = None):
        self._console = console or Console()
        self._protocol = protocol
        self._segments: list[Segment] = []
        self._num_printed = 0

    def print_question(self, question: str) -> None:
        """Prints the question."""
        self._console.print((question, "bold"))

    def add_segment(self, segment: Segment) -> None:
        """Prints the lines that a further segment of the rollout adds."""
        self._segments.append(segment)
        self._print_new_lines()

    def print_rest(self, trajectory: Trajectory) -> None:
        """Prints the missing lines of the finished rollout, and its failed calls."""
        self._segments = list(trajectory.segments)
        self._print_new_lines()
        for call in trajectory.tool_calls:
            if call.has_failed:
                tool = "" if call.tool == SEARCH else f"{call.tool} "
                self._line("fails", f"{tool}{call.query}: {call.failure}", "red")

    def print_expected(self, trajectory: Trajectory) -> None:
        """Prints the golden answers and the status."""
        golden = " or ".join(trajectory.golden_answers)
        self._line("expected", f"{golden} ({trajectory.status})", "dim")

    def _print_new_lines(self) -> None:
        # A further segment only adds lines, because neighbours have different authors.
        blocks = self._protocol.blocks(self._segments)
        lines = [line for block in blocks for line in _lines(block)]
        for kind, text in lines[self._num_printed :]:
            self._line(kind.verb, text, _STYLES[kind])
        self._num_printed = len(lines)

    def _line(self, label: str, text: str, style: str) -> None:
        self._console.print((f"  {label:>9}  ", "dim"), (text.strip(), style))


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
            text = END_TOKEN.sub("", text)
        if text.strip():
            found.append((kind, text))
    return found
