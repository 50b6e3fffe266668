"""Overrides of config fields on the command line, `--field value`."""

import contextlib
import dataclasses
import io
import itertools
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.data.mixture import Mixture, parse_questions
from jaxsearch.run.config_values import (
    SHORT_NAMES,
    is_function_kind,
    value_kind,
    value_named,
    value_text,
)
from jaxsearch.run.field_texts import field_texts
from jaxsearch.run.old_names import new_path
from jaxsearch.visible import visible


def overridden(
    config: RunConfig, overrides: list[str], prog: str, *folders: Path
) -> RunConfig:
    """The config with `--field value` overrides; --help lists every field.

    A field that is True or False may be given without a value, for True. One that holds
    a function or an object takes a short name, `package.module:NAME` or
    `path/to/file.py:NAME`. Names of fields that were renamed still work, with a line on
    standard error. Exits with status 2 and one line on standard error for an unknown
    field, naming near ones, or a malformed value.

    Args:
      config: the config from its file.
      overrides: arguments of the command line.
      prog: the command up to the overrides, for messages.
      folders: folders to search, with the current one, for modules of MODULE:NAME.
    """
    import tyro

    words = _with_true(config, [_with_new_name(word) for word in overrides])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = tyro.cli(
                RunConfig,
                prog=prog,
                description="Fields of the config, with their present values as "
                "defaults.",
                default=config,
                args=words,
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
                registry=_registry(folders),
            )
    except SystemExit:
        if said.getvalue():
            print(visible(f"{prog}: {_one_line(said.getvalue())}"), file=sys.stderr)
        raise
    # A module that was imported for MODULE:NAME may have printed something.
    print(said.getvalue(), end="", file=sys.stderr)
    return found


# A longer list of names would be broken inside a name on a narrow terminal.
_MAX_METAVAR = 40
# Before the error of each type of a union.
_ALTERNATIVE = r" (?:Got errors: )?- (?:<class '[^']*'>|[\w.]+\[.*?\]): "


def _one_line(box: str) -> str:
    """The first section of tyro's box of an error, and the options that it proposes.

    The rest of the box is the help of these options.
    """
    lines = [line.strip("│╭╮╰╯") for line in box.splitlines()]
    rules = [i for i, line in enumerate(lines) if re.fullmatch(" *[─-]+ *", line)]
    # The title is part of the frame, or in plain ASCII a line over a rule.
    first = 1 + ("─" not in lines[0])
    end = next((i for i in rules if i >= first), len(lines))
    text = " ".join(" ".join(lines[first:end]).split())
    text, *reasons = re.split(_ALTERNATIVE, text)
    reasons = [reason for reason in reasons if "match choices ('None',)" not in reason]
    text = " ".join([text, *dict.fromkeys(reasons)])
    near = [
        line.split()[0]
        for line in lines[end:]
        if re.match(" {5,6}--", line) and "Perhaps you meant" in box
    ]
    return f"{text}; near it: {', '.join(dict.fromkeys(near))}" if near else text


def _with_new_name(word: str) -> str:
    """An override with the current name of its field; other words are unchanged."""
    if not word.startswith("--"):
        return word
    option, equals, value = word.partition("=")
    path = option[2:].replace("-", "_")
    if (renamed := new_path(path)) == path:
        return word
    option_now = "--" + renamed.replace("_", "-")
    print(f"jaxsearch: {visible(option)} is now called {option_now}", file=sys.stderr)
    return f"{option_now}{equals}{value}"


def _with_true(config: RunConfig, words: list[str]) -> list[str]:
    """Overrides with the value True after each switch that has none."""
    completed = []
    for word, following in itertools.zip_longest(words, words[1:], fillvalue="--"):
        completed.append(word)
        if following.startswith("--") and _is_switch(config, word):
            completed.append("True")
    return completed


def _is_switch(config: RunConfig, word: str) -> bool:
    """Whether a word is `--path` of a field that is True or False."""
    if not word.startswith("--"):
        return False
    value: Any = config
    for name in word.removeprefix("--").replace("-", "_").split("."):
        if isinstance(value, tuple) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif dataclasses.is_dataclass(value):
            value = vars(value).get(name)
        else:
            return False
    return isinstance(value, bool)


def _registry(folders: tuple[Path, ...]) -> Any:
    """Tells tyro how to read and show fields, those of functions and objects too."""
    from tyro.constructors import (
        ConstructorRegistry,
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
        StructConstructorSpec,
        StructFieldSpec,
        StructTypeInfo,
    )

    registry = ConstructorRegistry()

    @registry.struct_rule
    def config_class(info: StructTypeInfo) -> StructConstructorSpec | None:
        # Only for the help: tyro keeps the line breaks of the texts under fields.
        owner = type(info.default)
        if not (isinstance(info.type, type) and isinstance(info.default, info.type)):
            return None
        if not (dataclasses.is_dataclass(owner) and field_texts(owner)):
            return None
        hints = typing.get_type_hints(owner, include_extras=True)
        return StructConstructorSpec(
            instantiate=owner,
            fields=tuple(
                StructFieldSpec(
                    name=field.name,
                    type=hints[field.name],
                    default=vars(info.default)[field.name],
                    helptext=field_texts(owner).get(field.name),
                )
                for field in dataclasses.fields(owner)
            ),
        )

    @registry.primitive_rule
    def questions_from(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if Mixture not in typing.get_args(info.type):
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="FILE|NAME|NAME=N,...",
            instance_from_str=lambda words: parse_questions(words[0]),
            is_instance=lambda value: isinstance(value, str | Mixture),
            str_from_instance=lambda value: [str(value)],
        )

    @registry.primitive_rule
    def named_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        kind = value_kind(info.type)
        is_optional = _is_optional(info, kind)
        is_function = is_function_kind(info.type)
        if info.type_origin is not None and not is_function and not is_optional:
            return None
        if kind is None:
            return None
        metavar = "|".join([*SHORT_NAMES.get(kind, ()), "MODULE:NAME"])
        if len(metavar) > _MAX_METAVAR:
            # The text under the field says where the names are.
            metavar = "NAME|MODULE:NAME"
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: (
                None
                if is_optional and words[0] == "None"
                else value_named(words[0], kind, *folders)
            ),
            # Everything that a config holds here has been checked by its own class.
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
