"""`jaxsearch train`: runs the stages of a config."""

import argparse
import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.command import (
    Command,
    add_config_arguments,
    overridden_config,
    with_late_options,
)
from jaxsearch.local_paths import is_address

if TYPE_CHECKING:
    from jaxsearch.config import RunConfig

_DESCRIPTION = """\
Runs all stages of a config. Metrics, checkpoints, rollouts and a report are written to
the run's folder, which is --out or runs/<name of the config>.

If that folder has a checkpoint of the same run, the run resumes from it. --resume
refuses to do anything else, and --fresh starts again from the first step; the earlier
run is kept under another name. A folder that holds another run is refused.

When a run resumes, the number of steps, the learning rate, max-skipped, the mesh,
max-tokens, model.remat, the rollout's num-slots, cache-len, tensor and replicas, and
how often it evaluates and saves may change; changes.jsonl records this. --eval.patience
N stops early, after N evaluations without a better held-out exact match.

--rewind STEP goes back to a checkpoint that was kept, and removes the metrics and
rollouts after it.
Only one process, or one group of connected processes, trains in a folder at a time. At
SIGTERM the last step is saved, and the exit status is 75: the same command continues.

With --out gs://BUCKET/runs/NAME (or s3://...) the run is in a bucket: it trains in a
local copy, whose changes are written to the bucket every few seconds. The same command
on another machine continues the run. This is for runs of one process.

--model.path RUN begins a new run with the policy of another one: its weights in full
precision and its tokenizer, but not its optimizer. RUN/checkpoints/STEP and RUN/best
name a checkpoint.

Every field of the config can be overridden; `jaxsearch train CONFIG --help` lists
them. Fields that hold a function or an object take a short name,
package.module:NAME or path/to/file.py:NAME. Modules beside the config and in the
current folder are found.

Your own reward is a function (question, answer, *, searches, row) that returns a
number, or numbers by name, which are the metrics reward/NAME. It replaces the reward
of a stage's task: --stages.N.reward my_rewards.py:NAME, or reward=NAME in the config.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start = "[--resume | --fresh | --rewind STEP]"
    parser.usage = f"jaxsearch train CONFIG {start} [--field value ...]"
    parser.epilog = """\
examples:
  jaxsearch train quickstart
  jaxsearch train quickstart --steps 20 --out runs/short --seed 1
  jaxsearch train quickstart --fresh
  jaxsearch train quickstart --model.path runs/quickstart --out runs/second
  jaxsearch train quickstart --stages.0.advantage leave_one_out
  jaxsearch train quickstart --stages.0.reward my_rewards.py:brief
"""
    _add_options(parser)
    add_config_arguments(parser, "fields of the config to override, nested with dots")


def _add_options(parser: argparse.ArgumentParser) -> None:
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest checkpoint, and refuse to start a new run",
    )
    start.add_argument(
        "--fresh",
        action="store_true",
        help="start a new run; an earlier one in this folder is kept as runs/NAME.1",
    )
    start.add_argument(
        "--rewind",
        type=int,
        metavar="STEP",
        help="continue from this step's checkpoint; later ones are kept as later-N",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    processes.start()
    args = with_late_options(args, _add_options)
    _check_start(args)
    config = overridden_config("train", args)
    with contextlib.ExitStack() as copied:
        if is_address(config.out):
            if args.fresh:
                raise ValueError(
                    "--fresh is not for a run in a bucket; choose another folder with "
                    "--out"
                )
            from jaxsearch.run.bucket_folder import bucket_folder

            address = config.out
            folder = copied.enter_context(
                bucket_folder(address, processes.say_once, args.interrupt.finishing)
            )
            config = dataclasses.replace(config, out=str(folder))
        return _train(config, args)


def _check_start(args: argparse.Namespace) -> None:
    """Checks that at most one of --resume, --fresh and --rewind is given.

    One may stand before the config and another one after it, where another parser
    reads it.

    Raises:
      ValueError: if two are.
    """
    given = [f"--{one}" for one in ("resume", "fresh") if vars(args)[one]]
    given += ["--rewind"] * (args.rewind is not None)
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")


def _train(config: "RunConfig", args: argparse.Namespace) -> dict[str, Any]:
    """Trains in a local folder."""
    from jaxsearch import processes
    from jaxsearch.commands.next_steps import closing_lines
    from jaxsearch.monitor.console import Console
    from jaxsearch.run.start import check_resumable, fresh_folder
    from jaxsearch.train import train

    interrupt = args.interrupt
    interrupt.advice = functools.partial(_how_to_go_on, Path(config.out))
    if args.resume:
        check_resumable(Path(config.out))
    console = Console(is_silent=not processes.is_primary())
    start = fresh_folder(Path(config.out)) if args.fresh else contextlib.nullcontext()
    with start, interrupt.finishing(console.close):
        result = train(config, console, interrupt.finishing, rewind_to=args.rewind)
        width = min(console.width or 80, 80)
        for line in closing_lines(config, args.config, result, width):
            console.print(line, is_for_copying=True)
        console.close()
    return result if args.json else {}


def _how_to_go_on(run_folder: Path) -> str:
    """What to type after an interruption."""
    from jaxsearch.run.checkpoint import newest_step

    step = newest_step(run_folder)
    if step is None:
        return "nothing saved: the same command starts again"
    return f"the same command continues after step {step}"


COMMAND = Command(
    summary="run the stages of a config, or resume its run",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
    resumes=True,
)
