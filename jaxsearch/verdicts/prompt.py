"""The prompt that asks for a verdict: a template with three placeholders."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

_PACKAGED = Path(__file__).with_name("prompt.txt")
_PLACEHOLDERS = ("{question}", "{golden_answers}", "{prediction}")


@dataclasses.dataclass(frozen=True)
class VerdictPrompt:
    """A template whose placeholders are replaced by JSON.

    Attributes:
      text: the template.

    Raises:
      ValueError: if it lacks a placeholder.
    """

    text: str

    def __post_init__(self):
        if missing := [name for name in _PLACEHOLDERS if name not in self.text]:
            raise ValueError(
                f"expected a prompt with {', '.join(_PLACEHOLDERS)}; it lacks "
                f"{', '.join(missing)}"
            )

    def filled(
        self, question: str, golden_answers: Sequence[str], prediction: str
    ) -> str:
        """The message that asks for a verdict on one prediction."""
        values = (question, list(golden_answers), prediction)
        texts = [json.dumps(value, ensure_ascii=False) for value in values]
        by_name = dict(zip(_PLACEHOLDERS, texts, strict=True))
        # In one pass, because a prediction may contain a placeholder.
        any_name = "|".join(map(re.escape, _PLACEHOLDERS))
        return re.sub(any_name, lambda match: by_name[match[0]], self.text)


def read_prompt(path: str = "") -> VerdictPrompt:
    """Reads a prompt from a file; "" for the packaged prompt.

    Raises:
      ValueError: if it is not UTF-8, or lacks a placeholder.
    """
    try:
        text = (Path(path) if path else _PACKAGED).read_text(encoding="utf-8")
        return VerdictPrompt(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
