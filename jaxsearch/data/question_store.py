"""Questions stored on disk as ArrayRecord, for random access."""

import hashlib
import json
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core.decode import DeserializeMethod
from tensorflow_datasets.proto import tf_example_pb2

from jaxsearch.data.question import Question
from jaxsearch.data.question_builder import SetInfo, store_questions

# Part of the fingerprint. Increase it when the stored features change, so that a cache
# in the old layout is not read.
_LAYOUT = 1


class QuestionSource:
    """Random access to stored questions, in their original order.

    Attributes:
      fingerprint: hash of the questions and their order.
    """

    def __init__(self, directory: pathlib.Path, fingerprint: str, split: str = "train"):
        self.fingerprint = fingerprint
        # `_question` decodes a row many times faster than TFDS.
        self._rows = tfds.builder_from_directory(directory).as_data_source(
            split, deserialize_method=DeserializeMethod.RAW_BYTES
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Question:
        return _question(self._rows[row])

    def rows(self, rows: Iterable[int]) -> list[Question]:
        """Returns these questions; faster than reading them one by one."""
        return [_question(raw) for raw in self._rows.__getitems__(list(rows))]


def _question(raw: bytes) -> Question:
    """The question in a serialized `tf.train.Example`."""
    features = tf_example_pb2.Example.FromString(raw).features.feature
    [id_], [question], [metadata] = (
        features[name].bytes_list.value for name in ("id", "question", "metadata")
    )
    answers = features["golden_answers"].bytes_list.value
    return Question(
        id=id_.decode(),
        question=question.decode(),
        golden_answers=tuple(text.decode() for text in answers),
        metadata=json.loads(metadata),
    )


def open_questions(
    questions: Sequence[Question], cache_dir: str | pathlib.Path
) -> QuestionSource:
    """Opens questions that are stored once in a cache folder.

    The copy is identified by a fingerprint of its content, so equal questions share one
    copy.

    Raises:
      ValueError: if there are no questions, or two with the same id.
    """
    if not questions:
        raise ValueError("expected at least one question, got an empty list")
    [(most_used, count)] = Counter(q.id for q in questions).most_common(1)
    if count > 1:
        raise ValueError(
            f"ids of questions must be unique, got {most_used!r} {count} times"
        )
    found = fingerprint(questions)
    directory = pathlib.Path(cache_dir) / f"questions-{found[:16]}"
    if not directory.exists():
        store_questions(questions, directory, SetInfo())
    return QuestionSource(directory, found)


def read_all(source: QuestionSource) -> list[Question]:
    """Returns all questions in their original order."""
    return source.rows(range(len(source)))


def fingerprint(questions: Iterable[Question]) -> str:
    """A hash of questions and their order."""
    digest = hashlib.sha256(f"{_LAYOUT}\n".encode())
    for question in questions:
        line = json.dumps(vars(question), sort_keys=True)
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
