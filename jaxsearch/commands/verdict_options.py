"""Options of the model that gives verdicts, for `jaxsearch judge` and `eval`."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsearch.verdicts.settings import KEY_VARIABLE, VerdictSettings
from jaxsearch.verdicts.verdict import VERDICTS

# Fields of VerdictSettings with an option --judge-..., apart from the address.
_SETTINGS = (
    "model",
    "prompt",
    "concurrency",
    "attempts",
    "timeout_s",
    "cache",
    "price",
)


def add_verdict_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds the options --judge-url, --judge-model and their settings."""
    parser.add_argument(
        "--judge-url",
        default="",
        required=required,
        metavar="URL",
        help="OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1; its key is "
        f"read from the environment variable {KEY_VARIABLE}, if set",
    )
    parser.add_argument(
        "--judge-model",
        required=required,
        metavar="NAME",
        help="name of the model at the endpoint",
    )
    parser.add_argument(
        "--judge-prompt",
        metavar="FILE",
        help="text with {question}, {golden_answers} and {prediction}, which are "
        "replaced by JSON; it asks for a JSON object with a verdict (default: the "
        "package's)",
    )
    parser.add_argument(
        "--judge-concurrency",
        type=int,
        metavar="N",
        help="number of requests in progress at once (default: 32)",
    )
    parser.add_argument(
        "--judge-attempts",
        type=int,
        metavar="N",
        help="attempts per request, after 408, 429, 5xx and failed connections "
        "(default: 5)",
    )
    parser.add_argument(
        "--judge-timeout-s",
        type=float,
        metavar="S",
        help="timeout of one attempt, in seconds (default: 60)",
    )
    parser.add_argument(
        "--judge-cache",
        metavar="DIR",
        help="folder of the verdict cache (default: in the user's cache folder)",
    )
    parser.add_argument(
        "--judge-price",
        type=float,
        nargs=2,
        metavar=("IN", "OUT"),
        help="US dollars per million prompt tokens and per million completion tokens, "
        "to compute the cost",
    )


def asks_for_verdicts(args: argparse.Namespace) -> bool:
    """Whether --judge-url is given, for commands where it is optional.

    Raises:
      ValueError: if --judge-model is missing, or options are given without it.
    """
    given = _given(args)
    if not args.judge_url and given:
        option = f"--judge-{next(iter(given))}".replace("_", "-")
        raise ValueError(f"{option} needs --judge-url, the endpoint of the model")
    if args.judge_url and not args.judge_model:
        raise ValueError("--judge-url needs --judge-model, a model of that endpoint")
    return bool(args.judge_url)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that are given, apart from the address."""
    values = {name: vars(args)[f"judge_{name}"] for name in _SETTINGS}
    return {name: value for name, value in values.items() if value not in (None, "")}


def verdict_line(model: str, found: Mapping[str, Any]) -> str:
    """The verdicts of a model on one line."""
    counts = ", ".join(f"{found[name]:,} {name}" for name in VERDICTS)
    shown = f"judge {model}: {found['accuracy']:.3f} ({counts}"
    return f"{shown}, {found['no_verdict']:,} without a verdict)"


def verdict_settings(args: argparse.Namespace) -> VerdictSettings:
    """The settings that the options give.

    Raises:
      ValueError: if one is malformed.
    """
    given = {"model": ""} | _given(args)
    if "cache" in given:
        given["cache"] = Path(given["cache"])
    if "price" in given:
        given["price"] = tuple(given["price"])
    return VerdictSettings(url=args.judge_url, **given)
