"""The packaged sample: real questions, and the passages that answer them.

Small enough to ship, and real enough that retrieval can fail: most passages
support none of the questions. `sample/ATTRIBUTION.md` says where both come from.
"""

import dataclasses
import importlib.resources
import pathlib
import random
from collections import defaultdict
from collections.abc import Sequence

from jaxsearch.data.dataset import Dataset
from jaxsearch.data.demonstrations import Demonstration, demonstrate
from jaxsearch.data.formats import Question, read_questions
from jaxsearch.search.passages import Passage, read_passages


def sample_questions_path() -> pathlib.Path:
    """A FlashRAG file of HotpotQA and MuSiQue training questions."""
    return _packaged("questions.jsonl.gz")


def sample_passages_path() -> pathlib.Path:
    """A corpus that holds every page those questions are supported by."""
    return _packaged("passages.jsonl.gz")


def demonstrations(
    questions: Sequence[Question], passages: Sequence[Passage], *, seed: int
) -> list[Demonstration]:
    """One templated demonstration per question, in the order of the questions.

    Every supporting title is searched for once and finds all its passages. A
    title that the question or an earlier observation names goes first, so that a
    demonstration asks, where it can, for what the policy could know by then;
    otherwise `metadata.supporting_titles` sets the order.

    The wording depends on the seed and the question's id alone.
    """
    by_title: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        by_title[passage.title].append(passage)
    demonstrated = []
    for question in questions:
        titles = question.metadata.get("supporting_titles", [])
        missing = [title for title in titles if title not in by_title]
        if missing or not titles:
            raise ValueError(
                f"question {question.id}: expected metadata.supporting_titles that "
                f"the passages hold, got {titles!r}, of which missing {missing!r}; "
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
    """Whether text names a page; a qualifier such as "(band)" is not needed."""
    return title.partition(" (")[0].casefold() in text.casefold()


def _packaged(name: str) -> pathlib.Path:
    return pathlib.Path(
        str(importlib.resources.files("jaxsearch.data") / "sample" / name)
    )


def dataset(run_folder: pathlib.Path, seed: int) -> Dataset:
    """The packaged questions and passages; the tokenizer is the user's to name."""
    return Dataset(
        questions=read_questions(sample_questions_path()),
        passages=read_passages(sample_passages_path()),
    )


def dataset_with_heldout(run_folder: pathlib.Path, seed: int) -> Dataset:
    """The same, with every sixth question held out; they search the same passages."""
    whole = dataset(run_folder, seed)
    return dataclasses.replace(
        whole,
        questions=[q for i, q in enumerate(whole.questions) if i % 6],
        heldout=whole.questions[::6],
    )


def short_demonstrations(seed: int) -> list[Demonstration]:
    """Demonstrations of packaged questions that take at most two searches.

    They are the same whatever questions a run trains on.
    """
    found = dataset(pathlib.Path(), seed)
    made = demonstrations(found.questions, found.passages, seed=seed)
    return [one for one in made if len(one.observations) <= 2]
