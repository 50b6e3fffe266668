"""Bad rows of a user's file: all found in one pass, then refused or left out."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from jaxsearch.visible import visible

Note: TypeAlias = Callable[[str], None]
"""Receives a line about a file for the user."""

NUM_NAMED = 10
_MAX_FAULT_LEN = 500

_REMEDY = (
    "with --data.skip-bad-rows (--skip-bad-rows in `jaxsearch eval`, `data prepare` "
    "and `index build`)"
)


def print_note(line: str) -> None:
    """Prints a line to standard error."""
    print(visible(line), file=sys.stderr, flush=True)


class BadRowError(ValueError):
    """A row that cannot be used; the message begins with the file and the location."""


@dataclasses.dataclass
class BadRows:
    """The bad rows of one file.

    Attributes:
      path: the file.
      num_rows: rows read so far, good and bad.
      num_bad: how many of them are bad.
      faults: messages of the first bad rows, which begin with the file and the
        location.
    """

    path: Path
    num_rows: int = 0
    num_bad: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)

    def add(self, fault: BadRowError | str) -> None:
        self.num_bad += 1
        if len(self.faults) < NUM_NAMED:
            self.faults.append(f"{fault!s:.{_MAX_FAULT_LEN}}")

    def settle(self, *, skip: bool, note: Note) -> None:
        """Notes the bad rows if they are to be skipped, else refuses the file.

        Args:
          skip: whether to continue without the bad rows.
          note: receives their number and the first of them.

        Raises:
          ValueError: if there are bad rows and `skip` is False; the error is one line
            with their number and the first `NUM_NAMED`.
        """
        if not self.faults:
            return
        if not skip and self.num_bad == 1:
            raise ValueError(f"{self.faults[0]}; correct the row, or skip it {_REMEDY}")
        counted = f"{self.path}: {self.num_bad:,} of {self.num_rows:,} rows"
        if skip:
            note(f"{counted} are bad and were skipped: {self._named()}")
        else:
            raise ValueError(
                f"{counted} are bad: {self._named()}; correct them, or skip them "
                f"{_REMEDY}"
            )

    def _named(self) -> str:
        """The first faults, without the name of the file."""
        named = [self._without_path(fault) for fault in self.faults]
        if self.num_bad > len(named):
            named.append(f"and {self.num_bad - len(named):,} more")
        return "; ".join(named)

    def _without_path(self, fault: str) -> str:
        rest = fault.removeprefix(str(self.path))
        return f"line {rest[1:]}" if rest[:1] == ":" else rest.removeprefix(", ")
