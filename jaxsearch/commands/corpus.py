"""`jaxsearch corpus`: makes passages from documents."""

import argparse
from typing import Any

from jaxsearch.commands.command import Command, add_json_argument
from jaxsearch.commands.help_text import HelpFormatter

_DESCRIPTION = """\
Makes a corpus of passages, from which `jaxsearch index build` builds an index.
"""
_CHUNK = """\
Cuts the .txt, .md and .html files of a folder, and of the folders in it, into passages
of whole sentences where they fit. Each begins with its document's title: that of the
page, the first heading, or the name of the file. No script in a page runs.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
examples:
  jaxsearch corpus chunk handbook/ --out handbook.jsonl
  jaxsearch corpus chunk pages/ --words 200 --overlap 40 --out pages.jsonl
"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    chunk = actions.add_parser(
        "chunk",
        help="cut the documents of a folder into passages",
        description=_CHUNK,
        formatter_class=HelpFormatter,
    )
    add_json_argument(chunk)
    chunk.add_argument("folder", metavar="FOLDER", help="folder of documents in UTF-8")
    chunk.add_argument(
        "--out",
        required=True,
        metavar="FILE.jsonl",
        help="file to write; it must not exist",
    )
    chunk.add_argument(
        "--words",
        type=int,
        default=100,
        metavar="N",
        help="largest number of words per passage, without its title (default: 100)",
    )
    chunk.add_argument(
        "--overlap",
        type=int,
        default=0,
        metavar="N",
        help="words that a passage may repeat from the one before, in whole sentences "
        "(default: 0)",
    )
    chunk.add_argument(
        "--skip-bad-files",
        action="store_true",
        help="skip files that are not UTF-8; otherwise nothing is written",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from jaxsearch.search.chunks import ChunkSize
    from jaxsearch.search.document_files import chunk_folder

    return chunk_folder(
        args.folder,
        args.out,
        size=ChunkSize(num_words=args.words, overlap=args.overlap),
        skip_bad_files=args.skip_bad_files,
    )


COMMAND = Command(
    summary="make passages from a folder of documents",
    description=_DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
