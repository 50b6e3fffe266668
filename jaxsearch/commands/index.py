"""`jaxsearch index`: builds, searches or checks an index."""

import argparse
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.command import (
    Command,
    add_json_argument,
    custom_encoder,
    encoder_or_name,
)
from jaxsearch.commands.help_text import HelpFormatter
from jaxsearch.commands.index_check import check
from jaxsearch.commands.index_options import (
    add_build_arguments,
    add_join_arguments,
    add_push_arguments,
)
from jaxsearch.commands.index_progress import shown_progress
from jaxsearch.commands.index_select import add_select_arguments, select
from jaxsearch.commands.search_options import (
    add_check_arguments,
    add_fusion_arguments,
    add_rerank_arguments,
    bm25_settings,
    fused_as_given,
    fusion_changes,
    reranked,
)
from jaxsearch.surrogates import check_text
from jaxsearch.visible import visible

if TYPE_CHECKING:
    from jaxsearch.search.encoder import Encoder, EncoderFactory
    from jaxsearch.search.index import Retriever

_DESCRIPTION = """\
Builds an index from a corpus, searches it, and measures recall and latency.
"""
_ACTIONS = {
    "build": "build an index of one or several corpora, or continue a stopped build",
    "join": "make one index from the parts that were built with --part",
    "search": "print the passages that an index finds for a query",
    "check": "measure recall compared with exact search, and latency",
    "select": "keep training questions whose answer a search finds",
    "push": "load an index into a collection of Milvus, a vector database",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch index build --corpus wiki.jsonl.gz --encoder intfloat/e5-base-v2 --out wiki
  jaxsearch index build --corpus wiki.jsonl --vectors e5.npy \\
    --encoder intfloat/e5-base-v2 --out wiki
  jaxsearch index join part1 part2 --out wiki
  jaxsearch index search wiki "Who directed Alien?" -k 3
  jaxsearch index build --corpus wiki.jsonl.gz --encoder bm25 --out words
  jaxsearch index check wiki --questions hotpotqa_dev.jsonl.gz
  jaxsearch index select wiki --questions train.jsonl -k 2 --out readable.jsonl
  jaxsearch index push wiki milvus://127.0.0.1:19530/wiki
"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, summary in _ACTIONS.items():
        sub = actions.add_parser(
            action, help=summary, description=summary, formatter_class=HelpFormatter
        )
        add_json_argument(sub)
        if action == "build":
            add_build_arguments(sub)
            continue
        if action == "join":
            add_join_arguments(sub)
            continue
        sub.add_argument("folder", metavar="DIR", help="folder of the index")
        if action == "push":
            add_push_arguments(sub)
        else:
            add_fusion_arguments(sub)
            add_rerank_arguments(sub)
            sub.add_argument(
                "-k", type=int, default=5, help="passages per query (default: 5)"
            )
        sub.add_argument(
            "--encoder",
            metavar="MODULE:NAME",
            help="the custom encoder that the index was built with, if any",
        )
        if action == "check":
            add_check_arguments(sub)
        if action == "select":
            add_select_arguments(sub)
        if action == "search":
            sub.add_argument("query", metavar="QUERY", help="the query, in quotes")
            sub.add_argument(
                "--verify",
                action="store_true",
                help="compare the hashes of all files before they are used",
            )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "build":
        return _build(args)
    if args.action == "join":
        return _join(args)
    encoder = custom_encoder(args.encoder)
    if args.action == "push":
        return _push(args, encoder)
    if args.action == "search":
        found = search_once(
            args.folder,
            args.query,
            args.k,
            encoder,
            verify=args.verify,
            wrap=lambda index: reranked(fused_as_given(index, args), args),
        )
        if args.json:
            return found
        lines = _hit_lines(found, shutil.get_terminal_size().columns)
        print(visible("\n".join(lines)))
        return {}
    if args.action == "select":
        return select(args, encoder)
    return check(args, encoder)


def _build(args: argparse.Namespace) -> dict[str, Any]:
    """Builds an index in its folder, with a progress bar on standard error."""
    from jaxsearch.search.build import build_index_folder
    from jaxsearch.search.build_settings import BuildSettings
    from jaxsearch.search.encoder_options import EncoderOptions
    from jaxsearch.search.fusion import Fusion
    from jaxsearch.search.vector_files import VectorFile

    options = EncoderOptions(
        pooling=args.pooling,
        is_normalised=args.normalize,
        query_prefix=args.query_prefix,
        passage_prefix=args.passage_prefix,
        dtype=args.dtype,
    )
    vectors = None
    if args.vectors is not None:
        vectors = VectorFile(
            path=Path(args.vectors), dims=args.dims, dtype=args.vectors_dtype
        )
    elif args.vectors_dtype is not None:
        raise ValueError("--vectors-dtype needs --vectors FILE")
    settings = BuildSettings(
        options=options,
        dims=args.dims,
        skip_bad_rows=args.skip_bad_rows,
        vectors=vectors,
        part=args.part,
        shard_rows=args.shard_rows,
        rescore=args.rescore,
        max_memory=args.max_memory,
        words=bm25_settings(args),
        fusion=Fusion(**fusion_changes(args)),
    )
    with shown_progress() as progress:
        return build_index_folder(
            corpus=args.corpus,
            encoder=encoder_or_name(args.encoder),
            out=args.out,
            settings=settings,
            progress=progress,
        )


def _join(args: argparse.Namespace) -> dict[str, Any]:
    """Joins parts, with a progress bar on standard error."""
    from jaxsearch.search.build_settings import BuildSettings
    from jaxsearch.search.fusion import Fusion
    from jaxsearch.search.join import join_parts

    settings = BuildSettings(
        rescore=args.rescore,
        max_memory=args.max_memory,
        words=bm25_settings(args),
        fusion=Fusion(**fusion_changes(args)),
    )
    with shown_progress() as progress:
        return join_parts(
            args.folders,
            out=args.out,
            encoder=custom_encoder(args.encoder),
            settings=settings,
            progress=progress,
        )


def _push(
    args: argparse.Namespace, encoder: "Encoder | EncoderFactory | None"
) -> dict[str, Any]:
    """Loads an index into Milvus, with a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    from jaxsearch.remote.milvus_push import push_index

    console = Console(stderr=True)
    is_hidden = not console.is_terminal  # where it would print an empty line
    with Progress(console=console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task("passages written", total=None)
        return push_index(
            args.folder,
            args.url,
            index_type=args.index_type,
            encoder=encoder,
            report=lambda num_done, num_passages: progress.update(
                task, completed=num_done, total=num_passages
            ),
        )


def search_once(
    folder: str | Path,
    query: str,
    k: int = 5,
    encoder: "Encoder | EncoderFactory | None" = None,
    *,
    verify: bool = False,
    wrap: "Callable[[Retriever], Retriever]" = lambda index: index,
) -> dict[str, Any]:
    """The hits of one query, in the form that the command prints.

    Args:
      folder: the index.
      query: the query.
      k: number of passages.
      encoder: the encoder, if the index was built with one given by value.
      verify: whether to compare the hashes of all files.
      wrap: makes the retriever that is asked from the index.
    """
    from jaxsearch.search.indexes import load_index

    check_text(query, "the query")
    index = load_index(folder, encoder=encoder, verify=verify)
    [hits] = wrap(index).search([query], k)
    return {
        "query": query,
        "hits": [
            {
                "id": hit.passage.id,
                "title": hit.passage.title,
                "text": hit.passage.text,
                "score": hit.score,
            }
            | ({"corpus": hit.corpus} if hit.corpus else {})
            for hit in hits
        ],
    }


def _hit_lines(found: dict[str, Any], width: int) -> list[str]:
    """The hits of a query, best first, each as a heading and a paragraph."""
    lines = [] if found["hits"] else [f"nothing found for {found['query']!r}"]
    for number, hit in enumerate(found["hits"], start=1):
        corpus = f"{hit['corpus']}, " if "corpus" in hit else ""
        lines.append(
            f"{number}. {hit['title']}  ({corpus}id {hit['id']}, {hit['score']:.3f})"
        )
        lines += textwrap.wrap(
            hit["text"], width, initial_indent="   ", subsequent_indent="   "
        )
    return lines


COMMAND = Command(
    summary="build, search or check an index of passages",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
