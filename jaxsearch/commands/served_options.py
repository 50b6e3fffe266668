"""Options of commands that roll out a served model."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxsearch.served.model import ServedModel


# Options that belong to --model-url, by their names in the arguments.
_OPTIONS = {
    "model_name": "--model-name",
    "tokenizer": "--tokenizer",
    "concurrency": "--concurrency",
    "model_timeout": "--model-timeout",
}


def add_served_arguments(
    parser: argparse.ArgumentParser, *, has_many: bool = True
) -> None:
    """Adds --model-url and its related options.

    Args:
      parser: the parser of a command.
      has_many: whether the command has many questions, so that --concurrency matters.
    """
    group = parser.add_argument_group(
        "a served model",
        "vLLM, SGLang or any other server with POST /v1/completions, instead of "
        "--model. No parameters are loaded here. A bearer token comes from "
        "JAXSEARCH_MODEL_TOKEN.",
    )
    group.add_argument(
        "--model-url",
        default="",
        metavar="URL",
        help="address of the server, http://HOST:PORT/v1",
    )
    group.add_argument(
        "--model-name",
        metavar="NAME",
        help="name of the model on the server (default: its only model)",
    )
    group.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="Hugging Face folder or id with the model's tokenizer; or the folder of "
        "the run whose policy is served, which also gives the task, index, questions "
        "and budgets",
    )
    group.add_argument(
        "--model-timeout",
        type=float,
        metavar="SECONDS",
        help="timeout of one attempt at a turn (default: 600); eight attempts are made",
    )
    if has_many:
        group.add_argument(
            "--concurrency",
            type=int,
            metavar="N",
            help="number of questions in progress at once (default: 64)",
        )


def served_model(
    args: argparse.Namespace, *, logprobs: bool = False
) -> "ServedModel | None":
    """The served model of these arguments; None for a local one (--model).

    Raises:
      ValueError: if neither or both are given, or an option is missing or invalid.
    """
    given = {name: vars(args).get(name) for name in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    if not args.model_url:
        if given:
            option = _OPTIONS[next(iter(given))]
            raise ValueError(f"{option} belongs to --model-url, which is missing")
        if not args.model:
            raise ValueError(
                "give a policy with --model, or a model server with --model-url"
            )
        return None
    if args.model or args.checkpoint:
        raise ValueError(
            "--model-url names a policy on a server; leave out --model and "
            "--checkpoint, which name a local one"
        )
    if not args.tokenizer:
        raise ValueError(
            "--model-url needs --tokenizer: a Hugging Face folder or id with the "
            "model's tokenizer, or the folder of the run whose policy is served"
        )
    from jaxsearch.served.client import ServerSettings, model_url
    from jaxsearch.served.model import ServedModel

    settings = {"concurrency": "concurrency", "model_timeout": "timeout_s"}
    return ServedModel(
        url=model_url(args.model_url),
        name=args.model_name or "",
        tokenizer=args.tokenizer,
        settings=ServerSettings(
            **{field: given[name] for name, field in settings.items() if name in given}
        ),
        logprobs=logprobs,
    )
