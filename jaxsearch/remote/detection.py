"""The dialect of a server, and the fingerprints of its index."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from jaxsearch.remote.connection import (
    Connection,
    UnauthorizedError,
    UnreachableError,
)
from jaxsearch.remote.dialects import DIALECTS, RESEARCH, SEARCH_R1, Dialect
from jaxsearch.search.index import Hit, RefusedSearchError, SearchError
from jaxsearch.surrogates import whole_characters

_SAMPLE_QUERY = "capital of France"
_BYTES_PER_HIT = 16 * 1024
_BYTES_PER_ANSWER = 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """A server's dialect, and what it says about its index.

    Attributes:
      dialect: the dialect in which it is asked.
      how: how the dialect was found.
      fingerprints: of the corpus, the encoder and more; None if it does not say.
      num_passages: size of its corpus; None if it does not say.
    """

    dialect: Dialect
    how: str
    fingerprints: Mapping[str, str] | None = None
    num_passages: int | None = None

    @property
    def text(self) -> str:
        """One line for the user."""
        said = f"dialect {self.dialect.name} ({self.how})"
        if self.fingerprints is None:
            return f"{said}; it does not say what it searches"
        count = "" if self.num_passages is None else f"{self.num_passages:,} passages, "
        return f"{said}; {count}{fingerprint_text(self.fingerprints)}"


def fingerprint_text(fingerprints: Mapping[str, str] | None) -> str:
    """Fingerprints on one line."""
    if fingerprints is None:
        return "no fingerprints"
    return ", ".join(f"{name} {value}" for name, value in sorted(fingerprints.items()))


def answers(
    connection: Connection,
    dialect: Dialect,
    queries: list[str],
    k: int,
    timeout_s: float,
) -> list[list[Hit]]:
    """The server's answers to these queries, up to k hits for each.

    Raises:
      SearchError: if it does not answer, or not in this dialect; the subclasses are
        those of `Connection.post`.
    """
    answer = connection.post(
        dialect.path,
        dialect.body(queries, k),
        timeout_s=timeout_s,
        max_bytes=_BYTES_PER_ANSWER + len(queries) * k * _BYTES_PER_HIT,
    )
    try:
        return dialect.read(answer, len(queries), k)
    except SearchError as error:
        raise SearchError(f"{connection.url}{dialect.path}: {error}") from None


def describe(connection: Connection, dialect: str, timeout_s: float) -> Description:
    """Asks a server what it is.

    Args:
      connection: connection to the server.
      dialect: name of its dialect, or auto. Auto asks /index, which jaxsearch has, then
        /openapi.json and /health, and then one query in each dialect.
      timeout_s: timeout of each request.

    Raises:
      UnreachableError: if it does not answer at all.
      ValueError: if it does not speak the dialect (the error names the one that it
        speaks), or none.
      SearchError: if it fails at the moment.
    """
    index = _got(connection, "/index", timeout_s)
    if isinstance(index, dict) and index.get("server") == "jaxsearch":
        chosen = SEARCH_R1 if dialect == "auto" else DIALECTS[dialect]
        return _of_index(index, chosen)
    if dialect == "auto":
        return _detected(connection, timeout_s)
    failure = _failure(connection, DIALECTS[dialect], timeout_s)
    if failure is None:
        return Description(dialect=DIALECTS[dialect], how="as given")
    try:
        other = _detected(connection, timeout_s).dialect
    except ValueError:
        raise ValueError(
            f"{connection.url} does not answer in the dialect {dialect}, nor in "
            f"another: {failure}"
        ) from None
    if other.name == dialect:
        raise failure
    raise ValueError(
        f"{connection.url} does not answer in the dialect {dialect}, but in "
        f"{other.name}, that of {other.systems}: give --retrieval.dialect {other.name}"
    )


def _of_index(index: dict[str, Any], dialect: Dialect) -> Description:
    """The description of a server of jaxsearch."""
    fingerprints, count = index.get("fingerprints"), index.get("num_passages")
    # A server of the web has no fingerprints.
    if isinstance(fingerprints, dict) and fingerprints:
        fingerprints = {
            whole_characters(key[:80]): whole_characters(str(value)[:80])
            for key, value in fingerprints.items()
        }
    else:
        fingerprints = None
    return Description(
        dialect=dialect,
        how="/index: a server of jaxsearch",
        fingerprints=fingerprints,
        num_passages=count if isinstance(count, int) else None,
    )


def _detected(connection: Connection, timeout_s: float) -> Description:
    failures = []
    candidates = dict(_hints(connection, timeout_s))
    for dialect in DIALECTS.values():
        candidates.setdefault(dialect, f"POST {dialect.path}")
    for dialect, how in candidates.items():
        failure = _failure(connection, dialect, timeout_s)
        if failure is None:
            return Description(dialect=dialect, how=how)
        failures.append(failure)
    if all(isinstance(failure, RefusedSearchError) for failure in failures):
        raise ValueError(
            f"{connection.url} answers none of the dialects {', '.join(DIALECTS)}: "
            f"{failures[0]}"
        )
    # One that fails, and does not refuse, may have been the right one.
    raise next(f for f in failures if not isinstance(f, RefusedSearchError))


def _hints(connection: Connection, timeout_s: float) -> Iterator[tuple[Dialect, str]]:
    """The dialects that a server's own pages name."""
    openapi = _got(connection, "/openapi.json", timeout_s)
    paths = openapi.get("paths") if isinstance(openapi, dict) else None
    for dialect in DIALECTS.values():
        if isinstance(paths, dict) and dialect.path in paths:
            yield dialect, f"/openapi.json has {dialect.path}"
    health = _got(connection, "/health", timeout_s)
    if isinstance(health, dict) and "retrievers" in health:
        yield RESEARCH, "/health is that of ReSearch"


def _got(connection: Connection, path: str, timeout_s: float) -> Any:
    """The JSON at a path; None if the server has none there.

    Raises:
      UnreachableError: if the server does not answer.
      ValueError: if it wants a token.
    """
    try:
        return connection.get(path, timeout_s=timeout_s)
    except UnreachableError:
        raise
    except UnauthorizedError as error:
        raise ValueError(str(error)) from None
    except SearchError:
        return None


def _failure(
    connection: Connection, dialect: Dialect, timeout_s: float
) -> SearchError | None:
    """Why a server does not answer a query in a dialect; None if it does."""
    try:
        answers(connection, dialect, [_SAMPLE_QUERY], 1, timeout_s)
    except UnreachableError:
        raise
    except SearchError as error:
        return error
    return None
