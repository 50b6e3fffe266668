"""Mixtures of question sets: several files or prepared sets, with weights.

On the command line a mixture is one word, such as `hotpotqa=2,2wiki=1`: two of every
three questions come from HotpotQA. The default weight is 1.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from jaxsearch.data.question import Question
from jaxsearch.data.records import SUFFIXES

SET = "set"
"""The field of a question's metadata that names its source in a mixture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedSource:
    """One source of a mixture."""

    path: str
    """A file, an address on the Hub, or a prepared set, as in data.questions."""
    weight: float = 1.0
    """Its share of the questions, relative to the weights of the other sources."""

    def __post_init__(self):
        if not self.path:
            raise ValueError("a source of a mixture needs a path or a name, got ''")
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"the weight of {self.path} in a mixture must be positive and finite, "
                f"got {self.weight:g}; leave out a source that is not to be used"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """Question sets that a stage draws from in fixed proportions."""

    sources: tuple[WeightedSource, ...]
    """At least one, each with its own path."""

    def __post_init__(self):
        if not self.sources:
            raise ValueError("a mixture needs at least one source, got none")
        paths = [source.path for source in self.sources]
        for path in paths:
            if paths.count(path) > 1:
                raise ValueError(
                    f"{path} is in the mixture {paths.count(path)} times; give it once,"
                    " with a larger weight"
                )

    def __str__(self) -> str:
        return ",".join(f"{one.path}={one.weight:g}" for one in self.sources)

    @property
    def labels(self) -> tuple[str, ...]:
        """A short label for each source: its set or file name, or its whole path."""
        short = [_short_name(source.path) for source in self.sources]
        return tuple(
            name if short.count(name) == 1 else source.path
            for name, source in zip(short, self.sources, strict=True)
        )


def _short_name(path: str) -> str:
    """The name of a set, or a file's name without folder and suffixes."""
    file = path.rpartition("@")[0] or path
    if not file.endswith(SUFFIXES):
        return path
    return file.rpartition("/")[2].partition(".")[0] or path


QuestionsFrom: TypeAlias = str | Mixture
"""A path or name, or a mixture of several; "" for none."""


def parse_questions(text: str) -> QuestionsFrom:
    """Parses a path or a mixture given on the command line.

    Raises:
      ValueError: if a weight is not a number.
    """
    if os.path.isfile(text):  # Path.is_file raises for a text too long for a name
        return text
    if "," not in text and _split_weight(text)[1] is None:
        return text
    return Mixture(sources=tuple(map(_weighted, text.split(","))))


def _weighted(part: str) -> WeightedSource:
    path, text = _split_weight(part)
    try:
        weight = 1.0 if text is None else float(text)
    except ValueError:
        raise ValueError(
            f"{part}: expected a weight such as 2 or 0.5 after `=`, got {text!r}"
        ) from None
    return WeightedSource(path=path, weight=weight)


def _split_weight(part: str) -> tuple[str, str | None]:
    """Splits a path from the text of its weight; None without a weight.

    Folder and file names in a path may contain `=`.
    """
    path, equals, weight = part.rpartition("=")
    if not equals or "/" in weight or weight.endswith(SUFFIXES):
        return part, None
    return path, weight


def read_mixture(
    mixture: Mixture, read: Callable[[str], Sequence[Question]]
) -> list[Question]:
    """The questions of all sources, in order.

    Published sets use the same ids, so the label of the source is added in front, as in
    `hotpotqa/train_0`. `metadata["set"]` is the label, too.

    Args:
      mixture: the sources.
      read: reads the questions of a path.
    """
    return [
        dataclasses.replace(
            question,
            id=f"{label}/{question.id}",
            metadata={**question.metadata, SET: label},
        )
        for label, source in zip(mixture.labels, mixture.sources, strict=True)
        for question in read(source.path)
    ]


def questions_by_source(
    questions: Sequence[Question], mixture: Mixture
) -> list[list[Question]]:
    """The questions of each source.

    Raises:
      ValueError: if a source has no questions, because they were held out or dropped.
    """
    by_label: dict[str, list[Question]] = {label: [] for label in mixture.labels}
    for question in questions:
        by_label[question.metadata[SET]].append(question)
    for label, those in by_label.items():
        if not those:
            raise ValueError(
                f"no question of {label} is left to train on; leave it out of {mixture}"
            )
    return list(by_label.values())


def read_from(
    questions: QuestionsFrom, read: Callable[[str], list[Question]]
) -> list[Question]:
    """The questions of a path or name, or of all sources of a mixture.

    Args:
      questions: their location; a text may also be a mixture.
      read: reads the questions of a path or name.
    """
    if isinstance(questions, str):
        questions = parse_questions(questions)
    if isinstance(questions, str):
        return read(questions)
    return read_mixture(questions, read)


def check_unweighted(questions: QuestionsFrom) -> None:
    """Checks that questions to evaluate on have no weights.

    Raises:
      ValueError: if they have: each question is asked once.
    """
    if isinstance(questions, str):
        questions = parse_questions(questions)
    if isinstance(questions, str):
        return
    if len({source.weight for source in questions.sources}) > 1:
        names = ",".join(source.path for source in questions.sources)
        raise ValueError(
            f"{questions}: an evaluation asks every question once, so weights have "
            f"no effect; leave them out: {names}"
        )
