"""`jaxsearch prompt`: shows the exact prompt of a question."""

import argparse
import os
from typing import Any

from jaxsearch.commands.command import (
    Command,
    add_config_arguments,
    overridden_config,
    with_late_options,
)
from jaxsearch.surrogates import check_text
from jaxsearch.visible import visible

_DESCRIPTION = """\
Prints the prompt that a run's policy would read, with its token ids, and refuses a
prompt that contradicts the run's task. Special tokens are shown in ⟦ and ⟧. Only the
tokenizer of the model is needed, not its weights.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--question",
        default="",
        metavar="TEXT",
        help="the question (default: the first question of the run's data)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "jaxsearch prompt CONFIG [--question TEXT] [--json] [--field value ...]"
    )
    _add_options(parser)
    add_config_arguments(
        parser, "fields of the config to override, as in `jaxsearch train`"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    args = with_late_options(args, _add_options)
    check_text(args.question, "the question")
    # No accelerator is needed, and it may be in use.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from jaxsearch.run.folder import with_prompt_date
    from jaxsearch.run.prompt_view import view_prompt

    config = with_prompt_date(overridden_config("prompt", args))
    view = view_prompt(config, args.question)
    if args.json:
        return view
    print(visible("\n".join(_lines(view))))
    return {}


def _lines(view: dict[str, Any]) -> list[str]:
    """The prompt, what is known about it, and its ids."""
    ends = [f"⟦{text}⟧ ({i})" for text, i in view["end_tokens"].items()]
    lines = [
        view["prompt"],
        "",
        f"tokens    {view['num_tokens']} of at most {view['max_prompt_len']} "
        f"(rollout.max_prompt_len); {view['form']} prompt",
        f"opened    {view['opened'] or 'nothing'}",
        f"ends at   {', '.join(ends)}",
    ]
    if view["num_deleted"]:
        lines.append(f"left out  {view['num_deleted']} special tokens of the question")
    return [*lines, f"ids       {' '.join(map(str, view['ids']))}"]


COMMAND = Command(
    summary="show the exact prompt of a question, with its token ids",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
