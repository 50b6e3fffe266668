"""`jaxsearch index`: builds, searches or checks an index."""

import argparse
import contextlib
import re
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsearch.bad_rows import print_note
from jaxsearch.commands.command import (
    Command,
    add_json_argument,
    custom_encoder,
    encoder_or_name,
)
from jaxsearch.commands.help_text import HelpFormatter
from jaxsearch.commands.index_check import check
from jaxsearch.commands.search_options import (
    add_check_arguments,
    add_fusion_arguments,
    add_lexical_arguments,
    add_rerank_arguments,
    bm25_settings,
    fused_as_given,
    fusion_changes,
    reranked,
)
from jaxsearch.search.parts import WHOLE, Part
from jaxsearch.surrogates import check_text
from jaxsearch.visible import visible

if TYPE_CHECKING:
    from jaxsearch.search.build import Progress
    from jaxsearch.search.encoder import Encoder, EncoderFactory
    from jaxsearch.search.index import Retriever

_DESCRIPTION = """\
Builds an index from a corpus, searches it, and measures recall and latency.
"""
_ACTIONS = {
    "build": "build an index of one or several corpora; goes on with a stopped build",
    "join": "make one index of the parts that were built with --part",
    "search": "print the passages that an index finds for a query",
    "check": "measure recall compared with exact search, and latency",
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
        if action == "join":
            _add_join_arguments(sub)
            continue
        sub.add_argument("folder", metavar="DIR", help="folder of the index")
        if action == "push":
            _add_push_arguments(sub)
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
        if action == "search":
            sub.add_argument("query", metavar="QUERY", help="the query, in quotes")
            sub.add_argument(
                "--verify",
                action="store_true",
                help="compare the hashes of all files before they are used",
            )


def _add_join_arguments(join: argparse.ArgumentParser) -> None:
    join.add_argument(
        "folders", nargs="+", metavar="PART", help="folders built with --part"
    )
    join.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write, new or empty"
    )
    join.add_argument(
        "--encoder",
        metavar="MODULE:NAME",
        help="the custom encoder that the parts were built with, if any",
    )
    _add_search_settings(join)
    add_lexical_arguments(join)
    add_fusion_arguments(join)


def _add_search_settings(parser: argparse.ArgumentParser) -> None:
    """Adds how the finished vectors are searched, and the limit of memory."""
    parser.add_argument(
        "--rescore",
        default="mapped",
        metavar="WHERE",
        help="where the vectors of candidates lie in a search: mapped (default) or "
        "memory, which needs RAM for all vectors",
    )
    parser.add_argument(
        "--max-memory",
        type=_num_bytes,
        metavar="SIZE",
        help="limit of the build, such as 12GB; it is refused before it begins if it "
        "would not fit",
    )


def _num_bytes(text: str) -> int:
    """The number of bytes of a size such as "12GB".

    Raises:
      argparse.ArgumentTypeError: for any other text.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kmgt]?)b?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(
            f"expected a size such as 12GB or 800MB, got {text!r}"
        )
    return int(float(found[1]) * 1000 ** (" kmgt".index(found[2] or " ")))


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
        nargs="+",
        action="extend",
        metavar="FILE",
        help='passages: JSONL of {"id", "contents"} or {"id", "title", "text"}, '
        "parquet with these columns, or TSV of id and text (R1-Searcher) or of id, "
        "text and title (DPR); a folder of such files; JSONL and TSV may be .gz; on "
        "the Hugging Face Hub, hf://OWNER/NAME[/FILE][@REVISION]; of several corpora "
        "each hit says which",
    )
    build.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write, new or empty"
    )
    build.add_argument(
        "--encoder",
        default="tfidf",
        help="tfidf, the folder or Hub id of a BERT encoder with safetensors (E5, BGE, "
        "GTE, MiniLM), the encoder/ folder of an index, package.module:NAME of a "
        "custom encoder, bm25 for words without vectors, or none for --vectors without "
        "queries of text (default: tfidf)",
    )
    build.add_argument(
        "--dims",
        type=int,
        metavar="N",
        help="width of TF-IDF vectors (default: 1024), or of raw numbers in --vectors",
    )
    build.add_argument(
        "--vectors",
        metavar="FILE",
        help="vectors of the passages, in their order, instead of encoding them: .npy, "
        "a flat index of FAISS, or raw numbers with --dims and --vectors-dtype; 64 "
        "passages are encoded and compared",
    )
    build.add_argument(
        "--vectors-dtype",
        metavar="DTYPE",
        help="type of raw numbers in --vectors: float16 or float32",
    )
    build.add_argument(
        "--part",
        type=Part.parse,
        default=WHOLE,
        metavar="I/N",
        help="encode only one part, such as 3/8, to be joined by `index join`",
    )
    build.add_argument(
        "--shard-rows",
        type=int,
        metavar="N",
        help="passages of a shard of vectors, at which a stopped build goes on",
    )
    _add_search_settings(build)
    build.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="go on without malformed rows; otherwise the corpus is refused",
    )
    add_lexical_arguments(build)
    add_fusion_arguments(build)
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
    return check(args, encoder)


def _build(args: argparse.Namespace) -> dict[str, Any]:
    """Builds an index in its folder, with a progress bar on standard error."""
    from jaxsearch.search.build import BuildSettings, build_index_folder
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
    with _shown_progress() as progress:
        return build_index_folder(
            corpus=args.corpus,
            encoder=encoder_or_name(args.encoder),
            out=args.out,
            settings=settings,
            progress=progress,
        )


def _join(args: argparse.Namespace) -> dict[str, Any]:
    """Joins parts, with a progress bar on standard error."""
    from jaxsearch.search.build import BuildSettings
    from jaxsearch.search.fusion import Fusion
    from jaxsearch.search.join import join_parts

    settings = BuildSettings(
        rescore=args.rescore,
        max_memory=args.max_memory,
        words=bm25_settings(args),
        fusion=Fusion(**fusion_changes(args)),
    )
    with _shown_progress() as progress:
        return join_parts(
            args.folders,
            out=args.out,
            encoder=custom_encoder(args.encoder),
            settings=settings,
            progress=progress,
        )


@contextlib.contextmanager
def _shown_progress() -> Iterator["Progress"]:
    """Shows stages, and the passages done with their rate and the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    from jaxsearch.search.build import STAGES, Progress

    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # where it would print an empty line
    )
    with bars:
        stages = bars.add_task("", total=len(STAGES), rate="")
        tasks: list[Any] = []
        began: list[tuple[float, int]] = []

        def on_stage(stage: str) -> None:
            bars.update(stages, description=stage, completed=STAGES.index(stage))
            while tasks:
                bars.remove_task(tasks.pop())
            began.clear()

        def report(num_done: int, num: int) -> None:
            now = time.monotonic()
            if not tasks:
                tasks.append(bars.add_task("passages", total=num, rate=""))
                began.append((now, num_done))
            seconds, done = now - began[0][0], num_done - began[0][1]
            rate = f"{done / seconds:,.0f} rows/s" if seconds > 0 else ""
            bars.update(tasks[0], completed=num_done, rate=rate)

        yield Progress(on_stage=on_stage, report=report, note=print_note)


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
