"""Options of `jaxsearch index build`, `join` and `push`."""

import argparse
import re

from jaxsearch.commands.search_options import (
    add_fusion_arguments,
    add_lexical_arguments,
)
from jaxsearch.search.parts import WHOLE, Part


def add_join_arguments(join: argparse.ArgumentParser) -> None:
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
        help="where the vectors of candidates are during a search: mapped (default) or "
        "memory, which needs RAM for all vectors",
    )
    parser.add_argument(
        "--max-memory",
        type=_num_bytes,
        metavar="SIZE",
        help="memory limit of the build, such as 12GB; a build that would not fit is "
        "refused before it begins",
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


def add_push_arguments(push: argparse.ArgumentParser) -> None:
    push.add_argument(
        "url",
        metavar="URL",
        help="milvus://HOST:PORT/COLLECTION, or milvus:///PATH/FILE.db/COLLECTION for "
        "Milvus Lite; an interrupted push continues where it stopped",
    )
    push.add_argument(
        "--index-type",
        choices=("HNSW", "SCANN"),
        default="HNSW",
        help="kind of index in the database (default: HNSW)",
    )


def add_build_arguments(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "--corpus",
        required=True,
        nargs="+",
        action="extend",
        metavar="FILE",
        help='passages: JSONL of {"id", "contents"} or {"id", "title", "text"}, '
        "parquet with these columns, or TSV of id and text (R1-Searcher) or of id, "
        "text and title (DPR); a folder of such files; JSONL and TSV may be .gz; on "
        "the Hugging Face Hub, hf://OWNER/NAME[/FILE][@REVISION]; with several "
        "corpora, each hit says which one it is from",
    )
    build.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write, new or empty"
    )
    _add_encoder(build)
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
        help="passages per shard of vectors; a stopped build continues after its last "
        "whole shard",
    )
    _add_search_settings(build)
    build.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="skip malformed rows; otherwise the corpus is refused",
    )
    add_lexical_arguments(build)
    add_fusion_arguments(build)
    _add_bert_settings(build)


def _add_encoder(build: argparse.ArgumentParser) -> None:
    """Adds where the vectors of passages come from."""
    build.add_argument(
        "--encoder",
        default="tfidf",
        help="tfidf, the folder or Hub id of a BERT encoder with safetensors (E5, BGE, "
        "GTE, MiniLM), the encoder/ folder of an index, package.module:NAME of a "
        "custom encoder, bm25 for words without vectors, or none for --vectors without "
        "text queries (default: tfidf)",
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


def _add_bert_settings(build: argparse.ArgumentParser) -> None:
    """Adds what the files of a BERT encoder may leave open."""
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
