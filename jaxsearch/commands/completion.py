"""`jaxsearch completion`: a script that completes this command in a shell."""

import argparse
from typing import Any

from jaxsearch.commands.command import Command

_DESCRIPTION = """\
Prints a script for a shell that completes the names of commands, their options, the
package's configs, the fields of configs, and files.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
once:
  bash  jaxsearch completion bash >~/.jaxsearch.bash
  zsh   jaxsearch completion zsh >~/.jaxsearch.zsh
  fish  jaxsearch completion fish >~/.jaxsearch.fish

and in ~/.bashrc, ~/.zshrc (after compinit) or ~/.config/fish/config.fish:
  source ~/.jaxsearch.bash
"""
    parser.add_argument(
        "shell",
        choices=("bash", "zsh", "fish"),
        metavar="SHELL",
        help="bash, zsh or fish",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.commands.completion_scripts import script
    from jaxsearch.commands.completion_words import parser_words

    if args.json:
        raise ValueError("a script is no JSON; leave out --json")
    print(script(args.shell, parser_words(args.parser)), end="")
    return {}


COMMAND = Command(
    summary="print a script that completes commands in a shell",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
