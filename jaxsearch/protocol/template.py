"""Prompt templates, read from files to replace a protocol's default prompt."""

import dataclasses
from pathlib import Path
from typing import Literal

from jaxsearch.json_files import parse_json
from jaxsearch.surrogates import check_text

PLACEHOLDER = "{question}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """A prompt with a placeholder for the question, as text or as chat messages.

    Attributes:
      text: the whole prompt; empty for a chat prompt.
      messages: the messages of a chat prompt; empty for a text prompt.
    """

    text: str
    messages: tuple[dict[str, str], ...]

    @property
    def is_chat(self) -> bool:
        """Whether the prompt uses the tokenizer's chat template."""
        return bool(self.messages)

    @property
    def form(self) -> Literal["chat", "base"]:
        """The `prompt` option that the tokenizer must be loaded with."""
        return "chat" if self.is_chat else "base"

    def fill_text(self, question: str) -> str:
        """The prompt as text."""
        return self.text.replace(PLACEHOLDER, question)

    def fill_messages(self, question: str) -> list[dict[str, str]]:
        """The prompt as chat messages."""
        return [
            {**message, "content": message["content"].replace(PLACEHOLDER, question)}
            for message in self.messages
        ]


def read_template(path: str) -> PromptTemplate:
    """Reads a prompt template from a file, with `{question}` for the question.

    A file named *.json contains chat messages, `[{"role": ..., "content": ...}, ...]`,
    for the tokenizer's chat template; if the last message is the assistant's, it is the
    beginning of the reply. Any other file is the whole prompt as text, used verbatim
    except for one trailing line break and a byte order mark, which editors add.

    Raises:
      ValueError: if the file cannot be read, is malformed, or has no `{question}`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read prompt template {path}: {error}") from None
    if not path.endswith(".json"):
        template = PromptTemplate(text=text.removesuffix("\n"), messages=())
        parts = [template.text]
    else:
        template = PromptTemplate(text="", messages=_messages(text, path))
        parts = [message["content"] for message in template.messages]
    for part in parts:
        check_text(part, f"prompt template {path}")
    if not any(PLACEHOLDER in part for part in parts):
        raise ValueError(
            f"prompt template {path} has no {PLACEHOLDER}; put it where the question "
            "belongs"
        )
    return template


def _messages(text: str, path: str) -> tuple[dict[str, str], ...]:
    messages = parse_json(text, f"prompt template {path}")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise ValueError(
            f"prompt template {path}: expected a list of "
            '{"role": "...", "content": "..."}; if the prompt is plain text, give the '
            "file a name that does not end in .json"
        )
    return tuple(messages)


def _is_message(message: object) -> bool:
    return (
        isinstance(message, dict)
        and message.keys() == {"role", "content"}
        and all(isinstance(value, str) for value in message.values())
    )
