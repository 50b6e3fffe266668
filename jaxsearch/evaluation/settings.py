"""The settings of an evaluation or a selection, recorded in its folder.

A command that continues in the folder must have the same settings.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import json_lines
from jaxsearch.evaluation.question_sets import SetRecord
from jaxsearch.json_files import read_json_object
from jaxsearch.json_types import typed
from jaxsearch.run.config_record import difference
from jaxsearch.run.folder_lock import is_lock_file
from jaxsearch.run.old_names import with_new_names

FILE_NAME = "settings.json"
EVALUATION = "evaluation"  # kind of folder, in messages


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
    if out.exists() and not (out.is_dir() and all(map(_is_leftover, out.iterdir()))):
        raise ValueError(
            f"{out} is not empty and holds no {kind} (no {FILE_NAME}); set --out to a "
            f"new folder, or to that of the {kind} to resume"
        )
    return None


def _is_leftover(path: Path) -> bool:
    """Whether a command leaves such a file if it is killed before its settings."""
    return is_lock_file(path.name) or json_lines.is_temporary(path.name, FILE_NAME)


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


def claim_evaluation(
    out: Path, settings: Mapping[str, Any], labels: Mapping[str, Any]
) -> None:
    """Checks that the folder is new or of this evaluation, and records the settings.

    Args:
      out: the folder.
      settings: everything that determines the evaluation, as JSON values.
      labels: name of the model and others that errors show.

    Raises:
      ValueError: if it is not; the error shows both evaluations.
    """
    there = read_settings(out, EVALUATION)
    if there is None:
        write_settings(out, {"labels": dict(labels), **settings})
        return
    where = out / FILE_NAME
    theirs = typed(there.pop("labels", {}), dict[str, Any], f"{where}: labels")
    theirs_sets = typed(
        there.get("questions"), list[SetRecord], f"{where}: the sets of questions"
    )
    if there.get("policy") != settings.get("policy"):
        raise ValueError(
            f"{out} holds another {EVALUATION}: of {_shown(theirs)} there and of "
            f"{_shown(labels)} here; choose another folder with --out"
        )
    here = json.loads(json.dumps(settings))
    here_sets = typed(here["questions"], list[SetRecord], "the sets of questions")
    if _digests(theirs_sets) != _digests(here_sets):
        there_text, here_text = (
            ", ".join(map(_set_text, sets)) for sets in (theirs_sets, here_sets)
        )
        raise ValueError(
            f"{out} holds another {EVALUATION}: of {there_text:.2000} there and of "
            f"{here_text:.2000} here; choose another folder with --out"
        )
    # The question files may have been moved.
    there["questions"] = here["questions"]
    check_settings(out, there, here, EVALUATION)


def _shown(labels: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} {value}" for name, value in labels.items())
    return f"{text:.1000}"


def _set_text(record: SetRecord) -> str:
    """A set of questions in words, from its record."""
    source, seed = record.source or "the run's own", record.sample_seed
    chosen = "" if seed is None else f", sampled with seed {seed}"
    return (
        f"{record.name} ({record.n} of {record.of} questions, {source}"
        f"{chosen}, digest {record.digest})"
    )


def _digests(sets: Sequence[SetRecord]) -> list[tuple[str, str]]:
    return [(one.name, one.digest) for one in sets]
