"""Small JSON files of other people: bounded, and every fault is one ValueError."""

import json
from pathlib import Path
from typing import Any

# config.json, manifests and settings have some kilobytes; the tokenizer.json of a large
# vocabulary has 30 MB, and a header of safetensors is limited to 100 MB.
MAX_BYTES = 100_000_000


def parse_json(content: bytes, source: str) -> Any:
    """The value of a JSON text in UTF-8, with or without a byte order mark.

    Args:
      content: the text.
      source: what it was read from, for the error.

    Raises:
      ValueError: if it is no JSON in UTF-8, is nested too deeply, or has an integer of
        thousands of digits.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source}: not JSON in UTF-8 (byte {error.start} is "
            f"0x{content[error.start]:02x})"
        ) from None
    except RecursionError:
        raise ValueError(f"{source}: not JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{source}: not JSON ({error!s:.200})") from None


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
