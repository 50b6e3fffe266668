"""A model that gives verdicts, at an OpenAI-compatible chat endpoint."""

import dataclasses
import threading
from typing import Any

from jaxsearch.chat import PATH, Completion, chat_request, completion
from jaxsearch.env.retries import LONGEST_PAUSE_S, pause_after
from jaxsearch.key_addresses import allow_keys
from jaxsearch.remote.bearer import bearer_token, without_token
from jaxsearch.remote.connection import Connection
from jaxsearch.search.index import RefusedSearchError, SearchError
from jaxsearch.surrogates import check_text
from jaxsearch.try_again import TryAgainError
from jaxsearch.verdicts.settings import KEY_VARIABLE, VerdictSettings

# Enough for a model that reasons before it writes its short JSON.
_MAX_TOKENS = 2048
_MAX_REPLY_BYTES = 1_000_000
_CONNECT_TIMEOUT_S = 10.0


class NoReplyError(TryAgainError):
    """The endpoint gives no reply for now."""


class VerdictModel:
    """Sends requests to the model; several threads may use it at once.

    Attributes:
      stop: once it is set, failed requests are not retried.

    Raises:
      ValueError: if the key cannot be sent in a header.
    """

    def __init__(self, settings: VerdictSettings):
        self.stop = threading.Event()
        self._settings = settings
        allow_keys(settings.url)
        self._key = bearer_token(settings.url, KEY_VARIABLE)
        self._connection = Connection(
            settings.url.rstrip("/"),
            token=self._key,
            token_variable=KEY_VARIABLE,
            connect_timeout_s=min(_CONNECT_TIMEOUT_S, settings.timeout_s),
        )

    def ask(self, message: str) -> Completion:
        """The model's reply to a message.

        After 408, 429, 5xx and failed connections the request is retried, with growing
        pauses or after the time that the server asks for.

        Raises:
          RefusedSearchError: if the endpoint would refuse the request again.
          NoReplyError: if all attempts fail.
        """
        settings = self._settings
        body = chat_request(settings.model, [("user", message)], max_tokens=_MAX_TOKENS)
        reason = ""
        for number in range(settings.attempts):
            try:
                return self._asked(body)
            except RefusedSearchError:
                raise
            except SearchError as error:
                reason, pause = str(error), pause_after(error, number)
            is_last = number + 1 == settings.attempts or pause > LONGEST_PAUSE_S
            if is_last or self.stop.wait(pause):
                break
        raise NoReplyError(
            f"no reply in {number + 1} attempts: {reason}; the verdicts so far are "
            "kept, and the same command continues"
        )

    def _asked(self, body: dict[str, Any]) -> Completion:
        """Makes one attempt.

        Raises:
          SearchError: if it fails.
        """
        reply = self._connection.post(
            PATH,
            body,
            timeout_s=self._settings.timeout_s,
            max_bytes=_MAX_REPLY_BYTES,
        )
        try:
            found = completion(reply)
            check_text(found.text, "the answer")
        except ValueError as error:
            url = self._settings.url
            raise SearchError(f"{url}: not a completion: {error}") from None
        # The endpoint may repeat the key in its reply.
        return dataclasses.replace(found, text=without_token(found.text, self._key))
