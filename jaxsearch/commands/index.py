"""`jaxsearch index`: builds, searches or checks an index."""

import argparse
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.command import (
    Command,
    add_json_argument,
    custom_encoder,
    encoder_or_name,
)
from jaxsearch.commands.help_text import HelpFormatter
from jaxsearch.surrogates import check_text
from jaxsearch.visible import visible

if TYPE_CHECKING:
    from jaxsearch.search.encoder import Encoder, EncoderFactory
    from jaxsearch.search.encoder_options import Report

_DESCRIPTION = """\
Builds an index from a corpus, searches it, and measures recall and latency.
"""
_ACTIONS = {
    "build": "build an index of a corpus (ScaNN, or exact if ScaNN is unavailable)",
    "search": "print the passages that an index finds for a query",
    "check": "measure recall compared with exact search, and latency",
    "push": "load an index into a collection of Milvus, a vector database",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch index build --corpus wiki.jsonl.gz --encoder intfloat/e5-base-v2 --out wiki
  jaxsearch index search wiki "Who directed Alien?" -k 3
  jaxsearch index check wiki
  jaxsearch index push wiki milvus://127.0.0.1:19530/wiki
"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, summary in _ACTIONS.items():
        sub = actions.add_parser(
            action, help=summary, description=summary, formatter_class=HelpFormatter
        )
        add_json_argument(sub)
        if action == "build":
            _add_build_arguments(sub)
            continue
        sub.add_argument("folder", metavar="DIR", help="folder of the index")
        if action == "push":
            _add_push_arguments(sub)
        else:
            sub.add_argument(
                "-k", type=int, default=5, help="passages per query (default: 5)"
            )
        sub.add_argument(
            "--encoder",
            metavar="MODULE:NAME",
            help="the custom encoder that the index was built with, if any",
        )
        if action == "search":
            sub.add_argument("query", metavar="QUERY", help="the query, in quotes")


def _add_push_arguments(push: argparse.ArgumentParser) -> None:
    push.add_argument(
        "url",
        metavar="URL",
        help="milvus://HOST:PORT/COLLECTION, or milvus:///PATH/FILE.db/COLLECTION for "
        "Milvus Lite; a push that was cut goes on where it ended",
    )
    push.add_argument(
        "--index-type",
        choices=("HNSW", "SCANN"),
        default="HNSW",
        help="the database's kind of index (default: HNSW)",
    )


def _add_build_arguments(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "--corpus",
        required=True,
        metavar="FILE",
        help='passages: JSONL of {"id", "contents"} or {"id", "title", "text"}, or '
        "TSV of id and text (R1-Searcher) or of id, text and title (DPR); may be .gz, "
        "and on the Hugging Face Hub, hf://OWNER/NAME[/FILE][@REVISION]",
    )
    build.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write, new or empty"
    )
    build.add_argument(
        "--encoder",
        default="tfidf",
        help="tfidf, the folder or Hub id of a BERT encoder with safetensors (E5, BGE, "
        "GTE, MiniLM), the encoder/ folder of an index, or package.module:NAME of a "
        "custom encoder (default: tfidf)",
    )
    build.add_argument(
        "--dims", type=int, metavar="N", help="width of TF-IDF vectors (default: 1024)"
    )
    build.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="go on without malformed rows; otherwise the corpus is refused",
    )
    neural = build.add_argument_group(
        "settings of a BERT encoder",
        "They override the settings in the model's sentence-transformers files.",
    )
    neural.add_argument("--pooling", help="pooling of token vectors: mean or cls")
    neural.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1",
    )
    neural.add_argument(
        "--query-prefix",
        metavar="TEXT",
        help="text before each query, such as 'query: ' for E5",
    )
    neural.add_argument(
        "--passage-prefix",
        metavar="TEXT",
        help="text before each passage, such as 'passage: ' for E5",
    )
    neural.add_argument(
        "--dtype", help="dtype of activations: float32 (default) or bfloat16"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "build":
        return _build(args)
    encoder = custom_encoder(args.encoder)
    if args.action == "push":
        return _push(args, encoder)
    if args.action == "search":
        found = search_once(args.folder, args.query, args.k, encoder)
        if args.json:
            return found
        lines = _hit_lines(found, shutil.get_terminal_size().columns)
        print(visible("\n".join(lines)))
        return {}
    from jaxsearch.search.index_check import check_index

    return check_index(args.folder, k=args.k, encoder=encoder)


def _build(args: argparse.Namespace) -> dict[str, Any]:
    """Builds and saves an index, with a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    from jaxsearch.search.build import STAGES, build_index_folder
    from jaxsearch.search.encoder_options import EncoderOptions

    options = EncoderOptions(
        pooling=args.pooling,
        is_normalised=args.normalize,
        query_prefix=args.query_prefix,
        passage_prefix=args.passage_prefix,
        dtype=args.dtype,
    )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(STAGES))
        return build_index_folder(
            corpus=args.corpus,
            encoder=encoder_or_name(args.encoder),
            out=args.out,
            options=options,
            dims=args.dims,
            skip_bad_rows=args.skip_bad_rows,
            on_stage=lambda stage: progress.update(
                task, description=stage, completed=STAGES.index(stage)
            ),
            report=_reporter(progress),
        )


def _push(
    args: argparse.Namespace, encoder: "Encoder | EncoderFactory | None"
) -> dict[str, Any]:
    """Loads an index into Milvus, with a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    from jaxsearch.remote.milvus_push import push_index

    with Progress(console=Console(stderr=True), transient=True) as progress:
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


def _reporter(progress: Any) -> "Report":
    """Shows an encoder's progress on a second bar, which its first report adds."""
    tasks: list[Any] = []

    def report(num_done: int, num_passages: int) -> None:
        if not tasks:
            tasks.append(progress.add_task("passages encoded", total=num_passages))
        progress.update(tasks[0], completed=num_done)

    return report


def search_once(
    folder: str | Path,
    query: str,
    k: int = 5,
    encoder: "Encoder | EncoderFactory | None" = None,
) -> dict[str, Any]:
    """The hits of one query, in the form that the command prints."""
    from jaxsearch.search.indexes import load_index

    check_text(query, "the query")
    [hits] = load_index(folder, encoder=encoder).search([query], k)
    return {
        "query": query,
        "hits": [
            {
                "id": hit.passage.id,
                "title": hit.passage.title,
                "text": hit.passage.text,
                "score": hit.score,
            }
            for hit in hits
        ],
    }


def _hit_lines(found: dict[str, Any], width: int) -> list[str]:
    """The hits of a query, best first, each as a heading and a paragraph."""
    lines = [] if found["hits"] else [f"nothing found for {found['query']!r}"]
    for number, hit in enumerate(found["hits"], start=1):
        lines.append(f"{number}. {hit['title']}  (id {hit['id']}, {hit['score']:.3f})")
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
