"""`jaxsearch eval`: evaluates a policy on sets of questions; compares evaluations."""

import argparse
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command, add_policy_arguments
from jaxsearch.commands.eval_options import (
    add_answer_arguments,
    add_question_arguments,
    answer_options,
    run_options,
)
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
        "--out",
        metavar="DIR",
        help="output folder: new, empty, or that of this evaluation, which continues",
    )
    add_question_arguments(parser)
    add_answer_arguments(parser)
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
    _check_only_compare(args)
    from jaxsearch.evaluation.compare import compare
    from jaxsearch.evaluation.comparison_text import comparison_lines

    found = compare(args.one, args.other)
    if args.json:
        return found
    print(visible("\n".join(comparison_lines(found))))
    return {}


def _check_only_compare(args: argparse.Namespace) -> None:
    """Checks that no option of an evaluation stands before `compare`.

    Raises:
      ValueError: if one does; it would have no effect.
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    given = [name for name in defaults if vars(args)[name] != defaults[name]]
    given.remove("action")
    if given:
        option = given[0].replace("_", "-")
        raise ValueError(
            f"--{option} is an option of an evaluation; `eval compare A B` takes none "
            "but --json"
        )


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    served = served_model(args, logprobs=args.logprobs)
    answers = answer_options(args)
    from jaxsearch.evaluation.results import evaluate_to

    return evaluate_to(
        Path(args.out),
        model=args.model if served is None else served,
        checkpoint=args.checkpoint,
        options=run_options(args),
        sample=args.sample,
        seed=args.seed,
        answers=answers,
        finishing=args.interrupt.finishing,
    )


COMMAND = Command(
    summary="evaluate a policy on sets of questions; compare two evaluations",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
    resumes=True,
)
