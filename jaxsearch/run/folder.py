"""A run's folder: its record, and checks that it belongs to the same run."""

import dataclasses
import datetime
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxsearch import processes
from jaxsearch.config import RunConfig
from jaxsearch.json_files import read_json
from jaxsearch.json_lines import is_temporary, replace_file
from jaxsearch.json_types import typed
from jaxsearch.local_paths import check_local
from jaxsearch.run.config_record import (
    code_folders,
    difference,
    identity,
    lasting,
    lasting_fields,
    resolved,
    restored,
    trust_config,
)
from jaxsearch.run.folder_lock import is_lock_file
from jaxsearch.run.heldout_split import (
    heldout_path,
    is_heldout_file,
    reads_heldout_path,
)
from jaxsearch.run.old_names import with_new_names
from jaxsearch.run.trust import UntrustedError, named_in_folder
from jaxsearch.user_code import is_importable

# Types of the record's fields that are read individually.
_RECORDED: dict[str, Any] = {
    "model": dict,
    "frozen": str,
    "searched": dict,
    "origin": dict[str, str | int],
}
_PACKAGES = ("jaxsearch", "jax", "flax", "optax", "orbax-checkpoint", "transformers")


def check_identity(config: RunConfig) -> None:
    """Checks that the run's folder is new, or holds this run.

    Raises:
      ValueError: if it holds another run (the error states the first difference) or
        other files.
    """
    trust_config(config)
    folder = Path(config.out)
    if not folder.exists():
        return
    path = folder / "config.json"
    if not path.is_file():
        if folder.is_dir() and _is_new(config):
            return
        raise ValueError(
            f"{folder} exists and is not a run's folder (no config.json); choose "
            "another with --out"
        )
    # Recomputed from the record, which may use names of an earlier version.
    here = lasting(config)
    refusal = None
    try:
        there = lasting(read_run_config(folder))
    except UntrustedError as error:
        # It names code that this config does not have, so it is another run.
        refusal = error
        there = lasting_fields(with_new_names(read_record(folder)["identity"]))
    recorded_model = there.get("model") if isinstance(there, dict) else None
    if isinstance(recorded_model, dict) and not config.model.prompt_date:
        # The recorded date is used again; see `with_prompt_date`.
        recorded_model.pop("prompt_date", None)
    if refusal is not None and not difference(there, here):
        raise refusal
    if there != here:
        raise ValueError(
            f"{folder} holds another run: {difference(there, here)}; choose another "
            "folder with --out, or start a new run there with --fresh, which keeps "
            "that one under another name"
        )


def _is_new(config: RunConfig) -> bool:
    """Whether a folder has only what a run writes before `config.json`, or nothing.

    A run may have been interrupted there, or its disk was full.
    """
    if heldout_path(config).exists() and reads_heldout_path(config):
        return False  # the user's own
    return all(
        is_lock_file(path.name)
        or is_heldout_file(path.name)
        or is_temporary(path.name, "config.json")
        for path in Path(config.out).iterdir()
    )


def with_prompt_date(config: RunConfig) -> RunConfig:
    """The config with the day that chat templates read as today's.

    If it is not given, it is that of the run's record, or today for a new run (and for
    one that an earlier version started).
    """
    if config.model.prompt_date:
        return config
    folder, date = Path(config.out), ""
    if (folder / "config.json").is_file():
        model = read_record(folder).get("model", {})
        where = f"{folder}/config.json: model.prompt_date"
        date = typed(model.get("prompt_date", ""), str, where)
    # Processes may start on different days.
    date = processes.broadcast_from_primary(date or datetime.date.today().isoformat())
    model = dataclasses.replace(config.model, prompt_date=date)
    return dataclasses.replace(config, model=model)


def check_frozen(folder: Path, frozen: str) -> None:
    """Checks that the frozen weights are those that the run's adapters were trained on.

    Args:
      folder: the run's folder.
      frozen: fingerprint of the weights under the adapters.

    Raises:
      ValueError: if the folder records another fingerprint.
    """
    if not (folder / "config.json").is_file():
        return
    there = read_record(folder).get("frozen", "")
    if there != frozen:
        raise ValueError(
            f"{folder} was trained on other frozen weights (fingerprint {there!r} "
            f"there, {frozen!r} here): the model's folder has changed, or this jax "
            "version or device draws other random weights from the same seed; restore "
            "the old weights, or choose another folder with --out"
        )


def read_record(folder: Path) -> dict[str, Any]:
    """The `config.json` of a run's folder.

    Raises:
      ValueError: if it is missing or damaged.
    """
    check_local(folder, "the run's folder")
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a run's folder: it has no config.json")
    record = read_json(path)
    if not isinstance(record, dict) or "identity" not in record:
        raise ValueError(f"{path}: expected the record of a run, with an 'identity'")
    for name, kind in _RECORDED.items():
        if name in record:
            typed(record[name], kind, f"{path}: {name}")
    return record


def read_run_config(folder: Path) -> RunConfig:
    """The config of a run, read from its folder.

    A run may come from elsewhere, so its files decide about no code: modules of the
    user's that it names are imported only if they are trusted, and if Python finds them
    or the current folder has them.

    Raises:
      UntrustedError: if it names code that is not trusted (see `run.trust`).
      ValueError: if a module is not found, or the record is missing or damaged.
    """
    record = read_record(folder)
    code = record.get("code", {})

    def resolve(name: str) -> Any:
        module = name.rpartition(":")[0]
        where = code.get(module, "") if isinstance(code, dict) else ""
        try:
            return named_in_folder(name)
        except UntrustedError as error:
            hint = f"; it was in {where!s:.500} when the run started" if where else ""
            raise UntrustedError(f"{folder}/config.json: {error}{hint}") from None
        except ValueError as error:
            if not where or is_importable(module):
                raise
            raise ValueError(
                f"{folder} names your module {module!r:.200}, which was in "
                f"{where!s:.500} when the run started; run the command in its folder, "
                "or with that folder on PYTHONPATH"
            ) from error

    names = [field.name for field in dataclasses.fields(RunConfig)]
    # Sections that an earlier version did not have keep their defaults.
    fields = {name: record[name] for name in names if name in record}
    return dataclasses.replace(restored(fields, resolve), out=str(folder))


def write_record(
    config: RunConfig,
    frozen: str,
    searched: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Writes `config.json`: the resolved config, versions, git revision and devices.

    Args:
      config: the run's config.
      frozen: fingerprint of the weights under adapters; "" without adapters.
      searched: what its search servers search; None without servers.
      origin: where the policy of a warm start came from; None for none.
    """
    import jax

    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    fields = resolved(config)
    record = {
        **fields,
        "code": code_folders(fields),
        "identity": identity(config),
        "frozen": frozen,
        "searched": dict(searched or {}),
        **({"origin": origin} if origin else {}),
        "versions": {name: metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "git_revision": _git_revision(),
        "devices": [str(device) for device in jax.devices()],
    }
    replace_file(folder / "config.json", json.dumps(record, indent=2).encode())


def _git_revision() -> str:
    """The git revision of this package's checkout; "" if it is not in one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
