"""Options of `jaxsearch index` for BM25, hybrids and rerankers."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsearch.search.bm25_postings import Bm25Settings
    from jaxsearch.search.index import Retriever


def add_lexical_arguments(build: argparse.ArgumentParser) -> None:
    """Options of an index of words, alone or in a hybrid."""
    build.add_argument(
        "--hybrid",
        action="store_true",
        help="also index words with BM25, and fuse both rankings by reciprocal rank",
    )
    lexical = build.add_argument_group("settings of BM25 (--encoder bm25 or --hybrid)")
    lexical.add_argument(
        "--language",
        metavar="NAME",
        help="language of stemming, such as english (default) or german, or none",
    )
    lexical.add_argument(
        "--k1",
        type=float,
        metavar="X",
        help="how slowly a word's weight saturates as it is repeated (default: 1.2)",
    )
    lexical.add_argument(
        "--b",
        type=float,
        metavar="X",
        help="how much long passages are penalized, 0 to 1 (default: 0.75)",
    )


def add_fusion_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of how the rankings of a hybrid become one."""
    fusion = parser.add_argument_group("settings of a hybrid")
    fusion.add_argument(
        "--hybrid-constant",
        type=float,
        metavar="X",
        help="a passage counts 1 / (X + its rank); the smaller X, the more the first "
        "ranks count (an index is built with 2)",
    )
    fusion.add_argument(
        "--hybrid-depth",
        type=int,
        metavar="N",
        help="passages of each ranking that are fused (an index is built with 100)",
    )
    fusion.add_argument(
        "--hybrid-weights",
        metavar="X,Y",
        help="weights of the rankings of vectors and of words (an index is built with "
        "1,1.5)",
    )


def add_rerank_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a reranker."""
    rerank = parser.add_argument_group("reranking")
    rerank.add_argument(
        "--rerank",
        metavar="DIR",
        help="folder or Hub id of a BERT cross-encoder that orders the candidates",
    )
    rerank.add_argument(
        "--candidates",
        type=int,
        metavar="N",
        help="passages per query that the reranker scores (default: 50)",
    )


def add_check_arguments(check: argparse.ArgumentParser) -> None:
    """Options of `index check`."""
    check.add_argument(
        "--questions",
        metavar="FILE",
        help="questions with metadata.supporting_titles or golden_answers: measure "
        "whether the index finds them, at 1, 3, 5, 10 and 20 passages",
    )
    check.add_argument(
        "--tune",
        type=float,
        metavar="RECALL",
        help="write to the index the cheapest settings of ScaNN whose recall at k is "
        "at least this, such as 0.97",
    )
    check.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of ScaNN (default: half of the cores, as in a run, which decodes "
        "on the others; a server uses all)",
    )


def bm25_settings(args: argparse.Namespace) -> "Bm25Settings | None":
    """The settings of BM25; None if the index has none.

    Raises:
      ValueError: if a setting is wrong, or is given for an index without BM25.
    """
    names = ("language", "k1", "b")
    given = {name: value for name in names if (value := vars(args)[name]) is not None}
    if not args.hybrid and args.encoder != "bm25":
        if given:
            raise ValueError(
                f"--{next(iter(given))} is a setting of BM25: give --encoder bm25 or "
                "--hybrid as well"
            )
        return None
    if args.hybrid and args.encoder in ("bm25", "none"):
        raise ValueError(
            f"--hybrid fuses BM25 with the vectors of an encoder; --encoder "
            f"{args.encoder} has none"
        )
    from jaxsearch.search.bm25_postings import Bm25Settings
    from jaxsearch.search.lexical_terms import check_language

    settings = Bm25Settings(**given)
    check_language(settings.language)
    return settings


def fusion_changes(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of `Fusion` that are given.

    Raises:
      ValueError: if the weights are not two numbers.
    """
    given: dict[str, Any] = {
        "constant": args.hybrid_constant,
        "depth": args.hybrid_depth,
    }
    if args.hybrid_weights is not None:
        try:
            dense, lexical = map(float, args.hybrid_weights.split(","))
        except ValueError:
            raise ValueError(
                "--hybrid-weights must be two numbers with a comma between them, such "
                f"as 1,0.5, got {args.hybrid_weights!r}"
            ) from None
        given |= {"dense_weight": dense, "lexical_weight": lexical}
    return {name: value for name, value in given.items() if value is not None}


def fused_as_given(index: "Retriever", args: argparse.Namespace) -> "Retriever":
    """The index, with the settings of a hybrid that are given.

    Raises:
      ValueError: if some are given for an index that is no hybrid.
    """
    changes = fusion_changes(args)
    if not changes:
        return index
    from jaxsearch.search.hybrid_index import fused_otherwise

    return fused_otherwise(index, changes)


def reranked(index: "Retriever", args: argparse.Namespace) -> "Retriever":
    """The index, with the reranker that is named, if one is.

    Raises:
      ValueError: if it cannot be read, or --candidates is given without it.
    """
    if args.rerank is None:
        if args.candidates is not None:
            raise ValueError("--candidates needs --rerank, which scores them")
        return index
    from jaxsearch.search.cross_encoder import read_cross_encoder
    from jaxsearch.search.reranked import DEFAULT_CANDIDATES, RerankedRetriever

    return RerankedRetriever(
        index,
        read_cross_encoder(args.rerank),
        num_candidates=DEFAULT_CANDIDATES
        if args.candidates is None
        else args.candidates,
    )
