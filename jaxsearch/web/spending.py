"""The budget of a run: queries and money, counted on disk by all its processes."""

import dataclasses
from pathlib import Path

from jaxsearch.search.index import SearchStoppedError
from jaxsearch.web.cache import connected, create_table

_TABLE = """CREATE TABLE IF NOT EXISTS spent (
    id INTEGER PRIMARY KEY CHECK (id = 0), queries INTEGER, micro_usd INTEGER)"""
_ROW = "INSERT OR IGNORE INTO spent VALUES (0, 0, 0)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """Counts queries, so that a run that resumes continues with its count.

    Attributes:
      path: the file, in the run's folder.
      usd_per_query: price of a query.
      max_queries: limit of queries; None for none.
      max_usd: limit of US dollars; None for none.

    Raises:
      ValueError: if the file there is something else, or cannot be written.
    """

    path: Path
    usd_per_query: float
    max_queries: int | None = None
    max_usd: float | None = None

    def __post_init__(self):
        create_table(
            self.path,
            _TABLE,
            _ROW,
            content="the count of a web budget",
            advice="move it away, and the count begins again",
        )

    def reserve(self) -> None:
        """Counts a query that is about to be sent.

        Raises:
          SearchStoppedError: if it would exceed the budget.
        """
        with connected(self.path) as connection:
            # Others that reserve wait here, so that the limit holds for all together.
            connection.execute("BEGIN IMMEDIATE")
            queries, micro_usd = self._spent(connection)
            queries, micro_usd = queries + 1, micro_usd + self._micro_usd
            if self.max_queries is not None and queries > self.max_queries:
                raise SearchStoppedError(
                    f"the budget of web searches is used up: {self.max_queries} "
                    f"queries (web.max_queries); {_GO_ON.format('--web.max-queries')}"
                )
            if self.max_usd is not None and micro_usd > self.max_usd * 1e6:
                raise SearchStoppedError(
                    f"the budget of web searches is used up: {self.max_usd:g} US "
                    f"dollars (web.max_usd); {_GO_ON.format('--web.max-usd')}"
                )
            self._write(connection, queries, micro_usd)

    def refund(self) -> None:
        """Takes back a reserved query that the provider did not answer."""
        with connected(self.path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            queries, micro_usd = self._spent(connection)
            self._write(connection, queries - 1, micro_usd - self._micro_usd)

    def spent(self) -> tuple[int, float]:
        """Queries and US dollars of the whole run so far."""
        with connected(self.path) as connection:
            queries, micro_usd = self._spent(connection)
        return queries, micro_usd / 1e6

    @property
    def _micro_usd(self) -> int:
        # Whole numbers: sums of fractions would drift from the limit.
        return round(self.usd_per_query * 1e6)

    def _spent(self, connection) -> tuple[int, int]:
        return connection.execute("SELECT queries, micro_usd FROM spent").fetchone()

    def _write(self, connection, queries: int, micro_usd: int) -> None:
        connection.execute(
            "UPDATE spent SET queries = ?, micro_usd = ?", (queries, micro_usd)
        )


_GO_ON = "the same command with a larger {} continues"
