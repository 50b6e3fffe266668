"""Questions stored on disk as ArrayRecord, for random access.

TensorFlow Datasets writes and reads ArrayRecord without importing TensorFlow.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence

import tensorflow_datasets as tfds

from jaxsearch.data.formats import read_questions
from jaxsearch.data.question import Question

# Part of the fingerprint. Increase it when the stored features change, so that a cache
# in the old layout is not read.
_LAYOUT = 1


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing; TFDS would look up the data's name in a public bucket."""


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes a list of questions; row i of the data source is question i."""

    name = "questions"
    VERSION = tfds.core.Version("1.0.0")
    # Otherwise TFDS looks for checksums of downloads next to this file, with a package
    # (importlib_resources) that it does not install for recent Python versions.
    code_path = None

    def __init__(self, questions: Sequence[Question], data_dir: str):
        self._questions = questions
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        features = {
            "id": text,
            "question": text,
            "golden_answers": tfds.features.Sequence(text),
            "metadata": text,
        }
        return _Info(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            # Otherwise TFDS stores examples in the order of their hashed keys.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for row, question in enumerate(self._questions):
            fields = dataclasses.asdict(question)
            yield row, fields | {"metadata": json.dumps(question.metadata)}


class QuestionSource:
    """Random access to stored questions, in their original order.

    Attributes:
      fingerprint: hash of the questions and their order.
    """

    def __init__(self, directory: pathlib.Path, fingerprint: str):
        self.fingerprint = fingerprint
        self._rows = tfds.builder_from_directory(directory).as_data_source("train")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Question:
        fields = self._rows[row]
        return Question(
            id=fields["id"].decode(),
            question=fields["question"].decode(),
            golden_answers=tuple(text.decode() for text in fields["golden_answers"]),
            metadata=json.loads(fields["metadata"]),
        )


def open_questions(
    questions: str | pathlib.Path | Sequence[Question], cache_dir: str | pathlib.Path
) -> QuestionSource:
    """Opens the questions of a file or a list, stored once in a cache folder.

    The stored copy is identified by a fingerprint of its content: a changed file is
    stored again, and an equal file is reused regardless of its path.

    Raises:
      ValueError: if there are no questions, or two with the same id.
    """
    if isinstance(questions, str | pathlib.Path):
        questions = read_questions(questions)
    if not questions:
        raise ValueError("expected at least one question, got an empty list")
    [(most_used, count)] = Counter(q.id for q in questions).most_common(1)
    if count > 1:
        raise ValueError(
            f"ids of questions must be unique, got {most_used!r} {count} times"
        )
    fingerprint = _fingerprint(questions)
    directory = pathlib.Path(cache_dir) / f"questions-{fingerprint[:16]}"
    if not directory.exists():
        _store(questions, directory)
    return QuestionSource(directory, fingerprint)


def read_all(source: QuestionSource) -> list[Question]:
    """Returns all questions in their original order, for evaluation."""
    return [source[row] for row in range(len(source))]


def _fingerprint(questions: Sequence[Question]) -> str:
    digest = hashlib.sha256(f"{_LAYOUT}\n".encode())
    for question in questions:
        line = json.dumps(dataclasses.asdict(question), sort_keys=True)
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def _store(questions: Sequence[Question], directory: pathlib.Path) -> None:
    """Writes to a temporary folder and renames it, so that `directory` is complete."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    # TFDS prints to standard output, which is for the output of the command.
    tfds.disable_progress_bar()
    with (
        tempfile.TemporaryDirectory(prefix=".storing-", dir=directory.parent) as folder,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        builder = _Builder(questions, folder)
        builder.download_and_prepare()
        try:
            os.rename(builder.data_path, directory)
        except OSError:
            # Another process has already stored the same questions.
            if not directory.exists():
                raise
