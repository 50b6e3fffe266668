"""Datasets: questions and passages for runs whose config does not name files."""

import dataclasses
from pathlib import Path

from jaxsearch.data.question import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.search.passages import Passage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Questions and passages for training and for evaluation.

    Attributes:
      questions: training questions.
      passages: the corpus that is searched during training.
      tokenizer: None if the config must name one.
      heldout: evaluation questions.
      heldout_passages: the corpus for held-out questions; empty means `passages`.
    """

    questions: list[Question]
    passages: list[Passage]
    tokenizer: Tokenizer | None = None
    heldout: list[Question] = dataclasses.field(default_factory=list)
    heldout_passages: list[Passage] = dataclasses.field(default_factory=list)


def no_dataset(run_folder: Path | None, seed: int) -> Dataset:
    """An empty dataset, for runs whose config names its questions and passages."""
    return Dataset(questions=[], passages=[])
