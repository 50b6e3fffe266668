"""Names of config values that are functions or objects, as text and in JSON."""

import collections.abc
import dataclasses
import difflib
import functools
import operator
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxsearch.config import (
    AdvantageFunction,
    AggregationFunction,
    EnvironmentFunction,
)
from jaxsearch.env.search import search_only
from jaxsearch.json_types import is_of
from jaxsearch.models.decode_kernels import DECODE_KERNELS
from jaxsearch.models.kernels import DecodeKernel, RowKernel
from jaxsearch.models.row_kernels import ROW_KERNELS
from jaxsearch.rewards.own import RewardFunction
from jaxsearch.rewards.tasks import TASKS, Task
from jaxsearch.rl import advantages, aggregation, losses
from jaxsearch.rl.objectives import KLFunction, LogRatioFunction
from jaxsearch.run.old_names import OLD_VALUES
from jaxsearch.run.trust import named_in_folder
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index import Retriever
from jaxsearch.user_code import import_named
from jaxsearch.web.brave import BRAVE
from jaxsearch.web.google import GOOGLE
from jaxsearch.web.provider import WebProvider
from jaxsearch.web.searxng import SEARXNG
from jaxsearch.web.serpapi import SERPAPI
from jaxsearch.web.serper import SERPER


def _by_name(*functions: Callable[..., Any]) -> dict[str, Any]:
    return {function.__name__: function for function in functions}


# Type of a config field -> its values that have a short name. A type listed here is
# one value on the command line and in config.json, even if it is a dataclass; so is a
# `Callable` of any kind.
SHORT_NAMES: dict[Any, Mapping[str, Any]] = {
    AdvantageFunction: _by_name(
        advantages.group_relative,
        advantages.group_relative_population,
        advantages.group_centred,
        advantages.leave_one_out,
        advantages.plain_reward,
    ),
    AggregationFunction: _by_name(
        aggregation.token_mean,
        aggregation.sequence_mean,
        aggregation.sequence_sum,
        aggregation.fixed_length,
    ),
    LogRatioFunction: _by_name(losses.token_log_ratio, losses.sequence_log_ratio),
    KLFunction: _by_name(
        *(losses.kl_k1, losses.kl_k2, losses.kl_k3, losses.kl_abs),
        *(losses.kl_k1_straight, losses.kl_k3_straight),
    ),
    EnvironmentFunction: _by_name(search_only),
    Task: TASKS,
    RewardFunction: {"task": None},
    Encoder: {},
    RowKernel: ROW_KERNELS,
    DecodeKernel: DECODE_KERNELS,
    Retriever: {},
    WebProvider: {
        "none": None,
        "serper": SERPER,
        "serpapi": SERPAPI,
        "brave": BRAVE,
        "searxng": SEARXNG,
        "google": GOOGLE,
    },
}


def value_kind(hint: Any) -> Any:
    """The `Callable` or key of SHORT_NAMES in a field's type; None for plain values."""
    for option in _options(hint):
        if is_function_kind(option):
            return option
        # Tyro also asks about the argument list of a Callable.
        if isinstance(option, collections.abc.Hashable) and option in SHORT_NAMES:
            return option
    return None


def is_function_kind(kind: Any) -> bool:
    """Whether the values of a field are functions or other callables."""
    return typing.get_origin(kind) is collections.abc.Callable


def value_text(value: Any, kind: Any) -> str:
    """A config value as text: its short name, or `module:qualname`."""
    if name := short_name(value, kind):
        return name
    if isinstance(value, functools.partial):
        keywords = ", ".join(f"{k}={v!r}" for k, v in value.keywords.items())
        return f"{value_text(value.func, kind)} with {keywords}"
    return _qualified(value) or constant_name(value) or repr(value)


def value_named(text: str, kind: Any, *folders: Path) -> Any:
    """The value with a short name of this kind, or at `module:qualname`.

    Args:
      text: the name.
      kind: as `value_kind` gives it.
      folders: folders to search for the module, as `imported` does.

    Raises:
      ValueError: if the name is unknown, cannot be imported, or has a value of another
        kind.
    """
    return _named(text, kind, lambda name: imported(name, *folders))


def _named(text: str, kind: Any, resolve: Callable[[str], Any]) -> Any:
    """`value_named`, with the function that finds `module:qualname`."""
    names = SHORT_NAMES.get(kind, {})
    if text in names:
        return names[text]
    if ":" in text:
        value = resolve(text)
        is_function = callable(value)
        if kind == RewardFunction:  # or several of them, which the config checks
            is_function = is_function or isinstance(value, tuple | list)
        if is_function_kind(kind) and not is_function:
            raise ValueError(
                f"expected {text} to be a function, got {type(value).__name__}"
            )
        if dataclasses.is_dataclass(kind) and not isinstance(value, kind):
            raise ValueError(
                f"expected {text} to be a {kind.__name__}, got {type(value).__name__}"
            )
        return value
    near = difflib.get_close_matches(text, names)
    hint = f" (near it: {', '.join(near)})" if near else ""
    raise ValueError(
        f"unknown name {text!r:.100}{hint}; expected {_one_of(names)}"
        "package.module:NAME or path/to/file.py:NAME"
    )


