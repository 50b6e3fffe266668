"""Options of commands that roll out a served model."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxsearch.served.model import ServedModel


# Options that belong to --model-url.
_DEFAULTS = {
    "model_name": "",
    "tokenizer": "",
    "concurrency": 64,
    "model_timeout": 600.0,
}


def add_served_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --model-url and its related options."""
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
        default="",
        metavar="NAME",
        help="name of the model on the server (default: its only model)",
    )
    group.add_argument(
        "--tokenizer",
        default="",
        metavar="DIR",
        help="Hugging Face folder or id with the model's tokenizer; or the folder of "
        "the run whose policy is served, which also has task, index, questions and "
        "budgets",
    )
    group.add_argument(
        "--concurrency",
        type=int,
        default=_DEFAULTS["concurrency"],
        metavar="N",
        help="number of questions in progress at once (default: 64)",
    )
    group.add_argument(
        "--model-timeout",
        type=float,
        default=_DEFAULTS["model_timeout"],
        metavar="SECONDS",
        help="timeout of one attempt at a turn (default: 600); eight attempts are made",
    )


def served_model(
    args: argparse.Namespace, *, logprobs: bool = False
) -> "ServedModel | None":
    """The served model of these arguments; None for a local one (--model).

    Raises:
      ValueError: if neither or both are given, or an option is missing or invalid.
    """
    if not args.model_url:
        others = [
            name for name, default in _DEFAULTS.items() if vars(args)[name] != default
        ]
        if others:
            option = others[0].replace("_", "-")
            raise ValueError(f"--{option} belongs to --model-url, which is missing")
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

    return ServedModel(
        url=model_url(args.model_url),
        name=args.model_name,
        tokenizer=args.tokenizer,
        settings=ServerSettings(
            concurrency=args.concurrency, timeout_s=args.model_timeout
        ),
        logprobs=logprobs,
    )
