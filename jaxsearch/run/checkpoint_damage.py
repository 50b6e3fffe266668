"""Checkpoints whose files are not whole or not as they were written."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jaxsearch.json_files import read_json
from jaxsearch.run.checkpoint import CHECKPOINT_FOLDER, Progress, saved_steps
from jaxsearch.run.checkpoint_hashes import changed_file

_METADATA = "_CHECKPOINT_METADATA"  # of the checkpoint
_STATE = "state"  # folder of the arrays
_TREE = "_METADATA"  # of the arrays
_MANIFEST = "manifest.ocdbt"  # of the index of the arrays' files
_LOCATIONS = ("location", "indirect_value")  # of other nodes, and of values


def damage(checkpoint: Path, *, has_progress: bool) -> str:
    """Describes the first damaged file of a checkpoint; "" if all are intact.

    Files may be missing or cut short after a full disk or an interrupted copy, and a
    disk or a copy may have changed their bytes, which the recorded hashes show.

    Args:
      checkpoint: the checkpoint's folder.
      has_progress: whether the checkpoint records the progress of its run.
    """
    if not any(checkpoint.iterdir()):
        return "it is empty"
    try:
        metadata = _read_object(checkpoint, _METADATA)
        if has_progress:
            _check_progress(metadata.get("custom_metadata"))
        _read_object(checkpoint, f"{_STATE}/{_TREE}")
        _check_sizes(checkpoint / _STATE)
    except ValueError as error:
        return str(error)
    return changed_file(checkpoint)


def damaged_steps(run_folder: Path, newest: int | None = None) -> dict[int, str]:
    """The damaged checkpoints after the newest whole one: step -> what is wrong.

    Args:
      run_folder: the run's folder.
      newest: step after which checkpoints do not count; None for no limit.

    Raises:
      ValueError: if the run has checkpoints, but none of them is whole.
    """
    folder, found = run_folder / CHECKPOINT_FOLDER, {}
    steps = saved_steps(folder)
    for step in reversed([one for one in steps if newest is None or one <= newest]):
        reason = damage(folder / str(step), has_progress=True)
        if not reason:
            return found
        found[step] = reason
    if found:
        raise ValueError(
            f"{folder}: none of the checkpoints can be read: {described(found)}; "
            "restore one of them, or choose another folder with --out"
        )
    return found


def set_aside(run_folder: Path, damaged: dict[int, str]) -> str:
    """Renames damaged checkpoints, and says from which step the run continues.

    Their steps will be repeated and saved again.

    Args:
      run_folder: the run's folder.
      damaged: the result of `damaged_steps`, not empty.
    """
    folder = run_folder / CHECKPOINT_FOLDER
    for step in damaged:
        target = folder / f"damaged-{step}"
        shutil.rmtree(target, ignore_errors=True)
        (folder / str(step)).rename(target)
    step = saved_steps(folder)[-1]
    return (
        f"{folder}: damaged: {described(damaged)}; renamed, and the run continues "
        f"from step {step}"
    )


def described(damaged: dict[int, str]) -> str:
    """For example "step 4 (it is empty), step 3 (manifest.ocdbt is missing)"."""
    return ", ".join(f"step {step} ({reason})" for step, reason in damaged.items())


def _read_object(checkpoint: Path, name: str) -> dict[str, Any]:
    try:
        value = read_json(checkpoint / name)
    except FileNotFoundError:
        raise ValueError(f"{name} is missing") from None
    except ValueError:
        raise ValueError(f"{name} is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return value


def _check_progress(recorded: Any) -> None:
    names = {field.name for field in dataclasses.fields(Progress)}
    if not isinstance(recorded, dict) or recorded.keys() != names:
        raise ValueError(f"{_METADATA} does not have the run's progress")


def _check_sizes(state: Path) -> None:
    """Checks that the files of arrays have all bytes that their index refers to.

    Raises:
      ValueError: naming the file that is missing, damaged or too short.
    """
    if not (state / _MANIFEST).is_file():
        raise ValueError(f"{_STATE}/{_MANIFEST} is missing")
    for name, end in _references(state):
        size = (state / name).stat().st_size if (state / name).is_file() else 0
        if size < end:
            raise ValueError(f"{_STATE}/{name} has {size} of {end} bytes")


def _references(state: Path) -> Iterator[tuple[str, int]]:
    """Yields files of arrays, each with a byte position that it must reach.

    A node of the index is read only after its own reference has been yielded.

    Raises:
      ValueError: if the index is damaged.
    """
    import tensorstore

    store = tensorstore.KvStore.open(f"file://{state.resolve()}/").result()
    name = _MANIFEST
    try:
        manifest = tensorstore.ocdbt.dump(store).result()
        todo = [manifest["versions"][-1]["root"]["location"]]
        while todo:
            location = todo.pop()
            kind, folder, file, offset, length = location.split(":")
            name = unquote(folder) + unquote(file)
            yield name, int(offset) + int(length)
            if kind == "btreenode":
                node = tensorstore.ocdbt.dump(store, location).result()
                for entry in node["entries"]:
                    todo += [entry[key] for key in _LOCATIONS if key in entry]
    except (ValueError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{_STATE}/{name} is damaged: {reason:.150}") from None
