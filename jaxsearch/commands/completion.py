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
once, and then in every new shell:
  bash  jaxsearch completion bash >~/.local/share/bash-completion/completions/jaxsearch
  zsh   jaxsearch completion zsh >~/.jaxsearch.zsh, and in ~/.zshrc, after compinit:
      source ~/.jaxsearch.zsh
  fish  jaxsearch completion fish >~/.config/fish/completions/jaxsearch.fish
"""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


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
