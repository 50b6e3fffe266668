"""`jaxsearch ask`: shows a policy's rollout for one question."""

import argparse
import sys
from pathlib import Path
from typing import Any

from jaxsearch.commands.command import Command, add_policy_arguments
from jaxsearch.commands.served_options import add_served_arguments, served_model
from jaxsearch.surrogates import check_text
from jaxsearch.visible import visible

_DESCRIPTION = """\
Answers one question greedily and prints the policy's thoughts, searches, retrieved
passages and answer, turn by turn. Without a question, prints some of the held-out
questions of a run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch ask --model runs/quickstart               questions to choose from
  jaxsearch ask --model runs/quickstart "QUESTION"    the answer to one of them
  jaxsearch ask --model-url http://127.0.0.1:8000/v1 --tokenizer Qwen/Qwen2.5-7B \\
    --index wiki_index "QUESTION"                     ask a served model

A run answers from its own index. The quickstart's world is invented, so only questions
about its entities have an answer there.
"""
    add_policy_arguments(parser, need_model=False)
    add_served_arguments(parser, has_many=False)
    parser.add_argument(
        "question", metavar="QUESTION", nargs="?", help="the question, in quotes"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch import processes

    processes.use_compilation_cache()
    served = served_model(args)
    if args.question is None:
        _check_no_options(args)
        return _suggest(args)
    check_text(args.question, "the question")
    from jaxsearch.data.question import Question
    from jaxsearch.evaluation.ask import ask
    from jaxsearch.monitor.trajectory_printer import TrajectoryPrinter
    from jaxsearch.run.folder import read_run_config
    from jaxsearch.run.inputs import unknown_words
    from jaxsearch.run.loading import is_run, load_run
    from jaxsearch.run.options import RunOptions
    from jaxsearch.run.prompting import report_special_tokens
    from jaxsearch.served.run import load_served

    if args.model and is_run(args.model):
        # Read here too, so that a run that is refused is one line.
        read_run_config(Path(args.model))
    options = RunOptions(
        task=args.task, index=args.index, prompt_template=args.prompt_template
    )
    if served is None:
        _say("loading the policy and its index")
        policy_run, params = load_run(args.model, options, checkpoint=args.checkpoint)
    else:
        _say("loading the index")
        policy_run, params = load_served(served, options), {}
    asked = Question(id="asked", question=args.question, golden_answers=())
    report_special_tokens(policy_run.inputs.tokenizer, [asked])
    if unknown := unknown_words(policy_run.inputs, args.question):
        _say(f"the tokenizer cannot spell {', '.join(map(repr, unknown))}")
    compiles = "; the first question takes longer, because programs are compiled"
    _say("answering" + (compiles if served is None else ""))
    printer = TrajectoryPrinter(policy_run.inputs.protocol)
    printer.print_question(args.question)
    trajectory, outcome = ask(
        policy_run, params, args.question, on_segment=printer.add_segment
    )
    printer.print_rest(trajectory)
    return {
        "answer": outcome.prediction,
        "searches": [call.query for call in trajectory.searches],
        "status": str(trajectory.status),
    }


def _check_no_options(args: argparse.Namespace) -> None:
    """Checks that no option of an answer is given without a question.

    Raises:
      ValueError: if one is; it would have no effect.
    """
    options = ("task", "index", "prompt_template", "checkpoint", "model_timeout")
    if given := [name for name in options if vars(args)[name]]:
        option = given[0].replace("_", "-")
        raise ValueError(f'--{option} needs a question, as in `ask ... "QUESTION"`')


def _suggest(args: argparse.Namespace) -> dict[str, Any]:
    """Prints questions that the run can be asked."""
    from jaxsearch.evaluation.ask import suggested_questions

    questions = suggested_questions(args.model or args.tokenizer)
    if args.json:
        return {"questions": questions}
    _say("ask one of the run's held-out questions:")
    print(*map(visible, questions), sep="\n")
    return {}


def _say(message: str) -> None:
    print(visible(f"jaxsearch ask: {message}"), file=sys.stderr, flush=True)


COMMAND = Command(
    summary="show how a policy answers one question",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
