"""Parses untrusted JSON, with size limits; every fault is a ValueError."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# config.json, manifests and settings have some kilobytes; the tokenizer.json of a large
# vocabulary has 30 MB, and a header of safetensors is limited to 100 MB.
MAX_BYTES = 100_000_000
# Our files have fewer than 20 levels. Deeper values can be parsed, but recursive code
# that reads them would overflow the stack.
MAX_DEPTH = 100
# Longer integers would not fit into a float.
MAX_DIGITS = 40


def json_value(text: bytes | str, *, allow_nan: bool = True) -> Any:
    """The value of a JSON text.

    Args:
      text: the text; bytes are UTF-8, with or without a byte order mark.
      allow_nan: whether NaN and infinities are allowed, which are not JSON.

    Raises:
      ValueError: if it is not JSON in UTF-8, is nested more than `MAX_DEPTH` levels,
        or has an integer of more than `MAX_DIGITS` digits. The message is only the
        reason; callers add the source.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = json.loads(
            text,
            parse_int=_bounded_int,
            parse_constant=_NON_FINITE.__getitem__ if allow_nan else _not_json,
        )
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"not UTF-8 (byte {error.start} is 0x{byte:02x})") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    # Fast path: most texts have fewer brackets than the allowed depth.
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def parse_json(content: bytes | str, source: str) -> Any:
    """`json_value`, with the source in its errors.

    Args:
      content: the text.
      source: what the text was read from; the error begins with it.

    Raises:
      ValueError: see `json_value`.
    """
    try:
        return json_value(content)
    except ValueError as error:
        raise ValueError(f"{source}: not JSON: {error!s:.200}") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is no plain file, is too large, or is no JSON.
    """
    if path.exists() and not path.is_file():
        # Reading a pipe or a device might never end.
        raise ValueError(f"{path}: expected a JSON file, found something else")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(
            f"{path}: expected at most {MAX_BYTES:,} bytes of JSON, found {size:,}"
        )
    return parse_json(path.read_bytes(), str(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """The fields of a JSON file that holds an object; the errors of `read_json`."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {value!r:.60}")
    return value


_TOO_DEEP = f"nested more than {MAX_DEPTH} levels"
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return int(digits)


def _is_deep(value: Any) -> bool:
    """Whether a value has more than `MAX_DEPTH` levels, counted level by level."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [item for one in level for item in _items(one)]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
