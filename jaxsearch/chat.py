"""Requests to OpenAI-compatible chat endpoints, and parsing of their replies."""

import dataclasses
from collections.abc import Sequence
from typing import Any

PATH = "/chat/completions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
    """A model's answer and its token counts.

    Attributes:
      text: the answer, without the reasoning before it.
      prompt_tokens, completion_tokens: the endpoint's counts; 0 if it reports none.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


def chat_request(
    model: str, messages: Sequence[tuple[str, str]], *, max_tokens: int
) -> dict[str, Any]:
    """The body of a request for one greedy completion.

    Args:
      model: name of the model at the endpoint.
      messages: pairs of a role and a text.
      max_tokens: token limit of the completion.
    """
    return {
        "model": model,
        "temperature": 0,
        "max_tokens": max_tokens,
        "messages": [{"role": role, "content": text} for role, text in messages],
    }


def completion(reply: Any) -> Completion:
    """The completion in a reply, already parsed as JSON.

    Raises:
      ValueError: if there is none.
    """
    try:
        text = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise ValueError("expected choices[0].message.content, a text")
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Completion(
        # Reasoning models write their answer after this tag.
        text=text.rpartition("</think>")[2],
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else 0
