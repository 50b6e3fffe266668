"""Text from elsewhere, made safe to show: what would act on a reader is spelled out.

A terminal obeys escape sequences (clear the screen, set the title, write to the
clipboard), bidirectional controls show text in an order in which it is not, and half of
a surrogate pair cannot be printed at all. Passages, errors of servers and other
people's files contain whatever their authors like, so all of it is shown as escapes,
such as \\x1b.
"""

import re
import traceback

# All control characters but tab and line feed; marks, embeddings, overrides and
# isolates of the bidirectional algorithm; line and paragraph separators; halves of
# surrogate pairs; the invisible tag characters.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with each character that would act as an escape; others are kept."""
    return _ACTING.sub(_escape, text)


def visible_traceback(error: BaseException) -> str:
    """An error with its traceback, as Python prints it, in visible text."""
    return visible("".join(traceback.format_exception(error)))


def visible_json(text: str) -> str:
    """JSON with such characters as JSON's own escapes, so that it means the same."""
    return _ACTING.sub(lambda match: _json_escape(match[0]), text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
