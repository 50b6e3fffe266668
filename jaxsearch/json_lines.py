"""JSON files: strict JSON, written atomically, or JSON Lines appended line by line.

JSON has no NaN or infinities, and most readers reject the way Python writes them, so
they are written as the strings "NaN", "Infinity" and "-Infinity".
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxsearch import bounded_files
from jaxsearch.json_files import json_value

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(value: Any) -> str:
    """JSON on one line, ASCII only, with non-finite numbers as strings."""
    return json.dumps(encodable(value), allow_nan=False)


def encodable(value: Any) -> Any:
    """`value` with each non-finite number as the string that `NON_FINITE` has for it.

    Tuples become lists, as in JSON.
    """
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    return value


def restored(value: Any) -> Any:
    """`value` with the strings of `NON_FINITE` turned back into numbers.

    For use on values without free text only: a question's text may be "Infinity".
    """
    if isinstance(value, str):
        return NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restored(item) for item in value]
    return value


def parse_line(line: bytes | str, path: Path, number: int) -> dict[str, Any]:
    """The object on one line.

    Raises:
      ValueError: if it is not a JSON object; the error names the file and the line.
    """
    try:
        value = json_value(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{path}, line {number}: expected a JSON object, got {value!r:.60}"
        )
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file, without an incomplete last line.

    The last line is incomplete if a process was killed while appending to the file, or
    is appending to it now.

    Raises:
      ValueError: for any other malformed line, or a file that cannot be read or is too
        large.
    """
    lines = bounded_files.read_lines(path, max_bytes=bounded_files.MAX_BYTES)
    return [
        parse_line(line, path, number)
        for number, line in lines
        if line.endswith(b"\n") or _is_whole(line)
    ]


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Appends one object to a file; it is on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(encode(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def encode_lines(values: Iterable[dict[str, Any]]) -> bytes:
    """The content of a file of objects."""
    return "".join(encode(value) + "\n" for value in values).encode()


def replace_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Replaces a file of objects atomically."""
    replace_file(path, encode_lines(values))


def replace_json(path: Path, value: Any) -> None:
    """Replaces a file of one JSON value, indented, atomically."""
    text = json.dumps(encodable(value), indent=2, allow_nan=False)
    replace_file(path, text.encode())


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file atomically; on failure the old file is left unchanged."""
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Context whose file replaces the one at `path` at its end; see `replace_file`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        # A full disk gets its room back. A process that is killed leaves the file.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def is_temporary(name: str, of: str) -> bool:
    """Whether a file's name is one that `replacing` writes a file `of` under."""
    return re.fullmatch(rf"\.{re.escape(of)}\.\d+", name) is not None


def _is_whole(line: bytes) -> bool:
    try:
        json_value(line)
    except ValueError:
        return False
    return True
