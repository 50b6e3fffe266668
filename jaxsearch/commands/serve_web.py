"""The options of `jaxsearch serve --web`: a search of the open web as an index."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.run.field_texts import field_texts
from jaxsearch.web.config import WebConfig

if TYPE_CHECKING:
    from jaxsearch.serve.served_index import ServedIndex

# Queries that are answered at the same time; each may wait for several pages.
_NUM_WORKERS = 32
# Fields whose type cannot be read off their default.
_KINDS = {"max_queries": int, "max_usd": float, "usd_per_query": float}
_HELP = {
    "cache": "folder for results, pages and summaries, and for the count of the budget "
    "that is used; needed with --web"
}


def add_web_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --web, and an option --web.FIELD for each field of `WebConfig`."""
    group = parser.add_argument_group("the open web")
    group.add_argument(
        "--web",
        metavar="[NAME=]PROVIDER",
        help="search the open web: serper, serpapi, brave, searxng, google, or "
        "MODULE:NAME of a function (WebQuery) -> list of WebResult; keys come from the "
        "environment",
    )
    texts = field_texts(WebConfig)
    for field in dataclasses.fields(WebConfig):
        option = f"--web.{field.name.replace('_', '-')}"
        text = _HELP.get(field.name) or texts[field.name]
        text = text.replace("%", "%%")
        if isinstance(field.default, bool):
            group.add_argument(option, action="store_const", const=True, help=text)
        else:
            kind = _KINDS.get(field.name, type(field.default))
            group.add_argument(option, type=kind, metavar="VALUE", help=text)


def web_config(args: argparse.Namespace) -> WebConfig:
    """The settings that were given.

    Raises:
      ValueError: if one is malformed, --web is missing, or the folder is.
    """
    given = {
        field.name: vars(args)[f"web.{field.name}"]
        for field in dataclasses.fields(WebConfig)
        if vars(args)[f"web.{field.name}"] is not None
    }
    if given and not args.web:
        name = next(iter(given)).replace("_", "-")
        raise ValueError(f"--web.{name} is for a server with --web PROVIDER")
    if args.web and "cache" not in given:
        raise ValueError(
            "--web needs a folder for what it finds, so that nothing is paid for "
            "twice: give --web.cache DIR"
        )
    return WebConfig(**given)


def web_index(provider_name: str, config: WebConfig) -> "ServedIndex":
    """The open web as an index of the server.

    Raises:
      ValueError: if there is no such provider, or a key or a package is missing.
    """
    from jaxsearch.run.config_values import value_named
    from jaxsearch.serve.served_index import ServedIndex
    from jaxsearch.web.open import open_web
    from jaxsearch.web.provider import WebProvider
    from jaxsearch.web.service import key_of

    provider = value_named(provider_name, WebProvider)
    retriever = open_web(provider, config, Path(config.cache))
    return ServedIndex(
        retriever=retriever,
        settings={"kind": "web", "provider": key_of(provider), **_settings(config)},
        num_workers=_NUM_WORKERS,
        max_batch=1,
    )


def _settings(config: WebConfig) -> dict[str, Any]:
    """The settings that affect answers, for `GET /index`; without local folders."""
    names = ("snippets", "site", "date_limit", "pages", "max_chars", "summary_model")
    return {name: vars(config)[name] for name in (*names, "offline")}
