"""Checks JSON values against Python types and dataclasses."""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

# Range of integers that 64-bit arrays can hold.
_MAX_INT = 2**63 - 1
_NAMES = {
    **{bool: "true or false", int: "a 64-bit integer", float: "a number"},
    **{str: "a text", list: "a list", tuple: "a list", dict: "an object"},
    **{Mapping: "an object", types.NoneType: "null"},
}


def typed(value: Any, hint: Any, where: str) -> Any:
    """Converts a JSON value to its type: lists to tuples, objects to dataclasses.

    Args:
      value: the value.
      hint: `Any`, `None`, `bool`, `int`, `float`, `str`, a list, tuple (of any length),
        dict or `Mapping` of such, an enum of texts, a dataclass of such, or a union.
      where: what the value is; the error begins with it.

    Raises:
      ValueError: if the value is of another type, or an object lacks a field or has one
        that the dataclass does not have.
    """
    if hint is Any:
        return value
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        origin = typing.get_origin(option) or option
        if is_of(value, origin):
            return _made(value, option, origin, where)
    expected = " or ".join(_name(option) for option in options)
    raise ValueError(f"{where} must be {expected}, got {value!r:.80}")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _name(hint: Any) -> str:
    if _is_enum(hint):
        return f"one of {', '.join(hint)}"
    return _NAMES.get(typing.get_origin(hint) or hint, "an object")


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.StrEnum)


def is_of(value: Any, kind: Any) -> bool:
    """Whether JSON is of this kind: a list for `tuple`, an object for a dataclass."""
    if kind is int:
        # In Python, a bool is an int.
        return type(value) is int and -_MAX_INT <= value <= _MAX_INT
    if kind is float:
        return type(value) is float or is_of(value, int)
    if _is_enum(kind):
        return isinstance(value, str) and value in [*kind]
    if dataclasses.is_dataclass(kind) or kind is Mapping:
        return isinstance(value, dict)
    return isinstance(value, list if kind is tuple else kind)


def _made(value: Any, hint: Any, kind: Any, where: str) -> Any:
    inner = typing.get_args(hint)
    if kind in (list, tuple):
        item = inner[0] if inner else Any
        return kind(typed(one, item, f"{where}[{i}]") for i, one in enumerate(value))
    if kind in (dict, Mapping):
        item = inner[1] if inner else Any
        return {k: typed(one, item, f"{where}.{k:.40}") for k, one in value.items()}
    if dataclasses.is_dataclass(kind):
        return _object(value, kind, where)
    return kind(value) if kind is float or _is_enum(kind) else value


def _object(value: dict[str, Any], kind: Any, where: str) -> Any:
    hints = _hints(kind)
    if unknown := value.keys() - hints.keys():
        raise ValueError(f"{where} has the unknown field {min(unknown)!r:.60}")
    for field in dataclasses.fields(kind):
        has_default = field.default is not dataclasses.MISSING
        if field.name not in value and not has_default:
            raise ValueError(f"{where} has no {field.name!r}")
    return kind(**{k: typed(one, hints[k], f"{where}.{k}") for k, one in value.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
