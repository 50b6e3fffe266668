"""The command line: runs a subcommand and turns errors into exit statuses."""

import argparse
import difflib
import functools
import json
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsearch import try_again
from jaxsearch.commands import (
    ask,
    bench,
    closed_pipe,
    completion,
    config,
    corpus,
    data,
    doctor,
    eval,
    export,
    index,
    judge,
    plan,
    prompt,
    replay,
    report,
    score,
    select,
    serve,
    train,
)
from jaxsearch.commands.command import (
    Command,
    add_json_argument,
    add_trust_argument,
    end_process,
    trust_packages,
)
from jaxsearch.commands.help_text import HelpFormatter
from jaxsearch.commands.interrupt import STATUS, Interrupt
from jaxsearch.disk_errors import is_full
from jaxsearch.json_lines import encodable
from jaxsearch.visible import visible, visible_json, visible_traceback

COMMANDS: dict[str, Command] = {
    "train": train.COMMAND,
    "plan": plan.COMMAND,
    "prompt": prompt.COMMAND,
    "config": config.COMMAND,
    "eval": eval.COMMAND,
    "ask": ask.COMMAND,
    "select": select.COMMAND,
    "score": score.COMMAND,
    "judge": judge.COMMAND,
    "data": data.COMMAND,
    "corpus": corpus.COMMAND,
    "index": index.COMMAND,
    "serve": serve.COMMAND,
    "bench": bench.COMMAND,
    "report": report.COMMAND,
    "replay": replay.COMMAND,
    "export": export.COMMAND,
    "doctor": doctor.COMMAND,
    "completion": completion.COMMAND,
}

# Commands that open a run's folder, apart from those of `config` and `bench`.
_OPENS_RUNS = (
    *("train", "plan", "prompt", "eval", "ask", "select", "report", "replay"),
    "export",
)

# Errors about a path from the user, whichever library opened it.
_PATH_ERRORS = (
    *(FileNotFoundError, PermissionError),
    *(IsADirectoryError, NotADirectoryError, FileExistsError),
)

# Not a negative number.
_OPTION = re.compile(r"-\D")

_EPILOG = """\
first steps:
  jaxsearch train quickstart              a tiny policy learns to search
  jaxsearch report runs/quickstart        its curves and rollouts as a page
  jaxsearch ask --model runs/quickstart   questions that it can be asked

`jaxsearch COMMAND --help` explains a command. Exit status: 0 done; 1 failed; 2 bad
usage or input, with one line that explains what to change; 75 ended early with nothing
lost, so that the same command continues; 130 interrupted.
"""


def run_command_line(argv: Sequence[str] | None, interrupt: Interrupt) -> int:
    """Runs one subcommand.

    Args:
      argv: the words after `jaxsearch`; None for those of this process.
      interrupt: receives what to type to continue.

    Returns:
      The exit status: 0 done, 1 failed, 2 bad usage or bad input, 75 to be tried again,
      130 interrupted.
    """
    sys.excepthook = _print_traceback
    parser = _parser()
    words = sys.argv[1:] if argv is None else argv
    if wrong := _unknown_command(words):
        print(visible(f"jaxsearch: {wrong}"), file=sys.stderr)
        return 2
    args, rest = parser.parse_known_args(argv)
    if args.version:
        return _written(_print_version, "--version")
    if args.command is None:
        parser.print_help()
        return 2
    if COMMANDS[args.command].takes_overrides:
        args.overrides = rest
    if wrong := _misplaced(args, rest, words):
        _complain(args.command, wrong)
        return 2
    status = None
    args.interrupt = interrupt
    args.parser = parser
    interrupt.resumes = COMMANDS[args.command].resumes
    if interrupt.resumes:
        interrupt.advice = lambda: "the same command continues where it stopped"
    try:
        status = _written(functools.partial(_status_of_result, args), args.command)
    finally:
        if status != 0 and "jaxsearch.processes" in sys.modules:
            from jaxsearch import processes

            processes.end(status)
    if status == 0 and argv is None and COMMANDS[args.command].ends_process:
        end_process(status)
    return status


