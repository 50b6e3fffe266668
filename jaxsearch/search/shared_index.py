"""One copy of an index per machine, served by one process to the others.

An index of Wikipedia takes tens of gigabytes, so a machine has room for only one.

Any user of the machine can connect to a port of it. So both sides prove that they know
a key before anything else is read; messages are JSON of bounded size, never pickles;
and every wait ends. Each connection has a thread of its own, so a silent one delays
nobody.
"""

import contextlib
import dataclasses
import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from jaxsearch.search.index import Hit, Retriever, SearchError
from jaxsearch.search.passages import Passage

_LOOPBACK = "127.0.0.1"  # queries and passages never leave the machine
_NONCE_BYTES = 32
_PROOF_BYTES = 32
_LENGTH_BYTES = 8
_MAX_MESSAGE_BYTES = 2**30
# Connections that have not proved the key yet; beyond this the oldest is closed.
_MAX_UNPROVED = 128
_HANDSHAKE_S = 10.0
_TRANSFER_S = 120.0
# A search that takes longer is given up by `env.retries` long before.
_ANSWER_S = 3600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """Port of a process on this machine that answers queries; clients need `key`."""

    port: int
    key: bytes


class _KeyRefusedError(Exception):
    """The other side does not know the key."""


def serve(retrievers: Sequence[Retriever]) -> ServerAddress:
    """Answers the queries of other processes in daemon threads."""
    key = secrets.token_bytes(32)
    # With a short backlog, simultaneous connections hang for seconds.
    listener = socket.create_server((_LOOPBACK, 0), backlog=128)
    server = _Server(key=key, retrievers=retrievers)
    threading.Thread(target=server.accept, args=(listener,), daemon=True).start()
    return ServerAddress(port=listener.getsockname()[1], key=key)


class _Server:
    """Answers connections, each in a thread."""

    def __init__(self, *, key: bytes, retrievers: Sequence[Retriever]):
        self._key = key
        self._retrievers = retrievers
        self._lock = threading.Lock()
        self._unproved: dict[socket.socket, None] = {}  # in order of their arrival

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                # The client has gone, or this process has too many files open.
                time.sleep(0.01)
                continue
            with self._lock:
                self._unproved[client] = None
                if len(self._unproved) > _MAX_UNPROVED:
                    oldest = next(iter(self._unproved))
                    del self._unproved[oldest]
                    # Its thread stops reading and closes it.
                    with contextlib.suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        # A client that is gone, silent or a stranger needs no answer.
        with client, contextlib.suppress(OSError, EOFError, _KeyRefusedError):
            try:
                _prove_server(client, self._key)
            finally:
                with self._lock:
                    self._unproved.pop(client, None)
            request = _receive(client, _TRANSFER_S)
            _send(client, self._found(request))

    def _found(self, request: Any) -> Any:
        """The answer to a request: hits, or a string that says why there are none."""
        try:
            number, queries, k = request
            hits = self._retrievers[number].search(queries, k)
        except SearchError as error:
            return str(error)
        except Exception as error:  # told to the process that asked, which counts it
            return f"{type(error).__name__}: {error}"
        return [
            [
                [hit.passage.id, hit.passage.contents, float(hit.score), hit.corpus]
                for hit in of_one
            ]
            for of_one in hits
        ]


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
          SearchError: if the index raises an error, or its process closes the
            connection or does not know the key.
          OSError: if the process does not exist, or does not answer in time.
        """
        address = (_LOOPBACK, self._address.port)
        # One connection per batch: connecting takes a millisecond, and abandoned calls
        # do not delay later ones.
        with socket.create_connection(address, _HANDSHAKE_S) as connection:
            try:
                _prove_client(connection, self._address.key)
            except (_KeyRefusedError, EOFError, ConnectionError):
                raise SearchError(
                    "the process that holds the index refused the key"
                ) from None
            try:
                _send(connection, [self._number, list(queries), k])
                answer = _receive(connection, _ANSWER_S)
            except (EOFError, ConnectionError) as error:
                raise SearchError(
                    "the process that holds the index closed the connection"
                ) from error
        if isinstance(answer, str):
            raise SearchError(answer)
        return [
            [
                Hit(
                    passage=Passage(id=id_, contents=contents),
                    score=score,
                    corpus=corpus,
                )
                for id_, contents, score, corpus in hits
            ]
            for hits in answer
        ]


def _prove_server(client: socket.socket, key: bytes) -> None:
    """Checks that a client knows the key, then proves that this process does."""
    deadline = time.monotonic() + _HANDSHAKE_S
    ours = secrets.token_bytes(_NONCE_BYTES)
    _write(client, ours, deadline)
    nonces = ours + _read(client, _NONCE_BYTES, deadline)
    _check_proof(_read(client, _PROOF_BYTES, deadline), key, b"client", nonces)
    _write(client, _proof(key, b"server", nonces), deadline)


def _prove_client(server: socket.socket, key: bytes) -> None:
    """Proves to a server that this process knows the key, and checks that it does."""
    deadline = time.monotonic() + _HANDSHAKE_S
    ours = secrets.token_bytes(_NONCE_BYTES)
    nonces = _read(server, _NONCE_BYTES, deadline) + ours
    _write(server, ours + _proof(key, b"client", nonces), deadline)
    _check_proof(_read(server, _PROOF_BYTES, deadline), key, b"server", nonces)


def _proof(key: bytes, side: bytes, nonces: bytes) -> bytes:
    # With the side, the proof of one cannot be sent back as that of the other.
    return hmac.digest(key, side + nonces, "sha256")


def _check_proof(proof: bytes, key: bytes, side: bytes, nonces: bytes) -> None:
    if not hmac.compare_digest(proof, _proof(key, side, nonces)):
        raise _KeyRefusedError


def _send(connection: socket.socket, message: Any) -> None:
    content = json.dumps(message).encode()
    deadline = time.monotonic() + _TRANSFER_S
    _write(connection, len(content).to_bytes(_LENGTH_BYTES) + content, deadline)


def _receive(connection: socket.socket, timeout_s: float) -> Any:
    """The next message.

    Raises:
      EOFError: if the connection is closed, or the message is too long.
      TimeoutError: if it is not complete in time.
    """
    deadline = time.monotonic() + timeout_s
    length = int.from_bytes(_read(connection, _LENGTH_BYTES, deadline))
    if length > _MAX_MESSAGE_BYTES:
        raise EOFError(f"a message of {length} bytes is too long")
    return json.loads(_read(connection, length, deadline))


def _read(connection: socket.socket, num_bytes: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < num_bytes:
        connection.settimeout(_left(deadline))
        some = connection.recv(min(num_bytes - len(found), 2**20))
        if not some:
            raise EOFError("the connection was closed")
        found += some
    return bytes(found)


def _write(connection: socket.socket, content: bytes, deadline: float) -> None:
    # The timeout of sendall is that of the whole content.
    connection.settimeout(_left(deadline))
    connection.sendall(content)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no message within the time limit")
    return left
