"""Checks of a model server before its first rollout."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.remote.connection import RefusedRequestError
from jaxsearch.search.index import SearchError
from jaxsearch.served.client import ModelClient
from jaxsearch.served.completions import Answer, ModelError, RequestFields
from jaxsearch.served.server_errors import refused, unusable

# Length of the answer to the first request, in tokens.
_NUM_TOKENS = 16
# Texts are compared without white space and incomplete characters, which servers write
# differently.
_IGNORED = str.maketrans("", "", "\ufffd")


class Found(NamedTuple):
    """The result of checking a server.

    Attributes:
      fields: the request fields, without extensions that the server refuses.
      has_ids: whether the server returns the sampled ids.
    """

    fields: RequestFields
    has_ids: bool


def check_server(
    client: ModelClient,
    fields: RequestFields,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    note: Callable[[str], None],
) -> Found:
    """Sends one request to a server, and checks its answer and the tokenizer.

    Args:
      client: the client of the server.
      fields: the request fields of the run.
      tokenizer: the tokenizer that should be the model's.
      prompt: token ids of a prompt.
      note: receives lines for the user.

    Raises:
      ValueError: if the server cannot be used, or the tokenizer is not the model's.
    """
    fields, answer = _first_answer(client, fields, prompt, note)
    if answer.prompt_ids is not None and answer.prompt_ids != list(prompt):
        raise ValueError(
            f"{client.url} reads a prompt of {len(prompt)} token ids as "
            f"{len(answer.prompt_ids)} others; it must use the ids unchanged"
        )
    if answer.ids is None:
        _check_echo(client, fields, tokenizer, prompt)
        note(
            f"{client.url} returns no token ids, so its text is encoded again; vLLM "
            "returns them since 0.10.2, SGLang since July 2026"
        )
    else:
        _check_ids(client.url, tokenizer, answer)
    return Found(fields, has_ids=answer.ids is not None)


def _first_answer(
    client: ModelClient,
    fields: RequestFields,
    prompt: Sequence[int],
    note: Callable[[str], None],
) -> tuple[RequestFields, Answer]:
    """The fields that the server accepts, and its answer to a first request."""

    def ask(fields: RequestFields) -> Answer:
        return client.ask_once(fields.body(prompt, max_tokens=_NUM_TOKENS))

    try:
        return fields, ask(fields)
    except RefusedRequestError as error:
        if error.status not in (400, 422):
            raise refused(client.url, fields.model, error) from None
        first_error = error
    except (SearchError, ModelError) as error:
        raise unusable(client.url, error) from None
    fields = dataclasses.replace(fields, has_extras=False)
    try:
        answer = ask(fields)
    except RefusedRequestError:
        raise refused(client.url, fields.model, first_error) from None
    except (SearchError, ModelError) as error:
        raise unusable(client.url, error) from None
    note(
        f"{client.url} refuses fields that OpenAI's API does not have ({first_error}); "
        "they are omitted, so its own min_p and repetition penalty apply"
    )
    return fields, answer


def _check_ids(url: str, tokenizer: Tokenizer, answer: Answer) -> None:
    """Checks that the tokenizer reads the server's ids as the server does."""
    ids: Any = answer.ids
    beyond = [one for one in ids if one >= tokenizer.num_ids]
    if beyond:
        raise ValueError(
            f"the tokenizer is not the model's: {url} sampled the id {beyond[0]}, but "
            f"the tokenizer has only {tokenizer.num_ids}; give the model's own with "
            "--tokenizer"
        )
    sampled = tokenizer.decode(ids)
    ours, theirs = _plain(tokenizer, sampled), _plain(tokenizer, answer.text)
    # A server may have removed the stop tag, from the text or from the ids.
    if not (ours.startswith(theirs) or theirs.startswith(ours)):
        raise _another_tokenizer(url, sampled, answer.text)


def _check_echo(
    client: ModelClient,
    fields: RequestFields,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
) -> None:
    """Checks that a server reads a prompt like the tokenizer, if it can echo it."""
    body = fields.body(prompt, max_tokens=1) | {"echo": True}
    try:
        found = client.ask_once(body).text
    except (SearchError, ModelError):
        return  # it does not echo prompts
    sent = tokenizer.decode(prompt)
    ours, theirs = _plain(tokenizer, sent), _plain(tokenizer, found)
    is_echo = 2 * len(theirs) > len(ours)
    if is_echo and not theirs.startswith(ours):
        raise _another_tokenizer(client.url, sent, found)


def _plain(tokenizer: Tokenizer, text: str) -> str:
    """A text without white space and special tokens, which servers may omit."""
    for special in tokenizer.special_strings:
        text = text.replace(special, "")
    return "".join(text.translate(_IGNORED).split())


def _another_tokenizer(url: str, ours: str, theirs: str) -> ValueError:
    return ValueError(
        f"the tokenizer is not the model's: it reads as {ours!r:.60} what {url} reads "
        f"as {theirs!r:.60}; give the model's own with --tokenizer"
    )