def _print_traceback(kind: Any, error: BaseException, trace: Any) -> None:
    """Prints an error as Python does, without obeying what its message contains."""
    print(visible_traceback(error), end="", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxsearch",
        description="Trains language models, by reinforcement learning, to search.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--version", action="store_true", help="print the version and exit"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = subparsers.add_parser(
            name,
            help=command.summary,
            description=command.description,
            formatter_class=HelpFormatter,
        )
        command.add_arguments(sub)
        # Commands with actions take --json after the action.
        if name not in ("index", "bench", "config", "data"):
            add_json_argument(sub)
        if name in _OPENS_RUNS:
            add_trust_argument(sub)
    return parser


def _unknown_command(words: Sequence[str]) -> str:
    """Why the first word is neither a command nor an option; "" if it is one."""
    known = ("-h", "--help", "--version", *COMMANDS)
    if not words or words[0] in known:
        return ""
    near = difflib.get_close_matches(words[0], known)
    hint = f"near it: {', '.join(near)}; " if near else ""
    return f"unknown command {words[0]!r}; {hint}`jaxsearch --help` lists them"


def _misplaced(
    args: argparse.Namespace, rest: Sequence[str], words: Sequence[str]
) -> str:
    """Why these words are not understood; "" if they are.

    Args:
      args: parsed arguments.
      rest: the words that were left over.
      words: all words after `jaxsearch`.
    """
    if "config" not in args:
        action = f" {args.action}" if vars(args).get("action") else ""
        help_of = f"`jaxsearch {args.command}{action} --help`"
        left = " ".join(rest)
        return f"unknown: {left}; {help_of} shows what can be given" if rest else ""
    # Options alone: a value may be that of another option as well.
    before = [one for one in words[: words.index(args.config)] if _OPTION.match(one)]
    if COMMANDS[args.command].takes_overrides:
        # A value after an unknown option is taken for the config; after "=" it is not.
        before = [word for word in before if "=" not in word]
    if not set(before) & set(rest):
        return ""
    from jaxsearch.run.config_names import config_names

    known = config_names()
    first = 2 if "action" in args else 1
    found = [word for word in words[first:] if word in known or word.endswith(".py")]
    name = found[0] if found else "CONFIG"
    others = [word for word in words[first:] if word != name]
    return "options that override fields stand after the config: " + shlex.join(
        ["jaxsearch", *words[:first], name, *others]
    )


def _written(work: Callable[[], int], name: str) -> int:
    """The exit status of work that writes to standard output, also if that fails.

    If the reader of standard output is gone, as in `| head`, the command ends without a
    word, as others do.

    Args:
      work: returns its exit status.
      name: the command, for the error that standard output is full.
    """
    status = 0
    try:
        status = work()
        sys.stdout.flush()
    except BrokenPipeError:
        if not closed_pipe.reader_is_gone():
            raise
        # Otherwise Python complains when it writes the rest at its end.
        closed_pipe.discard_output()
        return closed_pipe.STATUS
    except OSError as error:
        if not is_full(error):
            raise
        closed_pipe.discard_output()
        if status == 0:
            reason = f"standard output cannot be written: {error.strerror}"
            _complain(name, reason)
            status = 2
    return status


def _print_version() -> int:
    from jaxsearch import __version__

    print(f"jaxsearch {__version__}")
    return 0


def _status_of_result(args: argparse.Namespace) -> int:
    command = COMMANDS[args.command]
    try:
        trust_packages(args)
        result = command.run(args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        if not (_is_ours(error) or is_full(error)):
            raise
        _complain(args.command, " ".join(str(error).split()))
        if isinstance(error, try_again.TryAgainError):
            return try_again.STATUS
        is_failure = isinstance(error, RuntimeError) and not is_full(error)
        return 1 if is_failure else 2
    except KeyboardInterrupt:
        print(args.interrupt.line, file=sys.stderr)
        return STATUS
    _show(result, args.json)
    return 0


def _complain(command: str, message: str) -> None:
    print(visible(f"jaxsearch {command}: {message}"), file=sys.stderr)


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        text = json.dumps(encodable(result), ensure_ascii=False, allow_nan=False)
        print(visible_json(text), flush=True)
        return
    for key, value in _rows(result):
        print(visible(f"{key:>24}  {value}"))


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The values of a result as text, by name.

    A mapping is one row. If it has mappings in it, it is a row for each of them, whose
    name has a dot.
    """
    for key, value in result.items():
        if not isinstance(value, Mapping):
            yield key, _value_text(value)
        elif any(isinstance(one, Mapping) for one in value.values()):
            yield from _rows({f"{key}.{name}": one for name, one in value.items()})
        else:
            texts = (f"{name}: {_value_text(one)}" for name, one in value.items())
            yield key, ", ".join(texts) or "none"


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_ours(error: BaseException) -> bool:
    """Whether an error is shown to the user as one line.

    True if this package raised it, or if a file is missing, not readable, or in the way
    of a folder. Other errors from inside a library are defects and keep their
    traceback.
    """
    if isinstance(error, _PATH_ERRORS):
        return True
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return (
        Path(raised_in).is_relative_to(Path(__file__).parents[1]) or "tyro" in raised_in
    )
