"""Verdicts, and parsing them from a model's reply."""

import re
from typing import Any, Literal, NamedTuple, get_args

from jaxsearch.json_files import json_value
from jaxsearch.surrogates import whole_characters

Verdict = Literal["correct", "wrong", "unclear"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_MAX_REASON_LEN = 300  # characters
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL | re.IGNORECASE)
# Verdicts in files of other programs, in lower case.
_SPELLINGS: dict[str, Verdict] = {
    **{name: name for name in VERDICTS},
    **{"true": "correct", "1": "correct", "1.0": "correct", "yes": "correct"},
    **{"false": "wrong", "0": "wrong", "0.0": "wrong", "no": "wrong"},
    "incorrect": "wrong",
}


class Opinion(NamedTuple):
    """A model's reply about a prediction.

    Attributes:
      verdict: the verdict; None if there is none.
      reason: the reason; without a verdict, the beginning of the reply.
    """

    verdict: Verdict | None
    reason: str


def opinion(text: str) -> Opinion:
    """Parses an opinion: one JSON object, which may be in a code fence.

    Other forms do not count as a verdict; it is never guessed from prose.
    """
    text = text.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        found: Any = json_value(fenced[1] if fenced else text)
    except ValueError:
        found = None
    verdict = found.get("verdict") if isinstance(found, dict) else None
    if verdict not in VERDICTS:
        return Opinion(None, " ".join(text.split())[:_MAX_REASON_LEN])
    reason = found.get("reason")
    shown = " ".join(reason.split()) if isinstance(reason, str) else ""
    # JSON can spell half of a surrogate pair, which the cache could not hold.
    return Opinion(verdict, whole_characters(shown)[:_MAX_REASON_LEN])


def verdict_of(value: Any) -> Verdict:
    """Parses a verdict in a file, such as true, "False" or "correct".

    Raises:
      ValueError: if it is not a verdict.
    """
    is_plain = isinstance(value, str | bool | int | float)
    found = _SPELLINGS.get(str(value).strip().lower()) if is_plain else None
    if found is None:
        raise ValueError(
            f"expected a verdict (true or false, or {', '.join(VERDICTS)}), got "
            f"{value!r:.80}"
        )
    return found
