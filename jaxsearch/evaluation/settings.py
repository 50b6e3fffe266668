"""The settings of an evaluation or a selection, recorded in its folder.

A command that continues in the folder must have the same settings.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsearch import json_lines
from jaxsearch.json_files import read_json_object
from jaxsearch.run.config_record import difference
from jaxsearch.run.old_names import with_new_names

FILE_NAME = "settings.json"


def read_settings(out: Path, kind: str) -> dict[str, Any] | None:
    """The settings that a folder records; None if it is new or empty.

    Args:
      out: the folder.
      kind: the expected content, such as "evaluation".

    Raises:
      ValueError: if it contains something else.
    """
    path = out / FILE_NAME
    if path.is_file():
        return with_new_names(read_json_object(path))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"{out} is not empty and holds no {kind} (no {FILE_NAME}); set --out to a "
            f"new folder, or to that of the {kind} to resume"
        )
    return None


def check_settings(
    out: Path, there: Mapping[str, Any], here: Mapping[str, Any], kind: str
) -> None:
    """Checks that a folder has these settings.

    Raises:
      ValueError: if it has others; the error states the first difference.
    """
    if differs := difference(dict(there), dict(here)):
        raise ValueError(
            f"{out} holds another {kind}: {differs}; choose another folder with --out"
        )


def write_settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Records the settings; creates the folder if needed."""
    out.mkdir(parents=True, exist_ok=True)
    json_lines.replace_file(
        out / FILE_NAME, json.dumps(dict(settings), indent=2).encode()
    )
