"""`jaxsearch eval`: evaluates a policy on sets of questions; compares evaluations."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command, add_policy_arguments
from jaxsearch.commands.help_text import HelpFormatter
from jaxsearch.commands.served_options import add_served_arguments, served_model
from jaxsearch.commands.verdict_options import (
    add_verdict_arguments,
    asks_for_verdicts,
    verdict_line,
    verdict_settings,
)
from jaxsearch.verdicts.settings import VerdictSettings
from jaxsearch.visible import visible

_DESCRIPTION = """\
Rolls out answers to questions and judges them with the task's reward and normaliser.
Writes results.json (n, em, f1, cover_em, searches per question, ...) and
predictions.jsonl, which `jaxsearch score` reads. Predictions are appended as answers
finish; if the command is stopped, the same command continues.
jaxsearch/evaluation/README.md explains each number. With --judge-url, a language model
also gives a verdict on each prediction, as in `jaxsearch judge`.
"""
_COMPARE = """\
Compares two evaluations question by question, paired by set and id. Shows both values
of each metric and the difference (second minus first) with its 95% bootstrap interval.
For exact match and cover-EM, also shows the questions won and lost and the p-value of
an exact McNemar test.
"""
_COMPARE_EXAMPLES = """\
examples:
  jaxsearch eval compare results_before results_after
  jaxsearch eval compare a/predictions.jsonl b/predictions.jsonl --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch eval --model runs/quickstart --out results
  jaxsearch eval --model Qwen/Qwen2.5-7B-Instruct --task research \\
    --questions hotpotqa/dev.jsonl musique/dev.jsonl --index wiki_index \\
    --sample 500 --out results
  jaxsearch eval --model-url http://127.0.0.1:8000/v1 --model-name Qwen2.5-7B \\
    --tokenizer Qwen/Qwen2.5-7B-Instruct --task retrieve_then_read \\
    --questions hotpotqa/dev.jsonl --index wiki_index --out baseline
  jaxsearch eval --model runs/quickstart --out results \\
    --judge-url http://127.0.0.1:8000/v1 --judge-model Qwen/Qwen2.5-32B-Instruct
  jaxsearch eval compare results_before results_after
"""
    _add_actions(parser)
    add_policy_arguments(parser, need_model=False)
    add_served_arguments(parser)
    parser.add_argument(
        "--allow-failures",
        type=int,
        default=0,
        metavar="N",
        help="number of answers that a model server may fail to give; with more, the "
        "exit status is 1 (default: 0)",
    )
    parser.add_argument(
        "--logprobs",
        action="store_true",
        help="keep the token ids and their log-probs in predictions.jsonl",
    )
    parser.add_argument(
        "--questions",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="prepared sets (`jaxsearch data --help`) or files of questions, each a "
        "set that is named after its file, or by NAME=FILE; all share one queue. "
        "FlashRAG's JSONL (may be .gz), "
        "ReSearch's or Search-R1's parquet, or a file of HotpotQA, 2WikiMultihopQA, "
        "MuSiQue, NQ-open, TriviaQA or PopQA; also of a data set on the Hugging Face "
        "Hub, hf://OWNER/NAME[/FILE][@REVISION] (default: the run's held-out "
        "questions)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="output folder: new, empty, or of the same evaluation, which continues",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="evaluate only the first N questions of each set (default: 0, all)",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=0,
        metavar="N",
        help="evaluate N random questions of each set (default: 0, all)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="seed of the random questions (default: 0)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=1,
        metavar="K",
        help="answers per question (default: 1)",
    )
    parser.add_argument(
        "--num-passages",
        type=int,
        default=0,
        metavar="K",
        help="passages per search (default: the run's; 5 for a Hugging Face model)",
    )
    parser.add_argument(
        "--max-searches",
        type=int,
        metavar="N",
        help="searches per answer; a further one ends it (default: the run's; 16 for a "
        "Hugging Face model)",
    )
    parser.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="skip malformed rows of the file; otherwise they are an error",
    )
    parser.add_argument(
        "--drop-long-prompts",
        action="store_true",
        help="skip questions whose prompts exceed the budget",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        help="sampling temperature (default: 0, greedy; 1 with --samples)",
    )
    add_verdict_arguments(parser, required=False)


def _add_actions(parser: argparse.ArgumentParser) -> None:
    """Adds `eval compare`; without an action, `eval` evaluates."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    sub = actions.add_parser(
        "compare",
        help="compare two evaluations question by question",
        description=_COMPARE,
        epilog=_COMPARE_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    sub.add_argument("one", metavar="A", help="folder of the first evaluation")
    sub.add_argument("other", metavar="B", help="folder of the second evaluation")
    # Not the default of `add_json_argument`, which would replace an earlier --json.
    sub.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print one JSON object as the last line",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "compare":
        return _compare(args)
    if not (args.model or args.model_url) or args.out is None:
        raise ValueError(
            "--model or --model-url, and --out are needed: the policy, and the folder "
            "to write; or `compare A B` for two evaluations"
        )
    settings = verdict_settings(args) if asks_for_verdicts(args) else None
    results = _evaluate(args)
    if settings is not None:
        results = _with_verdicts(Path(args.out), results, settings)
    if args.json:
        return results
    from jaxsearch import processes
    from jaxsearch.evaluation.result_text import result_lines

    if processes.is_primary():
        print(visible("\n".join(result_lines(results))))
        if settings is not None:
            print(visible(f"\n{verdict_line(settings.model, results['judge'])}"))
    return {}


def _with_verdicts(
    out: Path, results: dict[str, Any], settings: VerdictSettings
) -> dict[str, Any]:
    """The results with the counts of a language model's verdicts (verdicts.jsonl)."""
    from jaxsearch import processes
    from jaxsearch.evaluation.predictions import write_results
    from jaxsearch.monitor.bars import count_bar
    from jaxsearch.verdicts.verdicts import verdicts_to

    if not processes.is_primary():
        return results
    found = verdicts_to(
        out / "verdicts.jsonl", out / "predictions.jsonl", settings, progress=count_bar
    )
    results = results | {"judge": {"model": settings.model, **found}}
    write_results(out, results)
    return results


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.evaluation.compare import compare, comparison_lines

    found = compare(args.one, args.other)
    if args.json:
        return found
    print(visible("\n".join(comparison_lines(found))))
    return {}


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    served = served_model(args, logprobs=args.logprobs)
    if args.allow_failures < 0:
        raise ValueError(
            f"--allow-failures must not be negative, got {args.allow_failures}"
        )
    from jaxsearch.evaluation.results import evaluate_to

    return evaluate_to(
        Path(args.out),
        model=args.model if served is None else served,
        questions=args.questions or "",
        index=args.index,
        task=args.task,
        limit=args.limit,
        sample=args.sample,
        seed=args.seed,
        num_samples=args.samples,
        skip_bad_rows=args.skip_bad_rows,
        drop_long_prompts=args.drop_long_prompts,
        temperature=args.temperature,
        prompt_template=args.prompt_template,
        num_passages=args.num_passages,
        max_searches=args.max_searches,
        checkpoint=args.checkpoint,
        keeps_tokens=args.logprobs,
        allowed_failures=args.allow_failures,
    )


COMMAND = Command(
    summary="evaluate a policy on sets of questions; compare two evaluations",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
    resumes=True,
)
