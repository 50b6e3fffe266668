"""`jaxsearch serve`: answers searches over HTTP."""

import argparse
import gc
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.command import Command, custom_encoder, end_process
from jaxsearch.commands.serve_web import add_web_arguments, web_config, web_index

if TYPE_CHECKING:
    from jaxsearch.serve.limits import Limits
    from jaxsearch.serve.served_index import ServedIndex
    from jaxsearch.web.config import WebConfig

_DESCRIPTION = """\
Answers searches over HTTP, in the dialects of ReSearch (/search, /batch_search),
Search-R1, verl and SkyRL (/retrieve) and R1-Searcher (/queries), until SIGTERM or
Ctrl-C; requests under way are answered first. GET /index describes the index, /metrics
has counters for Prometheus, and /docs documents the API.
"""
_DEFAULT_PORT = 8000
_DEFAULT_NAME = "default"
_WEB_NAME = "web"
# Options of limits: field of Limits, type and help.
_LIMITS = (
    ("max_queries", int, "queries per request"),
    ("max_query_chars", int, "characters per query"),
    ("max_k", int, "passages per query"),
    ("max_body_bytes", int, "bytes of a request"),
    ("max_waiting", int, "queries that may wait; more are answered with 503"),
    ("max_batch", int, "queries that are searched together"),
    ("answer_s", float, "seconds until a request is answered with 504"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch serve --index indexes/wiki --port 8123
  jaxsearch serve --index wiki=indexes/wiki --index news=indexes/news
  jaxsearch serve --index indexes/wiki --host 0.0.0.0 --token-file token.txt
  jaxsearch serve --web serper --web.cache webcache --web.max-usd 5
"""
    parser.add_argument(
        "--index",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="folder made by `jaxsearch index build`; may be repeated. The one without "
        "a name, or else the first, answers at the root, and each one also below its "
        "name: /NAME/search",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=_DEFAULT_PORT,
        help=f"port, or 0 for any free one (default: {_DEFAULT_PORT})",
    )
    parser.add_argument(
        "--token-file",
        default="",
        metavar="FILE",
        help="file with the token that clients send as `Authorization: Bearer TOKEN` "
        "(default: JAXSEARCH_SERVE_TOKEN in the environment); needed unless the "
        "address is loopback",
    )
    parser.add_argument(
        "--no-auth",
        action="store_true",
        help="without a token, answer everyone who can reach the address",
    )
    parser.add_argument(
        "--encoder",
        metavar="MODULE:NAME",
        help="the custom encoder that the indexes were built with, if any",
    )
    add_web_arguments(parser)
    limits = parser.add_argument_group("limits")
    for name, kind, text in _LIMITS:
        limits.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar="N", help=text
        )


def run(args: argparse.Namespace) -> dict[str, Any]:
    _check_packages()
    from jaxsearch.serve.address import is_loopback, listen, read_token, url_of
    from jaxsearch.serve.app import create_app
    from jaxsearch.serve.server import SearchServer

    token = read_token(args.token_file)
    if token and args.no_auth:
        raise ValueError(
            "--no-auth and a token were given; leave one out (the token is that of "
            f"{args.token_file or 'JAXSEARCH_SERVE_TOKEN'})"
        )
    limits = _limits(args)
    folders = _folders(args.index) if args.index or not args.web else {}
    settings = web_config(args)
    # Before the indexes are loaded, which may take minutes.
    with listen(args.host, args.port) as listener:
        is_open = not token and not is_loopback(listener)
        if is_open and not args.no_auth:
            raise ValueError(
                f"{args.host} can be reached from other machines: give a token with "
                "--token-file or JAXSEARCH_SERVE_TOKEN, or --no-auth if everyone there "
                "may search"
            )
        if is_open:
            print(
                f"no token: everyone who can reach {args.host} can search",
                file=sys.stderr,
            )
        web = _web(args.web, settings, set(folders))
        indexes = _load(folders, args.encoder) | web
        app = create_app(indexes, limits=limits, token=token)
        server = SearchServer(app, listener, at_deadline=lambda: end_process(0))
        # The collector would hold Python's lock while it looks at every passage.
        gc.freeze()
        print(f"{url_of(listener)} serves {_summary(indexes)}", flush=True)
        with args.interrupt.finishing(lambda: (server.stop(), server.wait())):
            server.serve_until_stopped()
    return {"requests": app.requests.total}


def _check_packages() -> None:
    """Raises ValueError if the packages of the server are not installed."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{error.name} is not installed; `pip install 'jaxsearch[serve]'`"
        ) from error


def _limits(args: argparse.Namespace) -> "Limits":
    from jaxsearch.serve.limits import Limits

    given = {name: vars(args)[name] for name, _, _ in _LIMITS}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _folders(given: list[str]) -> dict[str, Path]:
    """The folders by name, the one at the root first.

    Raises:
      ValueError: if a name is given twice or cannot be part of a path, or if several
        folders have no name.
    """
    from jaxsearch.serve.app import check_names

    if not given:
        raise ValueError(
            "there is nothing to serve: give --index DIR or --web PROVIDER"
        )
    named: dict[str, Path] = {}
    unnamed: list[Path] = []
    for text in given:
        found = re.fullmatch(r"([^/=]+)=(.+)", text)
        # Path.exists raises for a text that is too long for a name.
        if found is None or os.path.exists(text):
            unnamed.append(Path(text))
        elif found[1] in named:
            raise ValueError(f"two indexes are named {found[1]!r}; give each its own")
        else:
            named[found[1]] = Path(found[2])
    if len(unnamed) > 1:
        raise ValueError(
            f"{len(unnamed)} indexes have no name; write all but one as NAME=DIR"
        )
    check_names(list(named) or [_DEFAULT_NAME])
    for folder in unnamed:
        named = {_name_of(folder, set(named)): folder, **named}
    return named


def _name_of(folder: Path, taken: set[str]) -> str:
    """The folder's own name, if it can be part of a path and no other index has it."""
    from jaxsearch.serve.app import is_name

    name = folder.resolve().name
    if is_name(name) and name not in taken:
        return name
    if _DEFAULT_NAME in taken:
        raise ValueError(f"{folder} needs a name of its own; write it as NAME={folder}")
    return _DEFAULT_NAME


def _load(folders: dict[str, Path], encoder: str | None) -> "dict[str, ServedIndex]":
    from jaxsearch.serve.served_index import ServedIndex

    given = custom_encoder(encoder)
    return {
        name: ServedIndex.from_folder(folder, encoder=given)
        for name, folder in folders.items()
    }


def _web(
    given: str | None, config: "WebConfig", taken: set[str]
) -> "dict[str, ServedIndex]":
    """The search of the open web by its name; empty without --web.

    Raises:
      ValueError: if another index has its name, or the name cannot be part of a path.
    """
    from jaxsearch.serve.app import check_names

    if not given:
        return {}
    name, equals, provider = given.partition("=")
    if not equals:
        name, provider = _WEB_NAME, given
    check_names([name])
    if name in taken:
        raise ValueError(
            f"an index and the web are both named {name!r}; write --web NAME={provider}"
        )
    return {name: web_index(provider, config)}


def _summary(indexes: "dict[str, ServedIndex]") -> str:
    return ", ".join(
        f"{name} ({_size(index.num_passages)})" for name, index in indexes.items()
    )


def _size(num_passages: int | None) -> str:
    return "the web" if num_passages is None else f"{num_passages:,} passages"


COMMAND = Command(
    summary="answer searches over HTTP, in three dialects",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
    ends_process=True,
)
