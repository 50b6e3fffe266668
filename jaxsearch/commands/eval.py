"""`jaxsearch eval`: evaluates a policy on a set of questions."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command, add_policy_arguments

_DESCRIPTION = """\
Rolls out one answer per question and judges it with the task's reward and normaliser.
Writes results.json (n, em, f1, cover_em, searches per question, ...) and
predictions.jsonl, which `jaxsearch score` reads.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch eval --model runs/quickstart --out results
  jaxsearch eval --model Qwen/Qwen2.5-7B-Instruct --task research \\
    --questions test.jsonl --index wiki_index --limit 500 --out results
"""
    add_policy_arguments(parser)
    parser.add_argument(
        "--questions",
        default="",
        metavar="FILE",
        help="file of questions: FlashRAG's JSONL (may be .gz), ReSearch's or "
        "Search-R1's parquet, or a file of HotpotQA, 2WikiMultihopQA, MuSiQue, "
        "NQ-open, TriviaQA or PopQA; also of a data set on the Hugging Face Hub, "
        "hf://OWNER/NAME[/FILE][@REVISION] (default: the run's held-out questions)",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write, new or empty"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="evaluate only the first N questions (default: 0, all of them)",
    )
    parser.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="go on without the malformed rows of the file; otherwise it is refused",
    )
    parser.add_argument(
        "--drop-long-prompts",
        action="store_true",
        help="go on without questions whose prompts exceed the budget",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="sampling temperature (default: 0, greedy)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    from jaxsearch.evaluation.results import evaluate_to

    return evaluate_to(
        Path(args.out),
        model=args.model,
        questions=args.questions,
        index=args.index,
        task=args.task,
        limit=args.limit,
        skip_bad_rows=args.skip_bad_rows,
        drop_long_prompts=args.drop_long_prompts,
        temperature=args.temperature,
        prompt_template=args.prompt_template,
        checkpoint=args.checkpoint,
    )


COMMAND = Command(
    summary="evaluate a policy on a set of questions",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
