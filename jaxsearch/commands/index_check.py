"""`jaxsearch index check`: measures an index, with questions if a file is given."""

import argparse
from typing import TYPE_CHECKING, Any

from jaxsearch.commands.search_options import fusion_changes, reranked

if TYPE_CHECKING:
    from jaxsearch.search.encoder import Encoder, EncoderFactory
    from jaxsearch.search.question_recall import SearchQuestion


def check(
    args: argparse.Namespace, encoder: "Encoder | EncoderFactory | None"
) -> dict[str, Any]:
    """Runs the command.

    Raises:
      ValueError: for a folder, questions or a reranker that cannot be read, or options
        that do not apply to the index.
    """
    from jaxsearch.search.index_check import Check, check_index

    if args.rerank is not None and args.questions is None:
        raise ValueError("--rerank needs --questions, whose passages are put in order")
    settings = Check(
        k=args.k,
        questions=[] if args.questions is None else _questions(args.questions),
        fusion=fusion_changes(args),
        tune=args.tune,
        num_threads=args.threads,
    )
    return check_index(
        args.folder, settings, encoder=encoder, wrap=lambda index: reranked(index, args)
    )


def _questions(path: str) -> "list[SearchQuestion]":
    """The questions of a file, with what a search for them should find."""
    from jaxsearch.data.formats import read_questions
    from jaxsearch.evaluation.reading import supporting_titles
    from jaxsearch.search.question_recall import SearchQuestion

    return [
        SearchQuestion(
            question=one.question,
            supporting_titles=tuple(supporting_titles(one.metadata)),
            golden_answers=one.golden_answers,
        )
        for one in read_questions(path)
    ]
