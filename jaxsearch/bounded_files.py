"""Reads untrusted text files, plain or gzipped, with size limits and clear errors."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

# Limit for a file read into memory, after decompression: a gzip file of a megabyte may
# decompress to a gigabyte. HotpotQA's training file has 0.6 GB.
MAX_BYTES = 2**33
_CHUNK = 2**20
# Limit for one line of a file that is read line by line.
MAX_LINE_BYTES = 2**27


class CutOffError(ValueError):
    """A gzip file ends in the middle of its data."""


_FAULTS = (OSError, EOFError, zlib.error)  # BadGzipFile is an OSError


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, decompressed if its name ends in .gz.

    Raises:
      ValueError: if it cannot be read, is damaged, or has more than `MAX_BYTES`.
    """
    content = bytearray()
    try:
        with _opened(path) as file:
            # Python allocates memory for the largest size that a read may return.
            while chunk := file.read(_CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise ValueError(
                        f"{path}: expected at most {MAX_BYTES:,} bytes when "
                        "decompressed; split the file"
                    )
    except _FAULTS as error:
        raise _named(error, path, str(path)) from error
    return bytes(content)


def read_lines(
    path: Path, *, max_bytes: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a file with their numbers, from 1, without reading it whole.

    Args:
      path: the file.
      max_bytes: limit of all lines together, for a caller that keeps them; None for no
        limit.

    Raises:
      CutOffError: after the last line of a gzip file that is incomplete.
      ValueError: if the file cannot be read, is damaged, has a longer line than
        `MAX_LINE_BYTES`, or exceeds `max_bytes`.
    """
    number = num_bytes = 0
    try:
        with _opened(path) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise ValueError(
                        f"{path}, line {number}: expected at most "
                        f"{MAX_LINE_BYTES:,} bytes in a line"
                    )
                num_bytes += len(line)
                if max_bytes is not None and num_bytes > max_bytes:
                    raise ValueError(
                        f"{path}: expected at most {max_bytes:,} bytes when "
                        "decompressed; split the file"
                    )
                yield number, line
    except _FAULTS as error:
        raise _named(error, path, f"{path}, after line {number}") from error


def _opened(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _named(error: Exception, path: Path, where: str) -> ValueError:
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return ValueError(f"{path}: cannot be read: {error.strerror}")
    kind = CutOffError if isinstance(error, EOFError) else ValueError
    return kind(
        f"{where}: the gzip data is truncated or damaged ({error}); fetch the file "
        "again"
    )
