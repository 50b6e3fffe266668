"""What a run is made of where no file is named."""

import dataclasses
from pathlib import Path

from jaxsearch.data.formats import Question
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.search.passages import Passage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Questions and passages to train on, and others to be judged on.

    Attributes:
      tokenizer: None where the user must name one.
      heldout_passages: what is searched for held-out questions; empty: `passages`.
    """

    questions: list[Question]
    passages: list[Passage]
    tokenizer: Tokenizer | None = None
    heldout: list[Question] = dataclasses.field(default_factory=list)
    heldout_passages: list[Passage] = dataclasses.field(default_factory=list)


def no_dataset(run_folder: Path | None, seed: int) -> Dataset:
    """For runs whose questions and passages are the user's to name."""
    return Dataset(questions=[], passages=[])
