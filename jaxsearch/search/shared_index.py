"""One copy of an index per machine, served by one process to the others.

An index of Wikipedia takes tens of gigabytes, so a machine has room for only one.
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
    """Port of a process on this machine that answers queries; clients need `key`."""

    port: int
    key: bytes


def serve(retrievers: Sequence[Retriever]) -> ServerAddress:
    """Answers the queries of other processes in daemon threads."""
    key = secrets.token_bytes(32)
    # With the default backlog of one, simultaneous connections hang for seconds.
    listener = Listener((_LOOPBACK, 0), backlog=128, authkey=key)
    threading.Thread(target=_accept, args=(listener, retrievers), daemon=True).start()
    return ServerAddress(port=listener.address[1], key=key)


def _accept(listener: Listener, retrievers: Sequence[Retriever]) -> None:
    while True:
        try:
            client = listener.accept()
        except (OSError, EOFError, AuthenticationError):
            # The client has disconnected or has a different key.
            continue
        threading.Thread(target=_answer, args=(client, retrievers), daemon=True).start()


def _answer(client: Connection, retrievers: Sequence[Retriever]) -> None:
    with client:
        number, queries, k = client.recv()
        try:
            answer = retrievers[number].search(queries, k)
        except SearchError as error:
            answer = str(error)
        client.send(answer)


class SharedIndex:
    """A retriever whose index is held by another process on this machine.

    Args:
      address: address of that process.
      number: index into the retrievers that it serves.
    """

    def __init__(self, address: ServerAddress, number: int):
        self._address = address
        self._number = number

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first.

        Raises:
          SearchError: if the index raises it, or its process closes the connection.
          OSError: if the process does not exist.
        """
        address = (_LOOPBACK, self._address.port)
        try:
            # One connection per batch: connecting takes a millisecond, and abandoned
            # calls do not delay later ones.
            with Client(address, authkey=self._address.key) as connection:
                connection.send((self._number, list(queries), k))
                answer = connection.recv()
        except EOFError as error:
            raise SearchError(
                "the process that holds the index closed the connection"
            ) from error
        except AuthenticationError as error:
            raise SearchError(
                "the process that holds the index refused the key"
            ) from error
        if isinstance(answer, str):
            raise SearchError(answer)
        return answer
