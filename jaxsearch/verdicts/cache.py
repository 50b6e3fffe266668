"""A cache of verdicts on disk, shared by processes."""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jaxsearch.search.index import SearchError
from jaxsearch.verdicts.verdict import VERDICTS, Opinion
from jaxsearch.web.cache import connected, create_table

_TABLE = """CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY, verdict TEXT, reason TEXT,
    stored TEXT DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID"""
_NUM_KEYS = 500  # per query; SQLite limits the number of values


def verdict_key(
    model: str,
    prompt: str,
    question: str,
    golden_answers: Sequence[str],
    prediction: str,
) -> str:
    """The key of a request for a verdict: a digest of everything that it depends on."""
    asked = [model, prompt, question, list(golden_answers), prediction]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class VerdictCache:
    """A SQLite file of verdicts, by `verdict_key`.

    Args:
      folder: the folder of the file; created if needed.

    Raises:
      ValueError: if the file there is not a cache, or cannot be written.
    """

    def __init__(self, folder: Path):
        self.path = folder / "verdicts.sqlite"
        create_table(
            self.path,
            _TABLE,
            content="a cache of verdicts",
            advice="move it away, or choose another folder with --judge-cache",
        )

    def get(self, keys: Iterable[str]) -> dict[str, Opinion]:
        """The verdicts of the keys that are in the cache.

        Raises:
          ValueError: if the file cannot be read.
        """
        wanted, found = list(keys), {}
        with self._connected() as connection:
            for start in range(0, len(wanted), _NUM_KEYS):
                some = wanted[start : start + _NUM_KEYS]
                marks = ",".join("?" * len(some))
                found |= {
                    key: Opinion(verdict, reason)
                    for key, verdict, reason in connection.execute(
                        "SELECT key, verdict, reason FROM verdicts "
                        f"WHERE key IN ({marks})",
                        some,
                    )
                    if verdict in VERDICTS
                }
        return found

    def put(self, opinions: Mapping[str, Opinion]) -> None:
        """Stores verdicts by their keys.

        Raises:
          ValueError: if they cannot be written, for example to a full disk.
        """
        with self._connected() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO verdicts (key, verdict, reason) "
                "VALUES (?, ?, ?)",
                [(key, *opinion) for key, opinion in opinions.items()],
            )

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with connected(self.path) as connection:
                yield connection
        except SearchError as error:
            raise ValueError(
                f"the cache of verdicts cannot be used ({error}); mend it, or choose "
                "another folder with --judge-cache; then the same command continues"
            ) from None
