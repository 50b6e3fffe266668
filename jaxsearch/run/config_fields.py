"""The fields of configs as lines: what a config says, and where two of them differ."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxsearch.config import RunConfig
from jaxsearch.data.mixture import Mixture, WeightedSource
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import resolved
from jaxsearch.run.folder import read_run_config

# Names in the JSON of a config that are not those of fields.
_NOT_FIELDS = {"kind", "function", "keywords", "object", "fields"}


def config_of(name: str) -> RunConfig:
    """The config of a run's folder, or of a config's file or name.

    Raises:
      ValueError: if it is none of them.
    """
    if (Path(name) / "config.json").is_file():
        return read_run_config(Path(name))
    return read_config(name)


def config_fields(config: RunConfig) -> dict[str, Any]:
    """The values of all fields in JSON, by their paths, such as rollout.max_len."""
    return dict(_flat(resolved(config), ""))


def differing_fields(first: RunConfig, second: RunConfig) -> dict[str, list[Any]]:
    """The fields with other values: [in the first, in the second], by path.

    A field that only one of them has is None in the other. The folders of the runs are
    not compared.
    """
    ours, theirs = config_fields(first), config_fields(second)
    return {
        path: [ours.get(path), theirs.get(path)]
        for path in dict.fromkeys([*ours, *theirs])
        if ours.get(path) != theirs.get(path) and path != "out"
    }


def field_text(path: str, value: Any) -> str:
    """A field as words of a command, such as `--rollout.max-len 120`.

    What a command cannot change, such as the keywords of a partial, is a comment.
    """
    if not _NOT_FIELDS.isdisjoint(path.split(".")):
        return f"# {path} {value_text(value)}"
    return f"--{path.replace('_', '-')} {value_text(value)}".rstrip()


def value_text(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return " ".join(map(value_text, value))
    return shlex.quote(value if isinstance(value, str) else repr(value))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested objects and lists of objects, with their paths."""
    if isinstance(value, dict) and value.get("kind") == Mixture.__name__:
        # A mixture is one word on the command line.
        sources = tuple(WeightedSource(**source) for source in value["sources"])
        yield path, str(Mixture(sources=sources))
        return
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = ((str(i), item) for i, item in enumerate(value))
    else:
        yield path, value
        return
    for name, item in items:
        yield from _flat(item, f"{path}.{name}" if path else name)
