"""A trajectory on the terminal: who wrote what, at a glance."""

import re

from jaxsearch.trajectory import Trajectory

# Each part has a label besides its colour, for those who cannot see the colour.
_PARTS = {
    "think": ("thinks", "cyan"),
    "search": ("searches", "bold yellow"),
    "answer": ("answers", "bold green"),
}
_PART = re.compile(r"<(think|search|answer)>(.*?)(?:</\1>|$)", re.DOTALL)

_END = re.compile(r"<[^<>\s]*>\s*$")


def print_trajectory(trajectory: Trajectory) -> None:
    """Prints the question, then a line for every thought, query, passage, answer."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def line(label: str, text: str, style: str) -> None:
        console.print(Text(f"  {label:>9}  ", "dim"), Text(text.strip(), style), sep="")

    console.print(Text(trajectory.question, "bold"))
    for segment in trajectory.segments:
        if not segment.is_policy:
            line("reads", re.sub(r"</?result>", "", segment.text), "grey50")
            continue
        rest = 0
        for part in _PART.finditer(segment.text):
            if loose := segment.text[rest : part.start()].strip():
                line("writes", loose, "magenta")
            label, style = _PARTS[part[1]]
            line(label, part[2], style)
            rest = part.end()
        # What is left is the end token, unless the policy wrote on after its answer.
        if loose := _END.sub("", segment.text[rest:]).strip():
            line("writes", loose, "magenta")
    for search in trajectory.tool_calls:
        if search.has_failed:
            line("fails", f"{search.query}: {search.failure}", "red")
    golden = " or ".join(trajectory.golden_answers)
    line("expected", f"{golden} ({trajectory.status})", "dim")
