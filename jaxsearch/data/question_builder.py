"""TensorFlow Datasets builder for questions, which writes ArrayRecord.

TensorFlow Datasets writes and reads ArrayRecord without importing TensorFlow.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from jaxsearch.data.question import Question


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetInfo:
    """Contents of `dataset_info.json` for a set of questions.

    Attributes:
      name: name of the set.
      split: name of its only split.
      description: one sentence about the set.
      citation: the paper to cite.
      homepage: address of the authors' page.
      licence: licence of its texts.
      metadata: JSON values that are written to `metadata.json`.
    """

    name: str = "questions"
    split: str = "train"
    description: str = ""
    citation: str = ""
    homepage: str = ""
    licence: str = ""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing, because TFDS would look up the name in a public bucket."""


class QuestionBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes a list of questions; row i of the data source is question i."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {
        "1.0.0": "The features id, question, golden_answers and metadata (JSON)."
    }
    # Otherwise TFDS looks for checksums of downloads next to this file, with a package
    # (importlib_resources) that it does not install for recent Python versions.
    code_path = None

    def __init__(self, questions: Sequence[Question], data_dir: str, about: SetInfo):
        self._questions = questions
        self._about = about
        self.name = about.name
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        features = {
            "id": text,
            "question": text,
            "golden_answers": tfds.features.Sequence(text),
            "metadata": text,
        }
        about = self._about
        return _Info(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            description=about.description or None,
            citation=about.citation or None,
            homepage=about.homepage or None,
            license=about.licence or None,
            metadata=tfds.core.MetadataDict(about.metadata) if about.metadata else None,
            # Otherwise TFDS stores examples in the order of their hashed keys.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        return {self._about.split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for row, question in enumerate(self._questions):
            fields = dict(vars(question))
            yield row, fields | {"metadata": json.dumps(question.metadata)}


def store_questions(
    questions: Sequence[Question],
    directory: pathlib.Path,
    about: SetInfo,
    finish: Callable[[pathlib.Path], None] | None = None,
) -> None:
    """Writes to a temporary folder and renames it, so that `directory` is complete.

    Args:
      questions: the questions.
      directory: the folder to make; nothing happens if another process makes it first.
      about: recorded in `dataset_info.json` and `metadata.json`.
      finish: adds files to the temporary folder before it is renamed.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    # TFDS prints to standard output, which is reserved for the command's output.
    tfds.disable_progress_bar()
    with (
        tempfile.TemporaryDirectory(prefix=".storing-", dir=directory.parent) as folder,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        builder = QuestionBuilder(questions, folder, about)
        builder.download_and_prepare()
        if finish is not None:
            finish(pathlib.Path(builder.data_path))
        try:
            os.rename(builder.data_path, directory)
        except OSError:
            # Another process has already stored the same questions.
            if not directory.exists():
                raise
