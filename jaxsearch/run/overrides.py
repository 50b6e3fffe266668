"""Overrides of config fields on the command line, `--field value`."""

import collections.abc
import sys
import types
import typing
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.run.config_values import (
    SHORT_NAMES,
    value_kind,
    value_named,
    value_text,
)
from jaxsearch.run.old_names import new_path


def overridden(config: RunConfig, overrides: list[str], prog: str) -> RunConfig:
    """The config with `--field value` overrides applied; --help lists every field.

    A field that holds a function or an object takes a short name or
    `package.module:NAME`. Old names of renamed fields still work and print a line on
    standard error. An unknown field or a malformed value exits with status 2 and
    suggests similar names.

    Args:
      config: the config from its file.
      overrides: arguments of the command line.
      prog: the command up to the overrides, for messages.
    """
    import tyro

    return tyro.cli(
        RunConfig,
        prog=prog,
        description="Fields of the config, with their current values as defaults.",
        default=config,
        args=[_with_new_name(word) for word in overrides],
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
        registry=_registry(),
    )


def _with_new_name(word: str) -> str:
    """An override with the current name of its field; other words are unchanged."""
    if not word.startswith("--"):
        return word
    option, equals, value = word.partition("=")
    path = option[2:].replace("-", "_")
    if (renamed := new_path(path)) == path:
        return word
    option_now = "--" + renamed.replace("_", "-")
    print(f"jaxsearch: {option} is now called {option_now}", file=sys.stderr)
    return f"{option_now}{equals}{value}"


def _registry() -> Any:
    """The tyro rules that parse and print fields that hold functions or objects."""
    from tyro.constructors import (
        ConstructorRegistry,
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
    )

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def named_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        kind = value_kind(info.type)
        is_optional = _is_optional(info, kind)
        if info.type_origin is not None and not _is_callable(info) and not is_optional:
            return None
        if kind is None:
            return None
        names = () if _is_callable(info) else tuple(SHORT_NAMES[kind])
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="|".join([*names, "MODULE:NAME"]),
            instance_from_str=lambda words: value_named(words[0], kind),
            # The config classes have checked these values at construction.
            is_instance=lambda value: (
                is_optional if value is None else not isinstance(value, str)
            ),
            str_from_instance=lambda value: [value_text(value, kind)],
        )

    return registry


def _is_optional(info: Any, kind: Any) -> bool:
    """Whether a field may be None and its type has a short name for None.

    Without this rule tyro would parse each alternative of the union separately, and a
    dataclass field by field.
    """
    has_none = types.NoneType in typing.get_args(info.type)
    return has_none and None in SHORT_NAMES.get(kind, {}).values()


def _is_callable(info: Any) -> bool:
    return info.type_origin is collections.abc.Callable
