"""Names of config values that are functions or objects, as text and in JSON."""

import collections.abc
import dataclasses
import difflib
import functools
import importlib
import operator
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from jaxsearch.models.decode_kernels import DECODE_KERNELS
from jaxsearch.models.kernels import DecodeKernel, RowKernel
from jaxsearch.models.row_kernels import ROW_KERNELS
from jaxsearch.rewards.tasks import TASKS, Task
from jaxsearch.rl import advantages, aggregation, losses
from jaxsearch.run.old_names import OLD_VALUES
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.index import Retriever


def _public_functions(*modules: types.ModuleType) -> dict[str, Any]:
    """The public functions defined in these modules, by name; not the imported ones."""
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, type)
        and callable(value)
        and value.__module__ == module.__name__
    }


# Type of a config field -> its values that have a short name. A value of a type listed
# here is written as one name in config.json and on the command line, even if the type
# is a dataclass.
SHORT_NAMES: dict[Any, Mapping[str, Any]] = {
    collections.abc.Callable: _public_functions(advantages, aggregation, losses),
    Task: TASKS,
    Encoder: {},
    RowKernel: ROW_KERNELS,
    DecodeKernel: DECODE_KERNELS,
    Retriever: {},
}


def value_kind(hint: Any) -> Any:
    """The key of SHORT_NAMES that a field's type belongs to; None for plain values."""
    for option in _options(hint):
        if typing.get_origin(option) is collections.abc.Callable:
            return collections.abc.Callable
        if option in SHORT_NAMES:
            return option
    return None


def value_text(value: Any, kind: Any) -> str:
    """A config value as text: its short name, or `module:qualname`."""
    if name := short_name(value, kind):
        return name
    if isinstance(value, functools.partial):
        keywords = ", ".join(f"{k}={v!r}" for k, v in value.keywords.items())
        return f"{value_text(value.func, kind)} with {keywords}"
    return _qualified(value) or constant_name(value) or repr(value)


def value_named(text: str, kind: Any) -> Any:
    """The value with a short name of this kind, or at `module:qualname`.

    Raises:
      ValueError: if the name is unknown, cannot be imported, or has a value of another
        kind.
    """
    names = SHORT_NAMES.get(kind, {})
    if text in names:
        return names[text]
    if ":" in text:
        value = imported(text)
        if dataclasses.is_dataclass(kind) and not isinstance(value, kind):
            raise ValueError(
                f"expected {text} to be a {kind.__name__}, got {type(value).__name__}"
            )
        return value
    near = difflib.get_close_matches(text, names)
    hint = f" (near it: {', '.join(near)})" if near else ""
    raise ValueError(
        f"unknown name {text!r}{hint}; expected {_one_of(names)}package.module:NAME"
    )


def imported(name: str) -> Any:
    """The object at `module:qualname`; names of earlier versions are translated.

    Raises:
      ValueError: if it cannot be imported.
    """
    name = OLD_VALUES.get(name, name)
    module, _, qualname = name.partition(":")
    try:
        return operator.attrgetter(qualname)(importlib.import_module(module))
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"{name} of a config cannot be imported ({type(error).__name__}: {error}); "
            "functions and objects of a config must be defined in an importable "
            "module, so that they can be recorded by name in the run's folder"
        ) from error


def short_name(value: Any, kind: Any) -> str:
    """The short name of a value; "" if it has none."""
    names = SHORT_NAMES.get(kind, {})
    return next((name for name, known in names.items() if known is value), "")


def constant_name(value: Any) -> str:
    """`module:NAME` of the constant that is identical to `value`; "" if there is none.

    The module of the value's class is searched first, then the others by name.
    """
    home = type(value).__module__
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
        neither a dataclass nor a constant of an importable module.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [recorded(item, _item(hint)) for item in value]
    if isinstance(value, dict):
        return {key: recorded(item) for key, item in value.items()}
    kind = value_kind(hint)
    if isinstance(value, functools.partial):
        return _recorded_partial(value)
    if name := _qualified(value):
        return {"function": name} if kind is None else name
    if kind not in (None, collections.abc.Callable):
        if name := short_name(value, kind) or constant_name(value):
            return name
    if dataclasses.is_dataclass(value):
        return _recorded_dataclass(value, hint)
    if name := constant_name(value):
        return name if kind is not None else {"function": name}
    raise ValueError(
        f"{value!r:.80} cannot be recorded in a run's folder: make it a frozen "
        "dataclass, or a constant of an importable module"
    )


def _recorded_partial(value: functools.partial) -> dict[str, Any]:
    if value.args:
        raise ValueError(
            "a functools.partial in a config may have keyword arguments only, got "
            f"{value.args!r} for {value.func.__qualname__}"
        )
    function = _qualified(value.func) or recorded(value.func)
    return {"function": function, "keywords": recorded(value.keywords)}


def _recorded_dataclass(value: Any, hint: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(type(value))
    fields = {
        field.name: recorded(vars(value)[field.name], hints[field.name])
        for field in dataclasses.fields(value)
    }
    options = _options(hint)
    if options == [type(value)] and value_kind(hint) is None:
        return fields
    if type(value) in options and len(options) > 1:
        return {"kind": type(value).__name__, **fields}
    return {"object": _qualified(type(value)), "fields": fields}


def restored(record: Any, hint: Any = Any) -> Any:
    """The inverse of `recorded`: a value from its JSON.

    Raises:
      ValueError: for a value that cannot be imported.
      KeyError: for a field that the class does not have.
      TypeError: for a field that is missing.
    """
    kind = value_kind(hint)
    if isinstance(record, list):
        return tuple(restored(item, _item(hint)) for item in record)
    if isinstance(record, str):
        is_text = kind is None or (str in _options(hint) and ":" not in record)
        return record if is_text else value_named(record, kind)
    if not isinstance(record, dict):
        return record
    if "function" in record:
        function = restored(record["function"], Callable[..., Any])
        keywords = {k: restored(v) for k, v in record.get("keywords", {}).items()}
        return functools.partial(function, **keywords) if keywords else function
    if "object" in record:
        return _restored_dataclass(imported(record["object"]), record["fields"])
    classes = [option for option in _options(hint) if dataclasses.is_dataclass(option)]
    if "kind" in record:
        by_name = {option.__name__: option for option in classes}
        fields = {key: item for key, item in record.items() if key != "kind"}
        return _restored_dataclass(by_name[record["kind"]], fields)
    if classes:
        return _restored_dataclass(classes[0], record)
    return {key: restored(item) for key, item in record.items()}


def _restored_dataclass(kind: type, fields: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{key: restored(item, hints[key]) for key, item in fields.items()})


def _qualified(value: Any) -> str:
    """`module:qualname` of a function or class; "" for anything else."""
    named = types.FunctionType | types.BuiltinFunctionType | types.MethodType | type
    return (
        f"{value.__module__}:{value.__qualname__}" if isinstance(value, named) else ""
    )


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
