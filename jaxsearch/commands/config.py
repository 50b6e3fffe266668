"""`jaxsearch config`: lists, shows and compares configs."""

import argparse
import ast
import shutil
from typing import Any

from jaxsearch.commands.command import (
    Command,
    add_config_arguments,
    add_json_argument,
    add_trust_argument,
    overridden_config,
    with_late_options,
)
from jaxsearch.commands.help_text import HelpFormatter, filled
from jaxsearch.visible import visible

_DESCRIPTION = """\
Lists the package's configs, shows every field of a config, or compares two configs or
runs. Nothing is trained or written.
"""
_ACTIONS = {
    "list": "list the package's configs, which can be used by name from any folder",
    "show": "show every field of a config, as overrides that `train` takes",
    "diff": "show the fields in which two configs or runs differ",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch config list
  jaxsearch config show quickstart --rollout.max-len 200
  jaxsearch config diff quickstart quickstart_unmasked
  jaxsearch config diff configs/mine.py runs/mine
"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, summary in _ACTIONS.items():
        sub = actions.add_parser(
            action, help=summary, description=summary, formatter_class=HelpFormatter
        )
        add_json_argument(sub)
        if action == "show":
            sub.usage = "jaxsearch config show CONFIG [--json] [--field value ...]"
            add_config_arguments(
                sub, "fields of the config to override, as in `jaxsearch train`"
            )
        if action == "diff":
            add_trust_argument(sub)
            for name in ("first", "second"):
                sub.add_argument(
                    name,
                    metavar=name.upper(),
                    help="a config's file or name, or a run's folder",
                )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "list":
        return _list(args)
    if args.action == "diff":
        return _diff(args)
    args = with_late_options(args)
    from jaxsearch.run.config_fields import config_fields, field_text

    fields = config_fields(overridden_config("config show", args))
    if args.json:
        return fields
    lines = (field_text(path, value) for path, value in fields.items())
    print(*map(visible, lines), sep="\n")
    return {}


def _list(args: argparse.Namespace) -> dict[str, Any]:
    """The first line of each config's docstring; the files are not executed."""
    from jaxsearch.run.config_names import config_folder, config_names

    found = {}
    for name in config_names():
        module = ast.parse((config_folder() / f"{name}.py").read_bytes())
        found[name] = (ast.get_docstring(module) or "").partition("\n")[0]
    if args.json:
        return found
    width = max(map(len, found))
    rows = "\n".join(f"  {name:{width}}  {line}" for name, line in found.items())
    print(filled(rows, shutil.get_terminal_size().columns))
    return {}


def _diff(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.run.config_fields import config_of, differing_fields, value_text

    found = differing_fields(config_of(args.first), config_of(args.second))
    if args.json:
        return found
    if not found:
        print("no field differs")
    for path, (first, second) in found.items():
        print(visible(f"{path}: {value_text(first)} -> {value_text(second)}"))
    return {}


COMMAND = Command(
    summary="list, show or compare configs",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
