"""The interface of a subcommand, and arguments that several subcommands share."""

import argparse
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jaxsearch.search.encoder import Encoder, EncoderFactory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand of `jaxsearch`.

    Attributes:
      summary: one line for `jaxsearch --help`.
      description: text at the top of the subcommand's --help.
      add_arguments: adds the subcommand's arguments to its parser.
      run: executes the subcommand; returns the results to print, or {} if it has
        printed them.
      takes_overrides: whether unknown arguments are passed to `run` as
        `args.overrides`.
      resumes: whether the same command continues after an interruption.
      ends_process: whether the process ends as soon as the results are printed. Python
        would first delete every object, which takes long for millions of them on a
        machine that is busy.
    """

    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], dict[str, Any]]
    takes_overrides: bool = False
    resumes: bool = False
    ends_process: bool = False


def end_process(status: int) -> NoReturn:
    """Ends the process at once; what was printed is written."""
    # A closed pipe, or a stream that another thread is printing to.
    with contextlib.suppress(OSError, RuntimeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --trust."""
    parser.add_argument(
        "--trust",
        action="append",
        metavar="PACKAGE_OR_URL",
        help="package or module whose functions a run's folder may name, because you "
        "trust its code; or address of a server that the folder may name and that "
        "receives your tokens and keys; may be repeated",
    )


def trust_packages(args: argparse.Namespace) -> None:
    """Trusts the packages given with --trust."""
    if vars(args).get("trust"):
        from jaxsearch.run.trust import trust

        trust(*args.trust)


def add_policy_arguments(
    parser: argparse.ArgumentParser, *, need_model: bool = True
) -> None:
    """Adds the arguments that select a policy, its task, index and prompt.

    Args:
      need_model: whether argparse requires --model; if not, it is None by default.
    """
    add_model_argument(parser, required=need_model)
    parser.add_argument(
        "--task",
        "--recipe",
        default="",
        metavar="NAME",
        help="prompt format and reward; `jaxsearch score --help` lists them (default: "
        "the run's task; research for a Hugging Face model)",
    )
    parser.add_argument(
        "--index",
        default="",
        metavar="DIR_OR_URL",
        help="folder made by `jaxsearch index build`, or address of a search server, "
        "http://HOST:PORT (default: the run's index)",
    )
    parser.add_argument(
        "--prompt-template",
        default="",
        metavar="FILE",
        help="prompt containing {question} that replaces the task's prompt: plain "
        "text, or chat messages if the file is named *.json; for published "
        "checkpoints that were trained with another prompt",
    )


def add_model_argument(
    parser: argparse.ArgumentParser, *, required: bool = True
) -> None:
    """Adds --model and --checkpoint."""
    parser.add_argument(
        "--model",
        required=required,
        metavar="MODEL",
        help="a run's folder, a Hugging Face folder, or a Hugging Face id",
    )
    add_checkpoint_argument(parser)


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint."""
    parser.add_argument(
        "--checkpoint",
        default="",
        metavar="best|last|STEP",
        help="checkpoint of the run: the one with the best exact match on held-out "
        "questions, the last one, or that of a step (default: best, or last if the run "
        "has no best)",
    )


def with_late_options(
    args: argparse.Namespace,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.Namespace:
    """The arguments, with options found after the config moved out of the overrides.

    Args:
      args: parsed arguments, with the words after the config in `overrides`.
      add_options: adds the command's own options; --json and --trust are always some.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_json_argument(options)
    add_trust_argument(options)
    if add_options is not None:
        add_options(options)
    found, overrides = options.parse_known_args(args.overrides, namespace=args)
    found.overrides = overrides
    trust_packages(found)
    return found


def add_config_argument(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Adds the config; `more` continues with its help."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="Python file that defines `config`, or the name of one of the package's "
        f"(`jaxsearch config list`){more}",
    )


def add_config_arguments(parser: argparse.ArgumentParser, overrides: str) -> None:
    """Adds the config file, and everything after it as overrides of its fields.

    Args:
      overrides: help of the overrides.
    """
    add_config_argument(parser)
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        metavar="--field value",
        help=overrides,
    )


def overridden_config(command: str, args: argparse.Namespace) -> Any:
    """The RunConfig of a command's config file with the command's overrides."""
    from jaxsearch.run.config_file import read_config
    from jaxsearch.run.config_names import find_config
    from jaxsearch.run.overrides import overridden

    prog = f"jaxsearch {command} {args.config}"
    folder = find_config(args.config).parent
    return overridden(read_config(args.config), args.overrides, prog, folder)


def encoder_or_name(text: str) -> "str | Encoder | EncoderFactory":
    """The object at `package.module:NAME`; any other text is a name or a folder."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return text
    from jaxsearch.run.config_values import imported

    return imported(text)


def custom_encoder(text: str | None) -> "Encoder | EncoderFactory | None":
    """The custom encoder of an index, given as --encoder.

    Raises:
      ValueError: if the text does not name an object.
    """
    if not text:
        return None
    encoder = encoder_or_name(text)
    if isinstance(encoder, str):
        raise ValueError(
            f"--encoder {encoder}: expected package.module:NAME of the custom encoder "
            "that the index was built with; leave it out for any other index, which "
            "contains its encoder"
        )
    return encoder
