"""A client of one model server, which retries failed requests."""

import dataclasses
import math
import threading
import urllib.parse
from typing import Any

from jaxsearch.env.retries import LONGEST_PAUSE_S, pause_after
from jaxsearch.key_addresses import allow_keys
from jaxsearch.remote.bearer import bearer_token
from jaxsearch.remote.connection import Connection
from jaxsearch.search.index import SearchError, SearchStoppedError
from jaxsearch.served.completions import Answer, ModelError, parse_answer

TOKEN_VARIABLE = "JAXSEARCH_MODEL_TOKEN"
_CONNECT_TIMEOUT_S = 10.0
_MAX_BYTES = 64 * 2**20
_LIST_TIMEOUT_S = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings for requests to a model server.

    Attributes:
      concurrency: number of rollouts in progress at once.
      timeout_s: timeout of one turn, in seconds.
      attempts: attempts per turn. The pauses between them grow from a quarter of a
        second to 16 seconds or more (before the eighth).
    """

    concurrency: int = 64
    timeout_s: float = 600.0
    attempts: int = 8

    def __post_init__(self):
        if self.concurrency < 1 or self.attempts < 1:
            raise ValueError(
                "concurrency and attempts must be at least 1, got "
                f"{self.concurrency} and {self.attempts}"
            )
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(
                "the timeout of a turn must be positive and finite, got "
                f"{self.timeout_s:g} seconds"
            )


def model_url(text: str) -> str:
    """The address of a model server without a trailing slash.

    Raises:
      ValueError: if it is not of the form http://HOST:PORT/v1.
    """
    expected = "expected the address of a model server as http://HOST:PORT/v1"
    try:
        parts = urllib.parse.urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{expected} ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            f"{expected}, without a user name or password; a bearer token belongs in "
            f"the environment variable {TOKEN_VARIABLE}"
        )
    is_plain = not (parts.query or parts.fragment or " " in text.strip())
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or not is_plain
    ):
        raise ValueError(f"{expected}, got {text.partition('?')[0]!r:.80}")
    path = parts.path.rstrip("/").removesuffix("/completions")
    return f"{parts.scheme}://{parts.netloc}{path}"


class ModelClient:
    """Sends requests to a model server; several threads may use it at once.

    A bearer token comes from JAXSEARCH_MODEL_TOKEN.

    Args:
      url: address of the server, from `model_url`, given by the user.
      settings: timeouts and attempts.

    Attributes:
      num_retries: attempts so far, without first attempts.
    """

    def __init__(self, url: str, settings: ServerSettings):
        allow_keys(url)
        self.url = url
        self.settings = settings
        self.num_retries = 0
        self._counting = threading.Lock()
        self._connection = Connection(
            url,
            token=bearer_token(url, TOKEN_VARIABLE),
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            token_variable=TOKEN_VARIABLE,
        )

    def models(self) -> Any:
        """The JSON of `GET /models`; raises SearchError, see `Connection.get`."""
        timeout_s = min(_LIST_TIMEOUT_S, self.settings.timeout_s)
        return self._connection.get("/models", timeout_s=timeout_s)

    def ask_once(self, body: dict[str, Any]) -> Answer:
        """The answer to a request.

        Raises:
          SearchError: see `Connection.post`.
          ModelError: if the answer is not usable, or a quota is used up.
        """
        try:
            data = self._connection.post(
                "/completions",
                body,
                timeout_s=self.settings.timeout_s,
                max_bytes=_MAX_BYTES,
            )
        except SearchStoppedError as error:
            raise ModelError(str(error)) from None
        return parse_answer(data)

    def ask(self, body: dict[str, Any], stop: threading.Event) -> Answer:
        """The answer to a request, with several attempts.

        Statuses 408, 429 and 5xx, broken connections and timeouts are retried.

        Args:
          body: the JSON of the request.
          stop: once set, no further attempt is made.

        Raises:
          ModelError: if no attempt succeeded; the message has the last reason.
        """
        failure = ""
        for number in range(self.settings.attempts):
            if number:
                with self._counting:
                    self.num_retries += 1
            try:
                return self.ask_once(body)
            except SearchError as error:
                failure = " ".join(str(error).split())
                pause = pause_after(error, number)
            is_last = number + 1 == self.settings.attempts or pause > LONGEST_PAUSE_S
            if is_last or stop.wait(pause):
                break
        attempts = f"{number + 1} attempt{'s' if number else ''}"
        raise ModelError(f"no answer in {attempts}: {failure}")
