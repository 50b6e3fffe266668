"""What an index finds for questions whose supporting passages are known."""

import dataclasses
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsearch.search.index import Hit, Retriever
from jaxsearch.search.passages import Passage

RANKS = (1, 3, 5, 10, 20)
_BATCH_SIZE = 256
_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchQuestion:
    """A question, and what a search for it should find.

    Attributes:
      question: the query.
      supporting_titles: titles of the passages that are needed; empty if unknown.
      golden_answers: texts that answer it; empty if unknown.
    """

    question: str
    supporting_titles: tuple[str, ...] = ()
    golden_answers: tuple[str, ...] = ()


def question_recall(
    index: Retriever, questions: Sequence[SearchQuestion]
) -> dict[str, Any]:
    """How much of what the questions need is among the first k hits, for k of RANKS.

    Returns:
      Counts of questions, and for each measure a map from k to the mean over the
      questions that it applies to: `title_recall` (share of a question's supporting
      titles that are found), `all_titles` (whether all are) and `answer_in_passage`
      (whether a golden answer occurs in a passage, as consecutive words). A measure
      that applies to no question is left out.

    Raises:
      ValueError: if no question has supporting titles or golden answers.
    """
    titled: list[list[float]] = []
    answered: list[list[float]] = []
    for start in range(0, len(questions), _BATCH_SIZE):
        batch = questions[start : start + _BATCH_SIZE]
        found = index.search([one.question for one in batch], RANKS[-1])
        for one, hits in zip(batch, found, strict=True):
            if one.supporting_titles:
                titled.append(_title_recalls(one.supporting_titles, hits))
            if one.golden_answers:
                answered.append(_answer_found(one.golden_answers, hits))
    if not titled and not answered:
        raise ValueError(
            f"none of {len(questions)} questions has metadata.supporting_titles or "
            "golden_answers; expected at least one, to know what should be found"
        )
    result: dict[str, Any] = {
        "num_questions": len(questions),
        "num_with_titles": len(titled),
        "num_with_answers": len(answered),
    }
    if titled:
        recalls = np.array(titled)
        result["title_recall"] = _by_rank(recalls)
        result["all_titles"] = _by_rank(recalls == 1.0)
    if answered:
        result["answer_in_passage"] = _by_rank(np.array(answered))
    return result


def _by_rank(rows: np.ndarray) -> dict[str, float]:
    """The mean for each k; the keys are text, as in JSON."""
    means = rows.mean(axis=0).tolist()
    return {str(k): mean for k, mean in zip(RANKS, means, strict=True)}


def _title_recalls(titles: Sequence[str], hits: Sequence[Hit]) -> list[float]:
    """Share of the titles among the first k hits, for each k."""
    wanted = {_plain_title(title) for title in titles}
    found = [_plain_title(hit.passage.title) for hit in hits]
    return [len(wanted.intersection(found[:k])) / len(wanted) for k in RANKS]


def _plain_title(title: str) -> str:
    return " ".join(title.split()).strip('"')


def _answer_found(answers: Sequence[str], hits: Sequence[Hit]) -> list[float]:
    """For each k, 1 if an answer is in one of the first k hits, else 0."""
    wanted = [words for answer in answers if (words := plain_words(answer)).strip()]
    first = next(
        (rank for rank, hit in enumerate(hits) if _has_any(hit.passage, wanted)),
        len(hits) + RANKS[-1],
    )
    return [float(first < k) for k in RANKS]


def _has_any(passage: Passage, answers: Sequence[str]) -> bool:
    text = plain_words(passage.contents)
    return any(answer in text for answer in answers)


def plain_words(text: str) -> str:
    """The words of a text, without case and accents, with a space around each."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return f" {' '.join(_WORD.findall(plain))} "
