"""A retriever whose index is on servers."""

import concurrent.futures
import functools
from collections.abc import Callable, Sequence
from typing import Any

from jaxsearch.remote.address import Address, DialectName, parse_addresses
from jaxsearch.remote.bearer import bearer_token
from jaxsearch.remote.cache import AnswerCache
from jaxsearch.remote.connection import Connection
from jaxsearch.remote.detection import (
    Description,
    answers,
    describe,
    fingerprint_text,
)
from jaxsearch.remote.pool import Server, ServerPool, ServerState
from jaxsearch.remote.settings import DEFAULT_SETTINGS, ClientSettings
from jaxsearch.remote.threads import in_thread
from jaxsearch.search.index import Hit, SearchError, Unanswered

Note = Callable[[str], None]

_PROBE_TIMEOUT_S = 10.0
# Part of an attempt's time; the error of the client is clearer than that of its caller.
_ANSWER_SHARE = 0.95


class RemoteRetriever:
    """Searches on servers of one index; `open_remote` makes it.

    Several threads may search at once. It asks each query once: `env.retries` has the
    retries. Blank queries find nothing, as in our indexes, and are not sent.

    Args:
      connections: connections to the servers; those in `resting` have failed already.
      description: what the servers are.
      resting: the reason for each server that cannot be asked yet, by address.
      settings: settings of the client.
      timeout_s: timeout of an answer.

    Attributes:
      description: what the servers are.
      connections: the connections.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        description: Description,
        *,
        resting: dict[str, str],
        settings: ClientSettings,
        timeout_s: float,
    ):
        self.description = description
        self.connections = connections
        self._settings = settings
        self._timeout_s = timeout_s
        self._cache = AnswerCache(settings.cached_queries)
        servers = [Server(connection) for connection in connections]
        for server in servers:
            if server.connection.url in resting:
                server.last_error = resting[server.connection.url]
                server.breaker.failed(took_long=True)
        self._pool = ServerPool(
            servers, max_requests=settings.max_requests, probe=self._check_again
        )

    @property
    def searched(self) -> dict[str, Any]:
        """Fingerprints of the servers' index, as a run records them."""
        said = self.description.fingerprints
        return {
            "url": ",".join(one.url for one in self.servers),
            "dialect": self.description.dialect.name,
            "num_passages": self.description.num_passages,
            "fingerprints": None if said is None else dict(said),
        }

    @property
    def servers(self) -> list[ServerState]:
        """Requests and errors of each server so far, and whether it is left alone."""
        return self._pool.states

    def search_counts(self) -> dict[str, float]:
        """Requests and errors of each server so far, and which are left alone."""
        counts = {}
        for number, one in enumerate(self.servers):
            counts[f"servers/{number}/requests"] = float(one.num_requests)
            counts[f"servers/{number}/errors"] = float(one.num_errors)
            counts[f"servers/{number}/open"] = float(one.is_open)
        return counts

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first.

        Raises:
          SearchError: if a request fails; a subclass says whether to ask again.
          SearchStoppedError: if a server of the web has used up its budget.
        """
        wanted = list(dict.fromkeys(query for query in queries if query.strip()))
        found = self._cache.known(wanted, k)
        missing = [query for query in wanted if query not in found]
        size = self._settings.max_queries
        batches = [missing[i : i + size] for i in range(0, len(missing), size)]
        if len(batches) == 1:
            found |= self._asked(batches[0], k)
        elif batches:
            asked = [
                in_thread(functools.partial(self._asked, batch, k)) for batch in batches
            ]
            # Answered batches are in the cache before an error of another is raised.
            concurrent.futures.wait(asked)
            for future in asked:
                found |= future.result()
        return [found.get(query, []) for query in queries]

    def _asked(self, batch: Sequence[str], k: int) -> dict[str, list[Hit]]:
        """The answers of a server to one request, by query."""
        timeout_s = _ANSWER_SHARE * self._timeout_s

        def ask(connection: Connection) -> list[list[Hit]]:
            dialect = self.description.dialect
            return answers(connection, dialect, list(batch), k, timeout_s)

        hits = self._pool.answer(ask, timeout_s)
        found = dict(zip(batch, hits, strict=True))
        answered = {q: h for q, h in found.items() if not isinstance(h, Unanswered)}
        self._cache.keep(answered, k)
        return found

    def _check_again(self, connection: Connection) -> None:
        """Checks a server that has failed before it is used again.

        Raises:
          SearchError: if it still fails, or searches another index now.
        """
        timeout_s = min(self._timeout_s, _PROBE_TIMEOUT_S)
        try:
            now = describe(connection, self.description.dialect.name, timeout_s)
        except ValueError as error:
            raise SearchError(str(error)) from None
        if now.fingerprints != self.description.fingerprints:
            raise SearchError(
                f"{connection.url} searches another index than when it was opened: "
                f"{fingerprint_text(now.fingerprints)}, and it was "
                f"{fingerprint_text(self.description.fingerprints)}"
            )


def open_remote(
    url: str,
    *,
    dialect: DialectName = "auto",
    settings: ClientSettings = DEFAULT_SETTINGS,
    timeout_s: float = 60.0,
    note: Note,
) -> RemoteRetriever:
    """Opens the servers of a comma-separated list of addresses.

    Args:
      url: the addresses; the servers must have the same index.
      dialect: their dialect; auto to ask them.
      settings: settings of the client.
      timeout_s: timeout of an answer.
      note: receives a line for the user about each server.

    Raises:
      ValueError: if an address is malformed, no server answers, one does not speak the
        dialect, or their indexes differ.
    """
    addresses = parse_addresses(url)
    dialect = _given_dialect(addresses, dialect)
    connections = [
        Connection(
            address.url,
            token=bearer_token(address.url),
            connect_timeout_s=settings.connect_timeout_s,
        )
        for address in addresses
    ]

    def found(connection: Connection) -> Description | SearchError:
        try:
            return describe(connection, dialect, min(timeout_s, _PROBE_TIMEOUT_S))
        except SearchError as error:
            return error

    asked = [in_thread(functools.partial(found, one)) for one in connections]
    resting, described = {}, {}
    for connection, future in zip(connections, asked, strict=True):
        result = future.result()
        if isinstance(result, SearchError):
            resting[connection.url] = str(result)
        else:
            described[connection.url] = result
    if not described:
        raise ValueError(
            f"no search server answers: {'; '.join(resting.values())}; start it, or "
            "give another address"
        )
    _check_same(described)
    for address, description in described.items():
        note(f"{address}: {description.text}")
    for reason in resting.values():
        note(f"{reason}; the other servers are asked until it answers")
    return RemoteRetriever(
        connections,
        next(iter(described.values())),
        resting=resting,
        settings=settings,
        timeout_s=timeout_s,
    )


def _given_dialect(addresses: Sequence[Address], dialect: str) -> str:
    """The dialect that the user gave by its name or by the path of an address.

    Raises:
      ValueError: if they differ.
    """
    names = {address.dialect for address in addresses if address.dialect}
    if dialect != "auto":
        names.add(dialect)
    if len(names) > 1:
        raise ValueError(
            f"the addresses and the dialect name several dialects ({sorted(names)}); "
            "the servers of a pool speak one, and an address needs no path"
        )
    return next(iter(names), "auto")


def _check_same(described: dict[str, Description]) -> None:
    """Checks that servers speak one dialect and have one index.

    Raises:
      ValueError: naming the first two that differ.
    """
    (first, wanted), *others = described.items()
    for address, description in others:
        if description.dialect != wanted.dialect:
            raise ValueError(
                f"{first} speaks {wanted.dialect.name} and {address} "
                f"{description.dialect.name}; the servers of a pool must speak one "
                "dialect"
            )
        if description.fingerprints != wanted.fingerprints:
            raise ValueError(
                f"{first} and {address} search different indexes: "
                f"{fingerprint_text(wanted.fingerprints)} there, "
                f"{fingerprint_text(description.fingerprints)} here; the servers of a "
                "pool must have the same index"
            )
