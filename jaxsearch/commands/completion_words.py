"""The words that can stand at each place of a command line."""

import argparse
import dataclasses
from collections.abc import Iterator

from jaxsearch.run.config_names import config_names

# Configs whose fields together are those of all: one stage, and two with LoRA settings.
_CONFIGS = ("quickstart", "r1_searcher_qwen2_5_7b_two_stages")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """What may follow a command, such as "train" or "index build"; "" for none.

    Attributes:
      command: the words before.
      words: names of commands or configs, and other choices of an argument.
      options: options and their help.
      values: choices of options that take a value, by option; none for a file or any
        other value.
      takes_fields: whether every field of a config is an option.
    """

    command: str
    words: tuple[str, ...]
    options: dict[str, str]
    values: dict[str, tuple[str, ...]]
    takes_fields: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """All places of the command line, and the options that fields of configs have."""

    places: tuple[Place, ...]
    summaries: dict[str, str]
    fields: tuple[str, ...]


def parser_words(parser: argparse.ArgumentParser) -> Words:
    """The words of the parser with all commands, and of configs."""
    summaries: dict[str, str] = {}
    return Words(
        places=tuple(_places(parser, "", summaries)),
        summaries=summaries,
        fields=tuple(_fields()),
    )


def _places(
    parser: argparse.ArgumentParser, command: str, summaries: dict[str, str]
) -> Iterator[Place]:
    """The place after a command, and those after its actions.

    Args:
      command: the words that the parser reads what follows of.
      summaries: receives the help of each command and action.
    """
    words: list[str] = []
    options: dict[str, str] = {}
    values: dict[str, tuple[str, ...]] = {}
    takes_fields = False
    # argparse has no public list of a parser's arguments; other tools read this one.
    for action in parser._actions:
        choices = tuple(map(str, action.choices or ()))
        if isinstance(action, argparse._SubParsersAction):
            words += choices
            for shown in action._choices_actions:
                place = f"{command} {shown.dest}".strip()
                summaries[place] = shown.help or ""
            for name, sub in action.choices.items():
                yield from _places(sub, f"{command} {name}".strip(), summaries)
        elif action.option_strings:
            help_text = " ".join((action.help or "").split())
            options |= dict.fromkeys(action.option_strings, help_text)
            if choices or action.nargs != 0:
                values |= dict.fromkeys(action.option_strings, choices)
        elif action.dest in ("config", "first", "second"):
            words += config_names()
        elif action.dest == "overrides":
            takes_fields = True
        else:
            words += choices
    yield Place(
        command=command,
        words=tuple(dict.fromkeys(words)),
        options=options,
        values=values,
        takes_fields=takes_fields,
    )


def _fields() -> list[str]:
    """The options of all fields of a config."""
    from jaxsearch.run.config_fields import config_fields, field_text
    from jaxsearch.run.config_file import read_config

    found: set[str] = set()
    for name in _CONFIGS:
        fields = config_fields(read_config(name))
        texts = (field_text(path, value) for path, value in fields.items())
        found |= {text.split()[0] for text in texts if text.startswith("--")}
    return sorted(found)
