"""`jaxsearch judge`: a language model's verdicts on saved predictions."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command
from jaxsearch.commands.verdict_options import add_verdict_arguments, verdict_settings

_DESCRIPTION = """\
Asks a language model whether each prediction of a file is right, and prints how many it
calls correct, wrong or unclear. (`jaxsearch score` computes a task's reward and exact
match instead, without a model.)

Each line of the file has question, golden_answers and prediction, as in
predictions.jsonl of `jaxsearch eval`. A null or blank prediction is wrong, without a
request. A reply that is not a JSON object with one of the three verdicts is counted as
no_verdict; accuracy is the share of correct among the others.

Each verdict is appended to --out as it arrives, and cached by model, prompt,
question, golden answers and prediction. If the command is stopped, the same command
continues.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch judge results/predictions.jsonl \\
    --judge-url http://127.0.0.1:8000/v1 --judge-model Qwen/Qwen2.5-32B-Instruct
  jaxsearch judge scored.jsonl.gz --out verdicts.jsonl --agree-with judge \\
    --judge-url https://api.openai.com/v1 --judge-model gpt-4o-mini \\
    --judge-price 0.15 0.60
"""
    add_verdict_arguments(parser, required=True)
    parser.add_argument(
        "--agree-with",
        default="",
        metavar="FIELD",
        help="field of the file that holds other verdicts, such as true, False or "
        "correct; prints the agreement with them and Cohen's kappa",
    )
    parser.add_argument(
        "--out",
        default="",
        metavar="FILE.jsonl",
        help="file of verdicts (default: verdicts.jsonl next to FILE)",
    )
    parser.add_argument(
        "file", metavar="FILE.jsonl", help="file of predictions; may be .gz"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    settings = verdict_settings(args)
    from jaxsearch.monitor.bars import count_bar
    from jaxsearch.verdicts.verdicts import verdicts_to

    path = Path(args.file)
    out = Path(args.out) if args.out else path.with_name("verdicts.jsonl")
    found = verdicts_to(
        out, path, settings, agree_with=args.agree_with, progress=count_bar
    )
    return found | {"verdicts": str(out)}


COMMAND = Command(
    summary="ask a language model whether saved predictions are right",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
    resumes=True,
)
