"""One copy of an index for all processes of a machine: one of them answers the others.

An index of Wikipedia takes tens of gigabytes; a machine has room for one.
"""

import dataclasses
import secrets
import threading
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener

from jaxsearch.search.index import Hit, Retriever, SearchError

_LOOPBACK = "127.0.0.1"  # queries and passages never leave the machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """Where a process of this machine answers; `key` proves who may ask."""

    port: int
    key: bytes


def serve(indexes: Sequence[Retriever]) -> ServerAddress:
    """Answers other processes from threads of this one, until it ends."""
    key = secrets.token_bytes(32)
    # The default of one waiting call makes calls that come together hang for seconds.
    listener = Listener((_LOOPBACK, 0), backlog=128, authkey=key)
    threading.Thread(target=_accept, args=(listener, indexes), daemon=True).start()
    return ServerAddress(port=listener.address[1], key=key)


def _accept(listener: Listener, indexes: Sequence[Retriever]) -> None:
    while True:
        try:
            asking = listener.accept()
        except (OSError, EOFError, AuthenticationError):
            # Whoever it was has gone again, or had another key.
            continue
        threading.Thread(target=_answer, args=(asking, indexes), daemon=True).start()


def _answer(asking: Connection, indexes: Sequence[Retriever]) -> None:
    with asking:
        number, queries, k = asking.recv()
        try:
            answer = indexes[number].search(queries, k)
        except SearchError as error:
            answer = str(error)
        asking.send(answer)


class SharedIndex:
    """An index that another process of this machine holds.

    Args:
      number: which of those that are served there.
    """

    def __init__(self, door: ServerAddress, number: int):
        self._door = door
        self._number = number

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Up to k hits per query, best first.

        Errors: SearchError if the index has none or its process breaks off; OSError
        if it is not there.
        """
        address = (_LOOPBACK, self._door.port)
        try:
            # A connection for each batch: it takes a millisecond, and calls that were
            # given up do not stand in the way of the next ones.
            with Client(address, authkey=self._door.key) as connection:
                connection.send((self._number, list(queries), k))
                answer = connection.recv()
        except EOFError as error:
            raise SearchError("the process that holds the index broke off") from error
        except AuthenticationError as error:
            raise SearchError("the process that holds the index refused") from error
        if isinstance(answer, str):
            raise SearchError(answer)
        return answer