def imported(name: str, *folders: Path) -> Any:
    """The object at `module:qualname`; names of earlier versions are translated.

    Args:
      name: the module, or the path of a file, and the name in it.
      folders: folders to search, with the current one, for a module that Python does
        not find.

    Raises:
      ValueError: if it cannot be imported.
    """
    name = OLD_VALUES.get(name, name)
    module, _, qualname = name.rpartition(":")
    try:
        return operator.attrgetter(qualname)(import_named(module, *folders))
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"{name} of a config cannot be imported ({type(error).__name__}: {error}"
            f"{_near_names(error)}); functions and objects of a config must be defined "
            "in an importable module, so that they can be recorded by name in the "
            "run's folder; one of your own must be beside the config, in the current "
            "folder or on PYTHONPATH, or named as path/to/file.py:NAME"
        ) from error


def _near_names(error: Exception) -> str:
    """A hint such as "; near it: frugal" after a name that a module lacks, or ""."""
    if not isinstance(error, AttributeError) or not isinstance(
        error.obj, types.ModuleType
    ):
        return ""
    near = difflib.get_close_matches(error.name, vars(error.obj))
    return f"; near it: {', '.join(near)}" if near else ""


def short_name(value: Any, kind: Any) -> str:
    """The short name of a value; "" if it has none."""
    names = SHORT_NAMES.get(kind, {})
    return next((name for name, known in names.items() if known is value), "")


def constant_name(value: Any) -> str:
    """`module:NAME` of the constant that is identical to `value`; "" if there is none.

    The module of a function, or of the value's class, comes first, then the others by
    name.
    """
    home = (value if isinstance(value, _NAMED) else type(value)).__module__
    for module_name in sorted(sys.modules, key=lambda name: (name != home, name)):
        module = sys.modules[module_name]
        if module_name == "__main__" or not isinstance(module, types.ModuleType):
            continue
        for name, candidate in list(vars(module).items()):
            if candidate is value and not name.startswith("_"):
                return f"{module_name}:{name}"
    return ""


