"""Named sets of questions, and samples of them."""

import dataclasses
import hashlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from jaxsearch.data.prepared_set import parse_name
from jaxsearch.data.question import Question
from jaxsearch.data.records import SUFFIXES

# NAME=FILE on the command line.
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)", re.DOTALL)
OWN_QUESTIONS = "heldout"  # name of a run's own held-out questions


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetRecord:
    """A set in the settings of an evaluation.

    Attributes:
      name, source: see `QuestionSet`.
      n: number of questions to ask.
      of: number of questions in the source.
      sample_seed: seed of a random sample; None if it is not a sample.
      digest: of the questions.
    """

    name: str
    source: str
    n: int
    of: int
    sample_seed: int | None
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionSet:
    """Questions that are evaluated together, under a name.

    Attributes:
      name: its name in results and in `predictions.jsonl`.
      source: file or address from the user; "" for the run's own questions.
      questions: the questions to ask, in the order of the file.
      num_all: number of questions in the source.
      seed: seed of a random sample; None if it is not a sample.
    """

    name: str
    source: str
    questions: Sequence[Question]
    num_all: int
    seed: int | None = None

    def record(self) -> SetRecord:
        """The set without its questions, of which it has a digest."""
        digest = hashlib.sha256()
        for question in self.questions:
            line = json.dumps(dataclasses.asdict(question), sort_keys=True)
            digest.update(f"{line}\n".encode())
        return SetRecord(
            name=self.name,
            source=self.source,
            n=len(self.questions),
            of=self.num_all,
            sample_seed=self.seed,
            digest=digest.hexdigest()[:16],
        )


def question_set(
    name: str, source: str, questions: Sequence[Question], num_sampled: int, seed: int
) -> QuestionSet:
    """A set of questions, or a random sample of them; `num_sampled` is 0 for all."""
    asked = sample_of(questions, num_sampled, seed) if num_sampled else questions
    return QuestionSet(
        name=name,
        source=source,
        questions=asked,
        num_all=len(questions),
        seed=seed if num_sampled else None,
    )


def named_sources(texts: Sequence[str]) -> dict[str, str]:
    """Files by the names of their sets.

    `NAME=FILE` names a set. Otherwise the name is the file name without suffixes, with
    as many of its folders as make it unique: `nq/test.jsonl nq_open/dev.jsonl` are
    `test` and `dev`, `nq/test.jsonl popqa/test.jsonl` are `nq/test` and `popqa/test`.

    Raises:
      ValueError: if two sets have the same name.
    """
    given = [_split(text) for text in texts]
    paths = [_parts(source) for _, source in given]
    names = []
    for (name, _), parts in zip(given, paths, strict=True):
        depth = 1
        while not name and depth < len(parts) and _is_shared(parts[-depth:], paths):
            depth += 1
        names.append(name or "/".join(parts[-depth:]))
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(
            f"two sets of questions have the name {twice[0]!r:.80}; name them, as in "
            "--questions first=FILE second=FILE"
        )
    return dict(zip(names, (source for _, source in given), strict=True))


def _split(text: str) -> tuple[str, str]:
    """The name before "=" ("" if there is none), and the file."""
    match = _NAMED.fullmatch(text)
    # Path.exists raises for a text that is too long for a name, such as a mixture.
    return ("", text) if match is None or os.path.exists(text) else match.groups()


def _parts(source: str) -> tuple[str, ...]:
    """Folders and name of a source, without the suffixes of question files.

    The name of a prepared set is one part, with its split.
    """
    if parse_name(source):
        return (source,)
    path = source.partition("@")[0] if source.startswith("hf://") else source
    parts = PurePosixPath(path.removeprefix("hf://")).parts
    name = parts[-1] if parts else source
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix) and name != suffix:
            name = name.removesuffix(suffix)
            break
    return (*parts[:-1], name)


def _is_shared(tail: tuple[str, ...], paths: Sequence[tuple[str, ...]]) -> bool:
    return sum(parts[-len(tail) :] == tail for parts in paths) > 1


def sample_of(
    questions: Sequence[Question], num_questions: int, seed: int
) -> list[Question]:
    """A random sample in the order of the questions; all if there are too few.

    With the same seed, a smaller sample is a subset of a larger one.

    Raises:
      ValueError: if the number is not positive.
    """
    if num_questions < 1:
        raise ValueError(f"--sample must be at least 1, got {num_questions}")
    # Only `random.random` gives the same numbers in all versions of Python.
    rng = random.Random(seed)
    ranks = [rng.random() for _ in questions]
    chosen = sorted(range(len(questions)), key=ranks.__getitem__)[:num_questions]
    return [questions[i] for i in sorted(chosen)]
