"""Requests to OpenAI-compatible chat endpoints, and what is read of their replies."""

import dataclasses
from collections.abc import Sequence
from typing import Any

PATH = "/chat/completions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model wrote, and how many tokens that took.

    Attributes:
      text: its answer, without what it thought aloud before.
      prompt_tokens, completion_tokens: as the endpoint counts them; 0 if it does not.
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
      max_tokens: limit of what the model writes.
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
        # Models that think aloud write their answer after it.
        text=text.rpartition("</think>")[2],
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else 0
