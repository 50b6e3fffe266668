"""A config as a file: read from Python, written as JSON, compared, restored."""

import collections.abc
import dataclasses
import difflib
import functools
import importlib
import traceback
import typing
from pathlib import Path
from typing import Any

from jaxsearch.config import RLStage, RunConfig, SupervisedStage

# Of the guards: the others watch, and change nothing that a run learns.
_DECIDING_GUARDS = ("drops_non_finite", "drops_overlong")
_STAGES = {kind.__name__: kind for kind in (SupervisedStage, RLStage)}


def resolved(config: Any) -> Any:
    """A config as JSON values; functions become `module:qualname`.

    A `functools.partial` with keywords becomes an object of both.
    """
    if dataclasses.is_dataclass(config):
        fields = {
            field.name: resolved(value)
            for field in dataclasses.fields(config)
            for value in [vars(config)[field.name]]
        }
        is_stage = isinstance(config, SupervisedStage | RLStage)
        return {"kind": type(config).__name__, **fields} if is_stage else fields
    if isinstance(config, tuple | list):
        return [resolved(item) for item in config]
    if isinstance(config, functools.partial):
        if config.args:
            raise ValueError(
                f"a partial of a config takes keywords alone, got {config.args!r} for "
                f"{config.func.__qualname__}"
            )
        return {"function": resolved(config.func), "keywords": config.keywords}
    if callable(config):
        return f"{config.__module__}:{config.__qualname__}"
    return config


def identity(config: RunConfig) -> dict[str, Any]:
    """What makes a run that run: all of it but steps, out, logging.

    Nor does patience with the retriever: a run that it failed may go on with more.
    Nor LoRA that is off: what it says of targets decides nothing. Nor when guards
    raise an alarm.
    """
    fields = resolved(config)
    for name in ("attempts", "timeout_s"):
        del fields["retrieval"][name]
    fields["guards"] = {name: fields["guards"][name] for name in _DECIDING_GUARDS}
    if not config.model.lora.rank:
        del fields["model"]["lora"]
    return {k: v for k, v in fields.items() if k not in ("steps", "out", "logging")}


def difference(first: Any, second: Any, path: str = "") -> str:
    """The first place where two resolved configs differ, in words; "" if none."""
    if isinstance(first, dict) and isinstance(second, dict):
        pairs = [(f"{path}.{key}".strip("."), key) for key in first | second]
        parts = (difference(first.get(k), second.get(k), where) for where, k in pairs)
        return next((part for part in parts if part), "")
    if isinstance(first, list) and isinstance(second, list):
        if len(first) == len(second):
            parts = (
                difference(a, b, f"{path}.{i}")
                for i, (a, b) in enumerate(zip(first, second, strict=True))
            )
            return next((part for part in parts if part), "")
    return "" if first == second else f"{path} is {first!r} there and {second!r} here"


def read_config(path: str) -> RunConfig:
    """The `config` of a Python file, with the run folder filled in.

    Errors: ValueError if there is no such file, it fails, or it has no RunConfig.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(
            file.name, [p.name for p in file.parent.glob("*.py")]
        )
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ValueError(f"config file {path} does not exist{hint}")
    names: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(compile(file.read_text(), str(file), "exec"), names)
    except Exception as error:  # a user's file may raise anything
        at = traceback.extract_tb(error.__traceback__)[-1]
        is_own = Path(at.filename).resolve() == file.resolve()
        where = f", line {at.lineno}" if is_own else ""
        raise ValueError(
            f"config file {path}{where}: {type(error).__name__}: {error}"
        ) from error
    config = names.get("config")
    if not isinstance(config, RunConfig):
        raise ValueError(
            f"config file {path} must define `config = RunConfig(...)`, "
            f"got {type(config).__name__}"
        )
    return (
        config if config.out else dataclasses.replace(config, out=f"runs/{file.stem}")
    )


def check_restorable(config: RunConfig) -> None:
    """Errors: ValueError where a run's folder could not tell what the run was."""
    restored(resolved(config))


def restored(fields: dict[str, Any]) -> RunConfig:
    """The config that `resolved` made these JSON values of.

    Errors: ValueError for a function that cannot be imported (it must not be
    defined in a config file) or a field that this version does not have.
    """
    try:
        return _build(RunConfig, fields)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"this config was written by another version of jaxsearch: {error}"
        ) from None


def _build(kind: type, fields: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in fields.items():
        hint = hints[name]
        if name == "stages":
            value = tuple(
                _build(
                    _STAGES[stage["kind"]],
                    {key: item for key, item in stage.items() if key != "kind"},
                )
                for stage in value
            )
        elif dataclasses.is_dataclass(hint):
            value = _build(hint, value)
        elif typing.get_origin(hint) is collections.abc.Callable:
            value = _function(value)
        values[name] = value
    return kind(**values)


def _function(name: str | dict[str, Any]) -> Any:
    if isinstance(name, dict):
        return functools.partial(_function(name["function"]), **name["keywords"])
    module, _, qualname = name.partition(":")
    try:
        return vars(importlib.import_module(module))[qualname]
    except (ImportError, KeyError):
        raise ValueError(
            f"function {name} of a config cannot be imported; functions of a config "
            "must live in an importable module"
        ) from None


def overridden(config: RunConfig, overrides: list[str], name: str) -> RunConfig:
    """The config with `--field value` overrides; --help lists every field.

    Exits with status 2 and near names for an unknown field or a malformed value.
    """
    import tyro

    return tyro.cli(
        RunConfig,
        prog=f"jaxsearch train {name}",
        description=f"Overrides for {name}.",
        default=config,
        args=overrides,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )
