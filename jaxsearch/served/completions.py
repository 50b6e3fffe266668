"""Requests and answers of `POST /v1/completions` in vLLM and SGLang.

A turn continues the assistant's text, so the chat endpoint cannot be used.

Source: vLLM, vllm/entrypoints/openai/completion/protocol.py (`return_token_ids` since
0.10.2); SGLang, python/sglang/srt/entrypoints/openai/protocol.py (`return_token_ids`
since July 2026). Each ignores fields that only the other has.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.surrogates import check_text

_MAX_ID = 2**31 - 1  # trajectories have 32-bit ids


class ModelError(Exception):
    """The model server gave no usable answer; the message has the reason."""


class ChatOnlyError(ModelError):
    """A server has a chat endpoint but no completions."""


class Answer(NamedTuple):
    """The answer to one request.

    Attributes:
      text: the new text.
      ids: the sampled ids; None if the server returned only text.
      logprobs: of the sampled ids, in nats, as the server reports them; empty if not
        requested or not returned.
      finish: why the server stopped: "stop" at a stop string or an end token, "length".
      matched: the stop string or token id that it stopped at; None if not reported.
        vLLM does not report the model's own end token.
      prompt_ids: the ids of the prompt as the server read them; None if not reported.
    """

    text: str
    ids: list[int] | None
    logprobs: list[float]
    finish: str
    matched: str | int | None
    prompt_ids: list[int] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequestFields:
    """The fields that all requests of a run share.

    Attributes:
      model: name of the model on the server.
      stop: strings that end a turn.
      truncation: top-k and top-p.
      has_extras: whether to send fields that OpenAI's API does not have.
      logprobs: whether to request the log-probs of the sampled tokens.
    """

    model: str
    stop: tuple[str, ...]
    truncation: TopKTopP = TopKTopP()
    has_extras: bool = True
    logprobs: bool = False

    def body(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """The JSON of a request.

        Args:
          prompt: the whole context as token ids.
          max_tokens: the longest turn, in tokens.
          temperature: sampling temperature; 0 is greedy.
          seed: seed for servers that accept one; None for none.
        """
        top_p = self.truncation.top_p
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "temperature": temperature,
            # Servers take missing fields from the model's generation_config.
            "top_p": 1.0 if top_p is None else top_p,
            "stop": list(self.stop),
        }
        if seed is not None:
            body["seed"] = seed
        if self.logprobs:
            body["logprobs"] = 0
        return body | self._extras() if self.has_extras else body

    def _extras(self) -> dict[str, Any]:
        top_k = self.truncation.top_k
        return {
            "top_k": -1 if top_k is None else top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "include_stop_str_in_output": True,  # of vLLM
            "no_stop_trim": True,  # of SGLang
            "return_token_ids": True,
        }


def parse_answer(data: Any) -> Answer:
    """The answer in the JSON of a server.

    Raises:
      ChatOnlyError: if it is a chat message.
      ModelError: if it is not an answer, or not a finished one.
    """
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or len(choices) != 1:
        raise ModelError(f"expected one choice, got {data!r:.120}")
    choice = choices[0]
    if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
        if isinstance(choice, dict) and "message" in choice:
            raise ChatOnlyError("the answer is a chat message")
        raise ModelError(f"expected a choice with a text, got {choice!r:.120}")
    try:
        check_text(choice["text"], "the answer")
    except ValueError as error:
        raise ModelError(str(error)) from None
    finish = choice.get("finish_reason")
    if finish not in ("stop", "length"):
        raise ModelError(f"the server stopped for the reason {finish!r:.40}")
    # vLLM's name, then SGLang's.
    matched = choice.get("stop_reason")
    if matched is None:
        matched = choice.get("matched_stop")
    if not _is_id(matched) and not isinstance(matched, str):
        matched = None
    return Answer(
        text=choice["text"],
        ids=_ids(choice, "token_ids"),
        logprobs=_logprobs(choice),
        finish=finish,
        matched=matched,
        prompt_ids=_ids(choice, "prompt_token_ids"),
    )


def _ids(choice: dict[str, Any], name: str) -> list[int] | None:
    ids = choice.get(name)
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(map(_is_id, ids)):
        raise ModelError(f"expected {name} to be a list of ids, got {ids!r:.80}")
    return ids


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_ID


def _logprobs(choice: dict[str, Any]) -> list[float]:
    found = choice.get("logprobs")
    values = found.get("token_logprobs") if isinstance(found, dict) else None
    if not isinstance(values, list):
        return []
    nan = float("nan")
    return [float(v) if isinstance(v, int | float) else nan for v in values]
