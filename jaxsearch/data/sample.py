"""The packaged sample: real questions and the passages that answer them.

Most of the passages do not support any question, so that retrieval can fail. The
sources are listed in `sample/ATTRIBUTION.md`.
"""

import dataclasses
import importlib.resources
import pathlib
import random
from collections import defaultdict
from collections.abc import Sequence

from jaxsearch.data.dataset import Dataset
from jaxsearch.data.demonstrations import (
    Demonstration,
    demonstrate,
    demonstrate_reading,
)
from jaxsearch.data.formats import Question, read_questions
from jaxsearch.search.indexes import build_index
from jaxsearch.search.passages import Passage, read_passages
from jaxsearch.search.readable import is_readable
from jaxsearch.search.tfidf_encoder import TfidfEncoder


def sample_questions_path() -> pathlib.Path:
    """Path of a FlashRAG file of HotpotQA and MuSiQue training questions."""
    return _packaged("questions.jsonl.gz")


def sample_passages_path() -> pathlib.Path:
    """Path of a corpus with all supporting pages of those questions."""
    return _packaged("passages.jsonl.gz")


def demonstrations(
    questions: Sequence[Question], passages: Sequence[Passage], *, seed: int
) -> list[Demonstration]:
    """Makes one templated demonstration per question.

    There is one search per supporting title, which finds all passages with that title.
    Titles that occur in the question or in an earlier observation come first, because
    the policy could know them at that point; otherwise the order is that of
    `metadata.supporting_titles`. The wording depends only on the seed and the id of the
    question.

    Raises:
      ValueError: if a question has no supporting titles, or one without passages.
    """
    by_title: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        by_title[passage.title].append(passage)
    demonstrated = []
    for question in questions:
        titles = question.metadata.get("supporting_titles") or []
        missing = [title for title in titles if title not in by_title]
        if missing or not titles:
            raise ValueError(
                f"question {question.id}: expected metadata.supporting_titles that are "
                f"titles of passages, got {titles!r}, missing {missing!r}; "
                "demonstrate only questions whose supporting pages are in the corpus"
            )
        searches = [
            (title, tuple(by_title[title]))
            for title in _reading_order(question.question, titles, by_title)
        ]
        rng = random.Random(f"{seed}/{question.id}")
        demonstrated.append(demonstrate(question, searches, rng=rng))
    return demonstrated


def _reading_order(
    question: str, titles: Sequence[str], by_title: dict[str, list[Passage]]
) -> list[str]:
    known = question
    remaining = list(dict.fromkeys(titles))
    order = []
    while remaining:
        named = (title for title in remaining if _is_named(title, known))
        title = next(named, remaining[0])
        remaining.remove(title)
        order.append(title)
        known += "".join(passage.contents for passage in by_title[title])
    return order


def _is_named(title: str, text: str) -> bool:
    """Whether the text names a page, with or without a qualifier like "(band)"."""
    return _name(title).casefold() in text.casefold()


def _name(title: str) -> str:
    """The title without its qualifier."""
    return title.partition(" (")[0]


def _packaged(name: str) -> pathlib.Path:
    return pathlib.Path(
        str(importlib.resources.files("jaxsearch.data") / "sample" / name)
    )


def dataset(run_folder: pathlib.Path | None, seed: int) -> Dataset:
    """The packaged questions and passages; the config must name a tokenizer."""
    return Dataset(
        questions=read_questions(sample_questions_path()),
        passages=read_passages(sample_passages_path()),
    )


def dataset_with_heldout(run_folder: pathlib.Path | None, seed: int) -> Dataset:
    """The packaged dataset with every sixth question held out."""
    whole = dataset(run_folder, seed)
    return dataclasses.replace(
        whole,
        questions=[q for i, q in enumerate(whole.questions) if i % 6],
        heldout=whole.questions[::6],
    )


def short_demonstrations(seed: int) -> list[Demonstration]:
    """Demonstrations of the packaged questions with at most two searches.

    They do not depend on the questions that a run trains on.
    """
    found = dataset(None, seed)
    made = demonstrations(found.questions, found.passages, seed=seed)
    return [one for one in made if len(one.observations) <= 2]


def reading_demonstrations(
    seed: int, num_passages: int = 2, num_words: int = 80
) -> list[Demonstration]:
    """Demonstrations of one search that finds the answer, and of the answer.

    They show the packaged questions that `dataset_with_heldout` trains on. A question
    is searched for itself, and for each supporting title that it names: one
    demonstration for each of these queries that finds a passage in which the first
    golden answer can be read (`search.readable`). Questions without such a query, and
    those answered by yes or no, are not demonstrated.

    Args:
      seed: chooses the wording.
      num_passages: passages per search.
      num_words: words of the passages that count as read, because observations are
        truncated.
    """
    found = dataset_with_heldout(None, seed)
    index = build_index(found.passages, TfidfEncoder.fit(found.passages))
    asked = [(q, query) for q in found.questions for query in _queries(q)]
    hits = index.search([query for _, query in asked], num_passages)
    demonstrated = []
    for (question, query), of_query in zip(asked, hits, strict=True):
        passages = tuple(hit.passage for hit in of_query)
        answers = question.golden_answers[:1]
        if is_readable(answers, passages, num_words=num_words):
            rng = random.Random(f"{seed}/{question.id}/{query}")
            made = demonstrate_reading(
                question, query, passages, num_words=num_words, rng=rng
            )
            demonstrated.append(made)
    return demonstrated


def _queries(question: Question) -> list[str]:
    """The question, and the supporting titles that it names."""
    titles = question.metadata["supporting_titles"]
    named = [_name(title) for title in titles if _is_named(title, question.question)]
    return list(dict.fromkeys([question.question, *named]))
