"""`jaxsearch ask`: shows a policy's rollout for one question."""

import argparse
from typing import Any

from jaxsearch.commands.command import Command, add_policy_arguments

_DESCRIPTION = """\
Answers one question greedily and prints the policy's thoughts, searches, retrieved
passages and answer.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
example:
  jaxsearch ask --model runs/quickstart "Who directed the film Bakfel?"
"""
    add_policy_arguments(parser)
    parser.add_argument("question", metavar="QUESTION", help="the question, in quotes")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.evaluation.ask import ask
    from jaxsearch.monitor.trajectory_printer import print_trajectory
    from jaxsearch.run.loading import load_run

    policy_run, params = load_run(
        args.model,
        task=args.task,
        index=args.index,
        prompt_template=args.prompt_template,
    )
    trajectory, outcome = ask(policy_run, params, args.question)
    print_trajectory(trajectory, policy_run.inputs.protocol)
    return {
        "answer": outcome.prediction,
        "searches": [call.query for call in trajectory.searches],
        "status": str(trajectory.status),
    }


COMMAND = Command(
    summary="show how a policy answers one question",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
