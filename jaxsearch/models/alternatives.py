"""The alternatives of a regular expression, a|b, at its top and in its groups."""

import re
from collections.abc import Iterator

# Flags for the whole expression, which must stay at its beginning.
_FLAGS = re.compile(r"\(\?[aiLmsux]+\)")
# An escape, a set of characters, the beginning of a group, or one other character.
_TOKEN = re.compile(
    r"""
    \\. | \[\^?\]?(?:\\.|[^\]\\])*\]
    | \(\?(?:P<\w+> | P=\w+ | [aiLmsux-]*: | <?[=!] | > | \(\w+\) | \#[^)]*)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_Span = tuple[int, int]


def alternatives(expression: str) -> Iterator[tuple[str, str]]:
    """Yields each alternative, and the expression with it alone.

    Where alternatives stand next to each other, as in (a|b)(c|d), one is chosen and the
    other group stays whole. In an alternative that contains others, it alone is left of
    its own group too. Without alternatives, nothing is yielded.

    Args:
      expression: an expression that `re.compile` accepts. Comments of verbose
        expressions are not recognised.
    """
    groups = list(_groups(expression))
    for group in groups:
        for first, last in group:
            kept = "".join(
                char
                for i, char in enumerate(expression)
                if not any(_is_cut(i, other, first, last) for other in groups)
            )
            yield expression[first:last], kept


def _groups(expression: str) -> Iterator[list[_Span]]:
    """Yields the places of the alternatives of each group that has several."""
    flags = _FLAGS.match(expression)
    start = flags.end() if flags else 0
    begun = [[start]]  # begins of alternatives, of the groups that are open
    for token in _TOKEN.finditer(expression, start):
        if token[0] == "|":
            begun[-1].append(token.end())
        elif token[0].startswith("("):
            begun.append([token.end()])
        elif token[0] == ")":
            yield from _spans(begun.pop(), token.start())
    yield from _spans(begun.pop(), len(expression))


def _spans(begins: list[int], end: int) -> Iterator[list[_Span]]:
    if len(begins) > 1:
        ends = [begin - 1 for begin in begins[1:]]
        yield list(zip(begins, [*ends, end], strict=True))


def _is_cut(i: int, group: list[_Span], first: int, last: int) -> bool:
    """Whether character i is in a group around (first, last), but not beside it."""
    (start, _), (_, end) = group[0], group[-1]
    if not (start <= first and last <= end and start <= i < end):
        return False
    return not any(a <= first and last <= b and a <= i < b for a, b in group)
