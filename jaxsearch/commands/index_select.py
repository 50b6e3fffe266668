"""`jaxsearch index select`: training questions whose answer a search finds."""

import argparse
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.search_options import fused_as_given, reranked

if TYPE_CHECKING:
    from jaxsearch.search.encoder import Encoder, EncoderFactory


def add_select_arguments(select: argparse.ArgumentParser) -> None:
    """Options of `index select`."""
    select.add_argument(
        "--questions",
        required=True,
        metavar="FILE",
        help="training questions with golden answers",
    )
    select.add_argument(
        "--out",
        required=True,
        metavar="FILE.jsonl",
        help="file to write, for --data.questions; it must not exist. It gets the "
        "questions with an answer, other than yes or no, that is in one of the first k "
        "passages found by a search with the question (ignoring case, accents and "
        "punctuation)",
    )
    select.add_argument(
        "--words",
        type=int,
        default=0,
        metavar="N",
        help="number of words of these passages that the policy reads, because its "
        "observations are truncated (default: 0, all of them)",
    )


def select(
    args: argparse.Namespace, encoder: "Encoder | EncoderFactory | None"
) -> dict[str, Any]:
    """Runs the command.

    Raises:
      ValueError: for a folder or questions that cannot be read, a number out of range,
        a file that exists, or if no question is left.
    """
    from jaxsearch.evaluation.readable_questions import write_readable

    return write_readable(
        args.folder,
        args.questions,
        args.out,
        num_passages=args.k,
        num_words=args.words,
        encoder=encoder,
        wrap=lambda index: reranked(fused_as_given(index, args), args),
    )
