"""Passages in the answers of servers, checked before anything else reads them."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

from jaxsearch.search.index import Hit, SearchError, Unanswered
from jaxsearch.search.passages import Passage

_MAX_REASON_LEN = 200
_LINE_GAP = "   "  # between title and text in R1-Searcher's lines


def hits_of(documents: Any, scores: Any, k: int) -> list[Hit]:
    """The passages that a server found for one query, at most k.

    A passage that it gives again is left out: Faiss repeats the last one if there are
    fewer than k.

    Args:
      documents: a list of documents, as `passage_of` reads them.
      scores: a list of numbers; None for a server without scores, whose hits get 1,
        1/2, 1/3, ... in their order.
      k: number of passages that were asked for.

    Raises:
      SearchError: if the lists are malformed or their lengths differ.
    """
    if not isinstance(documents, list):
        raise SearchError(f"expected a list of documents, got {shown(documents)}")
    if scores is None:
        scores = [1 / rank for rank in range(1, len(documents) + 1)]
    if not isinstance(scores, list) or len(scores) != len(documents):
        raise SearchError(
            f"expected {len(documents)} scores for the documents, got {shown(scores)}"
        )
    hits: dict[tuple[str, str], Hit] = {}
    for document, score in zip(documents, scores, strict=True):
        passage = passage_of(document)
        hit = Hit(passage=passage, score=_score(score))
        hits.setdefault((passage.id, passage.contents), hit)
    return list(hits.values())[:k]


def scored_hits(results: Any, k: int) -> list[Hit]:
    """Hits for one query as Search-R1 gives them, each with its document.

    Online servers of that dialect give documents without id, and no scores.

    Raises:
      SearchError: if an item is malformed.
    """
    if not isinstance(results, list):
        raise SearchError(f"expected a list of documents, got {shown(results)}")
    items = [one if isinstance(one, dict) else {"document": one} for one in results]
    documents = [one.get("document", one) for one in items]
    scores = [one.get("score") for one in items]
    has_scores = any(score is not None for score in scores)
    return hits_of(documents, scores if has_scores else None, k)


def line_hits(lines: Any, k: int) -> list[Hit]:
    """Hits for one query as R1-Searcher gives them, lines of `id<TAB>title   text`.

    Raises:
      SearchError: if an item is not a line.
    """
    if not isinstance(lines, list):
        raise SearchError(f"expected a list of lines, got {shown(lines)}")
    return hits_of([_of_line(line) for line in lines], None, k)


def one_per_query(answers: Any, num_queries: int) -> list[Any]:
    """The answers, if they are a list with one for each query.

    Raises:
      SearchError: if they are not.
    """
    if not isinstance(answers, list):
        raise SearchError(f"expected a list of answers, got {shown(answers)}")
    if len(answers) != num_queries:
        raise SearchError(f"{len(answers)} answers to {num_queries} queries")
    return answers


def with_unanswered(found: list[list[Hit]], reasons: Any) -> list[list[Hit]]:
    """The hits, with `Unanswered` for the queries that a server could not answer.

    Args:
      found: hits of each query.
      reasons: why, by the query's number from 0 on, written as a text.

    Raises:
      SearchError: if it is something else.
    """
    if not isinstance(reasons, dict):
        raise SearchError(f"expected reasons by query, got {shown(reasons)}")
    missing = [str(number) in reasons for number in range(len(found))]
    _check_texts(reasons.values())
    return [
        Unanswered(" ".join(reasons[str(number)].split())[:_MAX_REASON_LEN])
        if is_missing
        else hits
        for number, (hits, is_missing) in enumerate(zip(found, missing, strict=True))
    ]


def passage_of(document: Any) -> Passage:
    """A passage from `{"id", "contents"}` or `{"id", "title", "text"}`, or a text.

    A document without id gets a hash of its text. An integer becomes its digits.

    Raises:
      SearchError: if there is no text, or a value is of another type or no text.
    """
    if isinstance(document, str):
        document = {"contents": document}
    if not isinstance(document, dict):
        raise SearchError(f"expected a document, got {shown(document)}")
    contents = document.get("contents")
    if contents is None and "text" in document:
        texts = (document.get("title") or "", document["text"])
        _check_texts(texts)
        contents = f'"{texts[0]}"\n{texts[1]}' if texts[0] else f"\n{texts[1]}"
    id_ = document.get("id")
    if isinstance(id_, int) and not isinstance(id_, bool):
        id_ = str(id_)
    _check_texts([contents])
    if id_ is None or id_ == "":
        id_ = hashlib.sha256(contents.encode()).hexdigest()[:16]
    if not isinstance(id_, str):
        raise SearchError(f"expected the id of a document, got {shown(id_)}")
    _check_texts([id_])
    return Passage(id=id_, contents=contents)


def _of_line(line: Any) -> dict[str, str]:
    """The document of a line, whose id is the number before the tab."""
    _check_texts([line])
    id_, tab, text = line.partition("\t")
    if not tab:
        id_, text = "", line
    title, gap, rest = text.partition(_LINE_GAP)
    is_titled = gap and title.strip() and "\n" not in title
    contents = f'"{title}"\n{rest}' if is_titled else f"\n{text}"
    return {"id": id_.strip(), "contents": contents}


def _check_texts(texts: Iterable[Any]) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise SearchError(f"expected the text of a document, got {shown(text)}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise SearchError(
                    "a document has half of a surrogate pair, which is not text"
                ) from None


def _score(score: Any) -> float:
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not is_number or not math.isfinite(score):
        raise SearchError(f"expected the score of a document, got {shown(score)}")
    return float(score)


def shown(value: Any) -> str:
    """A value of a server's answer for an error, on one short line."""
    return ascii(value) if isinstance(value, float) else f"{ascii(value):.60}"
