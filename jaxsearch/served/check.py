"""Checks of a model server before its first rollout."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.remote.connection import RefusedRequestError, UnauthorizedError
from jaxsearch.search.index import SearchError
from jaxsearch.served.client import ModelClient
from jaxsearch.served.completions import (
    Answer,
    ChatOnlyError,
    ModelError,
    RequestFields,
)

# Tokens of the answer that shows what a server returns.
_NUM_TOKENS = 16
# Texts are compared without what servers write differently: white space, and the parts
# of characters.
_IGNORED = str.maketrans("", "", "\ufffd")


class Found(NamedTuple):
    """What the check of a server found out.

    Attributes:
      fields: the request fields, without the extras if the server refuses them.
      has_ids: whether the server returns the ids that it sampled.
    """

    fields: RequestFields
    has_ids: bool


class Card(NamedTuple):
    """A model in the list of a server.

    Attributes:
      name: its name.
      max_len: positions for prompt and answer together; None if unknown.
    """

    name: str
    max_len: int | None


def check_server(
    client: ModelClient,
    fields: RequestFields,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    note: Callable[[str], None],
) -> Found:
    """Asks a server once, and checks its answer and the tokenizer.

    Args:
      client: the client of the server.
      fields: the request fields of the run.
      tokenizer: the tokenizer that is to be the model's.
      prompt: token ids of a prompt.
      note: receives what is notable.

    Raises:
      ValueError: if the server cannot be used, or the tokenizer is another one.
    """
    fields, answer = _first_answer(client, fields, prompt, note)
    if answer.prompt_ids is not None and answer.prompt_ids != list(prompt):
        raise ValueError(
            f"{client.url} reads a prompt of {len(prompt)} token ids as "
            f"{len(answer.prompt_ids)} others; it must take ids as they are"
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


def find_model(client: ModelClient, name: str) -> Card:
    """Finds a model in a server's list.

    Args:
      client: the client of the server.
      name: name of the model; "" for the only one that the server has.

    Raises:
      ValueError: if the server cannot be reached, or does not have this model.
    """
    try:
        found = client.models()
    except RefusedRequestError as error:
        if name:
            return Card(name, None)  # no list
        raise ValueError(
            f"{client.url} does not list its models ({error}); give a name with "
            "--model-name"
        ) from None
    except SearchError as error:
        raise _unusable(client.url, error) from None
    cards = found.get("data") if isinstance(found, dict) else None
    cards = [card for card in cards or () if isinstance(card, dict) and "id" in card]
    # SGLang's name of an adapter is that of its model, a colon, and its own.
    names = {name, name.partition(":")[0]}
    mine = [card for card in cards if card["id"] in names]
    if not name and len(cards) == 1:
        mine = cards
    if not mine and (cards or not name):
        served = ", ".join(repr(str(card["id"])) for card in cards[:5]) or "no model"
        asked = f"no model {name!r}: it serves" if name else "several models:"
        raise ValueError(
            f"{client.url} has {asked} {served}; give one with --model-name"
        )
    max_len = mine[0].get("max_model_len") if mine else None
    # A boolean is an int too.
    is_known = isinstance(max_len, int) and max_len > 1
    return Card(name or str(mine[0]["id"]), max_len if is_known else None)


def _first_answer(
    client: ModelClient,
    fields: RequestFields,
    prompt: Sequence[int],
    note: Callable[[str], None],
) -> tuple[RequestFields, Answer]:
    """The fields that the server takes, and its answer to a first request."""

    def ask(fields: RequestFields) -> Answer:
        return client.ask_once(fields.body(prompt, max_tokens=_NUM_TOKENS))

    try:
        return fields, ask(fields)
    except RefusedRequestError as error:
        if error.status not in (400, 422):
            raise _refused(client.url, fields.model, error) from None
        refused = error
    except (SearchError, ModelError) as error:
        raise _unusable(client.url, error) from None
    fields = dataclasses.replace(fields, has_extras=False)
    try:
        answer = ask(fields)
    except RefusedRequestError:
        raise _refused(client.url, fields.model, refused) from None
    except (SearchError, ModelError) as error:
        raise _unusable(client.url, error) from None
    note(
        f"{client.url} refuses fields that OpenAI's API does not have ({refused}); it "
        "is asked without them"
    )
    return fields, answer


def _refused(url: str, model: str, error: RefusedRequestError) -> ValueError:
    """The error of a server that refuses the first request."""
    if error.status in (404, 405) and model not in str(error):
        return _chat_only(url, str(error))
    if "chat" in str(error).lower():
        return _chat_only(url, str(error))
    return ValueError(
        f"the model server refuses the first prompt: {error}; is --tokenizer that of "
        "the model?"
    )


def _unusable(url: str, error: Exception) -> ValueError:
    """The error of a server that does not answer as expected."""
    if isinstance(error, ChatOnlyError):
        return _chat_only(url, str(error))
    if isinstance(error, UnauthorizedError):
        return ValueError(str(error))
    text = " ".join(str(error).split())
    named = text if url in text else f"{url}: {text}"
    return ValueError(f"the model server does not answer as expected: {named}")


def _chat_only(url: str, reason: str) -> ValueError:
    return ValueError(
        f"{url} has no completions, only chat ({reason}); a turn is continued inside "
        "the assistant's text, which needs POST /v1/completions, as of vLLM or SGLang"
    )


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
    # A server may have left out the stop tag, of the text or of the ids.
    if not (ours.startswith(theirs) or theirs.startswith(ours)):
        raise _another_tokenizer(url, sampled, answer.text)


def _check_echo(
    client: ModelClient,
    fields: RequestFields,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
) -> None:
    """Checks that a server reads a prompt as the tokenizer does, if it repeats it."""
    body = fields.body(prompt, max_tokens=1) | {"echo": True}
    try:
        found = client.ask_once(body).text
    except (SearchError, ModelError):
        return  # it repeats no prompts
    sent = tokenizer.decode(prompt)
    ours, theirs = _plain(tokenizer, sent), _plain(tokenizer, found)
    is_echo = 2 * len(theirs) > len(ours)
    if is_echo and not theirs.startswith(ours):
        raise _another_tokenizer(client.url, sent, found)


def _plain(tokenizer: Tokenizer, text: str) -> str:
    """A text without white space and special tokens, which servers may leave out."""
    for special in tokenizer.special_strings:
        text = text.replace(special, "")
    return "".join(text.translate(_IGNORED).split())


def _another_tokenizer(url: str, ours: str, theirs: str) -> ValueError:
    return ValueError(
        f"the tokenizer is not the model's: it reads as {ours!r:.60} what {url} reads "
        f"as {theirs!r:.60}; give the model's own with --tokenizer"
    )
