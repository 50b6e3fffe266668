"""The formatter of --help: prose and tables that fit the terminal's width."""

import argparse
import re
import textwrap
from collections.abc import Iterator

# A column of a table that would be narrower than this goes below the one before it.
_MIN_COLUMN = 24


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fits descriptions and epilogs to the terminal, as `filled` does."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return filled(text, width)

    def _format_usage(self, usage, actions, groups, prefix) -> str:
        """argparse wraps only the usage that it makes itself."""
        if usage is None:
            return super()._format_usage(usage, actions, groups, prefix)
        lines = _wrapped(usage, self._width, "usage: ", " " * len("usage: "))
        return "\n".join(lines) + "\n\n"


def filled(text: str, width: int) -> str:
    """Text in lines of at most `width` characters.

    Lines without an indent are prose: those that follow each other are one paragraph.
    An indented line stays a line of its own; if it has two columns (two spaces or more
    between them), the second one is wrapped below itself. A command is continued with
    backslashes, so that it can be pasted. Words are never broken.
    """
    lines: list[str] = []
    for block in _blocks(text):
        if not block.startswith(" "):
            lines += _wrapped(block, width) or [""]
            continue
        indent = " " * (len(block) - len(block.lstrip()))
        if block.lstrip().startswith("jaxsearch "):
            lines += _command(block.strip(), width, indent)
        else:
            lines += _columns(block.strip(), width, indent)
    return "\n".join(lines)


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs of prose and rows of tables, each on one line, and empty lines."""
    block = ""
    for line in re.sub(r" *\\\n *", " ", text).rstrip().splitlines():
        if block and _continues(block, line):
            # The text of a row with one column so far becomes its second column.
            gap = "  " if line.startswith(" ") and "  " not in block.strip() else " "
            block += gap + line.strip()
            continue
        if block:
            yield block
        block = line
        if not line:
            yield line
    if block:
        yield block


def _continues(block: str, line: str) -> bool:
    """Whether a line continues with the paragraph, or the row of a table, before it."""
    depth, before = (len(text) - len(text.lstrip()) for text in (line, block))
    if depth and before:
        return depth > before
    return bool(line) and not depth and not before and not block.endswith(":")


def _columns(line: str, width: int, indent: str) -> list[str]:
    """A line of a table; a line with one column is wrapped below a deeper indent."""
    found = re.match(r"(\S+(?: \S+)*)( {2,})(\S.*)", line)
    if found is None:
        return _wrapped(line, width, indent, indent + "  ")
    left, gap, right = found.groups()
    head = indent + left + gap
    if width - len(head) >= _MIN_COLUMN or len(head + right) <= width:
        return _wrapped(right, width, head, " " * len(head))
    below = indent + "    "
    return [
        *_wrapped(left, width, indent, indent + "  "),
        *_wrapped(right, width, below, below),
    ]


def _command(line: str, width: int, indent: str) -> list[str]:
    """A command, and beside or below it what it does."""
    if len(indent + line) <= width:
        return [indent + line]
    command, _, meaning = line.partition("  ")
    # An option and its value stay on one line.
    command = re.sub(r"(--\S+) (?!-)", "\\1\N{NO-BREAK SPACE}", command)
    lines = _wrapped(command, width - len(" \\"), indent, indent + "  ")
    lines = [part.replace("\N{NO-BREAK SPACE}", " ") for part in lines]
    below = indent + "    "
    return [
        *(f"{part} \\" for part in lines[:-1]),
        *lines[-1:],
        *_wrapped(meaning.strip(), width, below, below),
    ]


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
