"""Random access to the records of an ArrayRecord file, which may be damaged."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for reads in any order


class ArrayRecords:
    """The records of a file; threads may share it.

    Only the table of the groups' places is in memory, about a byte per record.

    Args:
      path: the file.
      advice: what to do if the file is damaged; the error ends with it.

    Raises:
      ValueError: if the file is damaged; reading records may raise it too.
    """

    def __init__(self, path: Path, advice: str):
        self._path = path
        self._advice = advice
        try:
            self._reader = array_record_module().ArrayRecordReader(str(path), _OPTIONS)
            is_read = self._reader.ok()
            self._num = self._reader.num_records() if is_read else 0
        except (RuntimeError, ValueError) as error:
            raise self.damaged(error) from error
        if not is_read:
            raise self.damaged("no ArrayRecord, or cut off")
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return self._num

    def read(self, positions: Sequence[int]) -> list[bytes]:
        """Records at positions in ascending order; far faster than one by one."""
        if not positions:
            return []
        try:
            with self._reading:
                return self._reader.read(positions)
        except (RuntimeError, ValueError) as error:
            raise self.damaged(error) from error

    def damaged(self, reason: object) -> ValueError:
        """The error for a file or a record that is damaged."""
        text = " ".join(str(reason).split())
        return ValueError(f"{self._path} is damaged ({text:.200}); {self._advice}")


def array_record_module() -> Any:
    """The module of ArrayRecord.

    Raises:
      ImportError: if it is not installed.
    """
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise ImportError(
            "records on disk need array_record: `pip install array_record`"
        ) from error
    return array_record_module
