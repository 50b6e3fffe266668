"""Results, pages and summaries on disk, for any number of threads and processes."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from jaxsearch.search.index import SearchError

Kind = Literal["results", "page", "summary"]
_TABLE = """CREATE TABLE IF NOT EXISTS kept (
    kind TEXT, key TEXT, value TEXT, stored TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID"""
_WAIT_S = 30.0  # for another process that writes


class WebCache:
    """A SQLite file of JSON values.

    Each call opens the file for itself, which takes less than a millisecond: SQLite's
    connections belong to a thread, and the threads of searches come and go.

    Args:
      folder: the folder of the file, which is made.

    Raises:
      ValueError: if the file there is not a cache.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "cache.sqlite"
        try:
            with connected(self.path) as connection:
                connection.execute(_TABLE)
        except SearchError as error:
            raise ValueError(
                f"expected a web cache, got {error}; move it away, or choose another "
                "folder with --web.cache"
            ) from None

    def get(self, kind: Kind, key: str) -> Any:
        """The value of a key; None if there is none.

        Raises:
          SearchError: if the file cannot be read.
        """
        with connected(self.path) as connection:
            row = connection.execute(
                "SELECT value FROM kept WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: Kind, key: str, value: Any) -> None:
        """Stores a value, in place of an earlier one.

        Raises:
          SearchError: if it cannot be written, for example to a full disk.
        """
        with connected(self.path) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO kept (kind, key, value) VALUES (?, ?, ?)",
                (kind, key, json.dumps(value)),
            )


@contextlib.contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Context of one transaction on a SQLite file.

    Raises:
      SearchError: if the file cannot be read or written, for example on a full disk.
    """
    try:
        connection = sqlite3.connect(path, timeout=_WAIT_S)
        with contextlib.closing(connection), connection:
            # Together they spare a wait for the disk at every write. A power failure
            # may lose the last writes, and damages nothing.
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            yield connection
    except sqlite3.Error as error:
        raise SearchError(f"{path}: {error}") from None
