"""Chat templates of users' folders, rendered as transformers renders them."""

import dataclasses
import datetime
import functools
import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

Messages = list[dict[str, str]]

# What a template can raise: its own refusals, and faults of its expressions.
_ERRORS = (
    *(TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError),
    *(TypeError, ValueError),
)
# Texts that no template contains, in digits, which templates do not change.
_SYSTEM, _USER = "271828182845904", "314159265358979"
# Format codes of strftime; "-" omits leading zeros.
_CODES = "a A b B c d e f G H I j m M p S u U V w W x X y Y Z -d -m -H -I -M -S -j"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ChatTemplate:
    """The chat template of a tokenizer.

    Attributes:
      backend: the `transformers` tokenizer.
      source: the file of the template, for error messages.
      date: the day that the template reads as today's.
    """

    backend: Any
    source: str
    date: datetime.date

    def render(self, messages: Messages) -> str:
        """The messages, and the header of the reply.

        Where the template refuses or omits system messages, their text is at the
        beginning of the user message instead.

        Raises:
          ValueError: if the template fails; the error names its file.
        """
        if not self.takes_system:
            messages = system_in_user(messages)
        try:
            return self._rendered(messages)
        except _ERRORS as error:
            raise ValueError(
                f"{self.source}: the chat template fails: {_reason(error)}; correct "
                "it, or use the prompt as plain text with model.prompt base"
            ) from None

    @functools.cached_property
    def takes_system(self) -> bool:
        """Whether the template writes the text of system messages."""
        system = {"role": "system", "content": _SYSTEM}
        user = {"role": "user", "content": _USER}
        try:
            return _SYSTEM in self._rendered([system, user])
        except _ERRORS:
            try:
                self._rendered([user])
            except _ERRORS:
                # It fails for another reason, which `render` will give.
                return True
            return False

    @functools.cached_property
    def _clock(self) -> str:
        return _fixed_clock(self.date)

    def _rendered(self, messages: Messages) -> str:
        template = self.backend.get_chat_template()
        if "strftime_now" in template:
            template = self._clock + template
        return self.backend.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
        )


def template_file(folder: Path) -> Path:
    """The file of a folder that the chat template is read from."""
    path = folder / "chat_template.jinja"
    return path if path.exists() else folder / "tokenizer_config.json"


def system_in_user(messages: Messages) -> Messages:
    """The messages, with each system text at the beginning of the next user message."""
    found: Messages = []
    texts: list[str] = []
    for message in messages:
        if message["role"] == "system":
            texts.append(message["content"])
        elif message["role"] == "user" and texts:
            content = "\n\n".join([*texts, message["content"]])
            found.append({**message, "content": content})
            texts = []
        else:
            found.append(message)
    if texts:
        found.append({"role": "user", "content": "\n\n".join(texts)})
    return found


def _fixed_clock(date: datetime.date) -> str:
    """Jinja text that makes `strftime_now` read midnight of a day.

    transformers gives templates only plain values, so the function is a macro that
    replaces each format code. The empty expression after it keeps Jinja from removing
    a line break at the beginning of the template.
    """
    filters = []
    for code in sorted(_CODES.split(), key=len, reverse=True):
        value = date.strftime(f"%{code[-1]}")
        if code.startswith("-"):
            value = value.lstrip("0") or "0"
        text = json.dumps(value, ensure_ascii=False)
        filters.append(f"|replace('%{code}', {text})")
    body = "format" + "".join(filters)
    return "{% macro strftime_now(format) %}{{ " + body + " }}{% endmacro %}{{ '' }}"


def _reason(error: BaseException) -> str:
    """The message of an error on one line, with the line of a syntax error."""
    if isinstance(error, TemplateSyntaxError):
        return f"{error.message}, line {error.lineno}"
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, TemplateError) else f"{type(error).__name__}: {text}"
    )
