"""Results, pages and summaries on disk, for any number of threads and processes."""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from jaxsearch.json_files import json_value
from jaxsearch.search.index import SearchError

Kind = Literal["results", "page", "summary"]
_TABLE = """CREATE TABLE IF NOT EXISTS kept (
    kind TEXT, key TEXT, value TEXT, stored TEXT DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID"""
_FIELDS = ({"title", "text"}, {"reason", "message"})  # of a page, read or not
_HAS_FORM: dict[Kind, Callable[[Any], bool]] = {
    "results": lambda value: (
        isinstance(value, list)
        and all(isinstance(row, list) and len(row) == 3 for row in value)
        and all(isinstance(text, str) for row in value for text in row)
    ),
    "page": lambda value: (
        isinstance(value, dict)
        and value.keys() in _FIELDS
        and all(isinstance(text, str) for text in value.values())
    ),
    "summary": lambda value: isinstance(value, str),
}
_WAIT_S = 30.0  # for another process that writes
ADVICE = "move it away, or choose another folder with --web.cache"


class WebCache:
    """A SQLite file of JSON values.

    Each call opens the file for itself, which takes less than a millisecond: SQLite's
    connections belong to a thread, and the threads of searches come and go.

    Args:
      folder: the folder of the file, which is made.

    Raises:
      ValueError: if the file there is not a cache, or the folder cannot be made.
    """

    def __init__(self, folder: Path):
        self.path = folder / "cache.sqlite"
        create_table(self.path, _TABLE, content="a web cache", advice=ADVICE)

    def get(self, kind: Kind, key: str) -> Any:
        """The value of a key; None if there is none.

        Raises:
          SearchError: if the file cannot be read, or the value is damaged.
        """
        with connected(self.path) as connection:
            row = connection.execute(
                "SELECT value FROM kept WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if row is None else self._value(kind, key, row[0])

    def _value(self, kind: Kind, key: str, text: Any) -> Any:
        """Parses a stored value, and checks that it has the form of its kind."""
        try:
            value = json_value(text)
        except (ValueError, TypeError):
            value = None
        if not _HAS_FORM[kind](value):
            raise SearchError(
                f"{self.path}: the {kind} of {key!r:.80} is damaged; move the file away"
            )
        return value

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


def create_table(path: Path, *statements: str, content: str, advice: str) -> None:
    """Makes a SQLite file with a table, and its folder, where they do not exist.

    Args:
      path: the file.
      statements: SQL that creates the table if it does not exist.
      content: what the file holds, for the error.
      advice: what to do about a file that is something else, for the error.

    Raises:
      ValueError: if the file there is something else, or cannot be written.
    """
    make_folder(path.parent, advice=advice)
    try:
        with connected(path) as connection:
            for statement in statements:
                connection.execute(statement)
    except SearchError as error:
        raise ValueError(f"expected {content}, got {error}; {advice}") from None


def make_folder(folder: Path, *, advice: str) -> None:
    """Makes a folder where it does not exist.

    Args:
      folder: the folder.
      advice: what to do about a file in its place, for the error.

    Raises:
      ValueError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be made ({error.strerror}); {advice}"
        ) from error


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
