"""`jaxsearch select`: selects training questions by their difficulty for a policy."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import (
    Command,
    add_config_argument,
    add_model_argument,
    overridden_config,
)
from jaxsearch.commands.served_options import add_served_arguments, served_model

_DESCRIPTION = """\
Rolls out every training question of a config until the policy answers it correctly, at
most K times, with the settings of the config's last RL stage (temperature, task, index
and budgets). Keeps the questions that are neither too easy nor too hard, because a
group whose answers are all right or all wrong gives no learning signal.

Writes to --out:
  tries.jsonl     for each question: the first try that was right (null if none was),
                  and the number of searches
  selected.jsonl  the questions that are kept, for --data.questions
  counts.json     number of questions by number of tries, and number that are kept
  calls.jsonl     the rollouts; after an interruption, the same command resumes here

Start without bounds: all questions are kept, and counts.json helps to choose bounds.
Then run the same command with bounds and the same folder; no rollout is repeated.
R1-Searcher (arXiv:2503.05592) calls a question easy below 10 rollouts, medium from 10
to 20, and difficult above that. With --tries 20, its medium questions are --min-tries
10 --max-tries 20 and its difficult ones --min-tries 21. By default an answer is right
if it contains all words of a golden answer, the criterion of R1-Searcher's tables.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "jaxsearch select CONFIG (--model MODEL | --model-url URL --tokenizer DIR) "
        "--tries K [options] [--field value ...]"
    )
    parser.epilog = """\
example:
  jaxsearch select quickstart --model runs/quickstart --tries 8 \\
    --limit 200 --min-tries 2 --max-tries 8 --out chosen
  jaxsearch train quickstart --data.questions chosen/selected.jsonl \\
    --out runs/chosen
"""
    # A config field must not be parsed as an abbreviated option.
    parser.allow_abbrev = False
    add_config_argument(
        parser,
        "; every other --field value overrides it as in `jaxsearch train`, and --model "
        "replaces its model",
    )
    add_model_argument(parser, required=False)
    add_served_arguments(parser)
    parser.add_argument(
        "--tries",
        type=int,
        required=True,
        metavar="K",
        help="maximum number of rollouts per question",
    )
    parser.add_argument(
        "--out",
        default="",
        metavar="DIR",
        help="folder to write (default: runs/<config name>-selection)",
    )
    parser.add_argument(
        "--min-tries",
        type=int,
        default=1,
        metavar="N",
        help="keep questions that took N tries or more (default: 1)",
    )
    parser.add_argument(
        "--max-tries",
        type=int,
        metavar="N",
        help="keep questions that took N tries or fewer (default: no bound; questions "
        "that were never right are kept too)",
    )
    parser.add_argument(
        "--right",
        default="cover_em",
        metavar="METRIC",
        help="metric that decides, with the task's normaliser: cover_em (all words of "
        "a golden answer, in any order), em or f1 (default: cover_em)",
    )
    parser.add_argument(
        "--at-least",
        type=float,
        default=1.0,
        metavar="X",
        help="smallest value of the metric that counts as right (default: 1)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="take only the first N questions (default: 0, all of them)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    processes.start()
    served = served_model(args)
    from jaxsearch.data.selection import Bounds
    from jaxsearch.evaluation.selection import select_to
    from jaxsearch.evaluation.tries import Criterion

    bounds = Bounds(
        tries=args.tries, min_tries=args.min_tries, max_tries=args.max_tries
    )
    config = overridden_config("select", args)
    return select_to(
        Path(args.out or f"{config.out}-selection"),
        config,
        model=args.model if served is None else served,
        bounds=bounds,
        criterion=Criterion(right=args.right, at_least=args.at_least),
        limit=args.limit,
        checkpoint=args.checkpoint,
        finishing=args.interrupt.finishing,
    )


COMMAND = Command(
    summary="select training questions by the tries that a policy needs",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
    takes_overrides=True,
    resumes=True,
)