def recorded(value: Any, hint: Any = Any) -> Any:
    """A value as JSON; `restored` with the same type hint is the inverse.

    Functions become `module:qualname`, a `functools.partial` becomes {"function",
    "keywords"}, an instance of a dataclass {"object": "module:Class", "fields"}. If
    the class is the declared type, only the fields are written.

    Raises:
      ValueError: for a partial with positional arguments, or an object that is
        neither a function, nor a dataclass, nor a constant of an importable module.
        The method of an object and a function that replaces another with
        `functools.wraps` count as objects: their names are those of other functions.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [recorded(item, _item(hint)) for item in value]
    if isinstance(value, dict):
        return {key: recorded(item) for key, item in value.items()}
    kind = value_kind(hint)
    if isinstance(value, functools.partial):
        if not (value.args or value.keywords):
            return recorded(value.func, hint)
        return _recorded_partial(value)
    _check_importable(value)
    if name := _qualified(value):
        return {"function": name} if kind is None else name
    if kind is not None and not is_function_kind(kind):
        if name := short_name(value, kind) or constant_name(value):
            return name
    if dataclasses.is_dataclass(value):
        return _recorded_dataclass(value, hint)
    if name := constant_name(value):
        return name if kind is not None else {"function": name}
    raise ValueError(
        f"{value!r:.80} cannot be recorded in a run's folder: make it a function "
        "of an importable module, a frozen dataclass, or a constant of an importable "
        "module"
    )


def _check_importable(value: Any) -> None:
    """Checks that the module of a function or class can be imported.

    Importing a config file would make another function of the same name.

    Raises:
      ValueError: if a config file defines it.
    """
    if isinstance(value, _NAMED) and value.__module__ not in sys.modules:
        raise ValueError(
            f"{value.__module__}:{value.__qualname__} of a config cannot be imported, "
            "because the config file defines it; functions and objects of a config "
            "must be defined in an importable module: move it to a file beside the "
            "config, and import it from there"
        )


def _recorded_partial(value: functools.partial) -> dict[str, Any]:
    if value.args:
        raise ValueError(
            f"a partial of a config takes keywords alone, got {value.args!r} for "
            f"{value_text(value.func, None)}"
        )
    function = _qualified(value.func) or recorded(value.func)
    return {"function": function, "keywords": recorded(value.keywords)}


def _recorded_dataclass(value: Any, hint: Any) -> dict[str, Any]:
    hints = _field_hints(type(value))
    # A field that is not an argument of the class is computed from those that are.
    fields = {
        field.name: recorded(getattr(value, field.name), hints[field.name])
        for field in dataclasses.fields(value)
        if field.init
    }
    options = _options(hint)
    if options == [type(value)] and value_kind(hint) is None:
        return fields
    if type(value) in options and len(options) > 1:
        return {"kind": type(value).__name__, **fields}
    _check_importable(type(value))
    name = _qualified(type(value))
    if not name:
        raise ValueError(
            f"{value!r:.80} cannot be recorded in a run's folder: its class is not the "
            f"one that is called {type(value).__qualname__} in its module"
        )
    return {"object": name, "fields": fields}


def restored(
    record: Any, hint: Any = Any, resolve: Callable[[str], Any] = named_in_folder
) -> Any:
    """The inverse of `recorded`: a value from its JSON.

    Args:
      record: the JSON.
      hint: type of the value.
      resolve: finds the object at `module:qualname`; by default only those that a
        folder may name.

    Raises:
      ValueError: for a value that cannot be imported, is not trusted, or has another
        type than its field.
      KeyError: for a field that the class does not have.
      TypeError: for a field that is missing.
    """
    kind = value_kind(hint)
    if isinstance(record, list):
        return tuple(restored(item, _item(hint), resolve) for item in record)
    if isinstance(record, str):
        is_text = kind is None or (str in _options(hint) and ":" not in record)
        return record if is_text else _named(record, kind, resolve)
    if not isinstance(record, dict):
        return record
    if "function" in record:
        function = restored(record["function"], Callable[..., Any], resolve)
        if not callable(function):
            raise ValueError(f"expected the name of a function, got {record!r:.80}")
        keywords = {
            name: restored(item, Any, resolve)
            for name, item in record.get("keywords", {}).items()
        }
        return functools.partial(function, **keywords) if keywords else function
    if "object" in record:
        kind = resolve(record["object"])
        # Calling anything else would be running what the record names.
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise ValueError(f"{record['object']!r:.80} must be a dataclass")
        return _restored_dataclass(kind, record["fields"], resolve)
    classes = [option for option in _options(hint) if dataclasses.is_dataclass(option)]
    if "kind" in record:
        by_name = {option.__name__: option for option in classes}
        fields = {key: item for key, item in record.items() if key != "kind"}
        return _restored_dataclass(by_name[record["kind"]], fields, resolve)
    if classes:
        return _restored_dataclass(classes[0], record, resolve)
    return {key: restored(item, Any, resolve) for key, item in record.items()}


def _restored_dataclass(
    kind: type, fields: dict[str, Any], resolve: Callable[[str], Any]
) -> Any:
    hints = _field_hints(kind)
    # The annotations of a user's own class may be anything.
    is_ours = kind.__module__.partition(".")[0] == "jaxsearch"
    for name, item in fields.items():
        hint = hints[name]
        if is_ours and not _fits(item, hint):
            expected = hint.__name__ if isinstance(hint, type) else str(hint)
            raise ValueError(
                f"{kind.__name__}.{name} must be {expected:.100}, got {item!r:.80}"
            )
    return kind(
        **{name: restored(item, hints[name], resolve) for name, item in fields.items()}
    )


def _fits(record: Any, hint: Any) -> bool:
    """Whether JSON can be that of a value of this type."""
    if value_kind(hint) is not None:
        return True
    if record is None:
        return hint is Any or types.NoneType in typing.get_args(hint)
    return any(_fits_one(record, option) for option in _options(hint))


def _fits_one(record: Any, option: Any) -> bool:
    kind = typing.get_origin(option) or option
    if kind is typing.Literal:
        return record in typing.get_args(option)
    is_known = kind in (bool, int, float, str, tuple) or dataclasses.is_dataclass(kind)
    return not is_known or is_of(record, kind)


def _field_hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields.

    They are all Any for a class whose annotations cannot be resolved, as in a config
    file with `from __future__ import annotations`.
    """
    try:
        return typing.get_type_hints(kind)
    except NameError:
        return {field.name: Any for field in dataclasses.fields(kind)}


_NAMED = types.FunctionType | types.BuiltinFunctionType | types.MethodType | type


def _qualified(value: Any) -> str:
    """`module:qualname` of a function or class; "" for anything else.

    "" also for a function whose name leads to another object. The name of a function
    that cannot be found, such as a lambda, is kept; `imported` refuses it.
    """
    if not isinstance(value, _NAMED):
        return ""
    name = f"{value.__module__}:{value.__qualname__}"
    try:
        there = operator.attrgetter(value.__qualname__)(sys.modules[value.__module__])
    except (AttributeError, KeyError):
        return constant_name(value) or name
    return name if there == value else ""


def _options(hint: Any) -> list[Any]:
    """The members of a union without None; `[hint]` if it is not a union."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
    return [hint]


def _item(hint: Any) -> Any:
    """Type hint of the items of `tuple[X, ...]`; Any for other hints."""
    arguments = typing.get_args(hint)
    return arguments[0] if typing.get_origin(hint) is tuple and arguments else Any


def _one_of(names: Mapping[str, Any]) -> str:
    return f"one of {', '.join(names)} or " if names else ""
