"""Questions stored on disk as ArrayRecord, for random access."""

import bisect
import hashlib
import itertools
import json
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence

from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from jaxsearch.array_records import ArrayRecords
from jaxsearch.data.question import Question
from jaxsearch.data.question_builder import SetInfo, store_questions
from jaxsearch.json_files import json_value
from jaxsearch.json_types import typed

# Part of the fingerprint. Increase it when the stored features change, so that a cache
# in the old layout is not read.
_LAYOUT = 1
_ADVICE = "prepare the set again, or delete the folder"


class QuestionSource:
    """Random access to stored questions, in their original order.

    The folder may be somebody else's. TFDS would import the classes that its JSON files
    name, so only its records are read.

    Attributes:
      fingerprint: hash of the questions and their order.

    Raises:
      ValueError: if records are missing or damaged; reading questions may raise it too.
    """

    def __init__(self, directory: pathlib.Path, fingerprint: str, split: str = "train"):
        self.fingerprint = fingerprint
        self._shards = [ArrayRecords(p, _ADVICE) for p in _shards(directory, split)]
        lengths = [len(shard) for shard in self._shards]
        self._ends = [*itertools.accumulate(lengths)]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, row: int) -> Question:
        return self.rows([row])[0]

    def rows(self, rows: Iterable[int]) -> list[Question]:
        """Returns these questions; faster than reading them one by one."""
        wanted = list(rows)
        of_shard: dict[int, list[int]] = {}
        for row in sorted({range(len(self))[row] for row in wanted}):
            of_shard.setdefault(bisect.bisect_right(self._ends, row), []).append(row)
        found = {}
        for number, inside in of_shard.items():
            shard = self._shards[number]
            first = self._ends[number] - len(shard)
            records = shard.read([row - first for row in inside])
            for row, raw in zip(inside, records, strict=True):
                try:
                    found[row] = _question(raw)
                except (ValueError, DecodeError) as error:
                    raise shard.damaged(error) from error
        return [found[range(len(self))[row]] for row in wanted]


def _shards(directory: pathlib.Path, split: str) -> list[pathlib.Path]:
    """The files of a split, in the order of their questions.

    Raises:
      ValueError: if one is missing.
    """
    found = sorted(directory.glob(f"*-{split}.array_record-*-of-*"))
    if not found or not found[0].name.endswith(f"-of-{len(found):05}"):
        raise ValueError(
            f"{directory}: expected all files of records of {split}, found "
            f"{len(found)}; {_ADVICE}"
        )
    return found


def _question(raw: bytes) -> Question:
    """The question in a serialized `tf.train.Example`.

    Raises:
      ValueError: if a field is missing or malformed.
    """
    features = tf_example_pb2.Example.FromString(raw).features.feature
    [id_], [question], [metadata] = (
        features[name].bytes_list.value for name in ("id", "question", "metadata")
    )
    answers = features["golden_answers"].bytes_list.value
    return Question(
        id=id_.decode(),
        question=question.decode(),
        golden_answers=tuple(text.decode() for text in answers),
        metadata=typed(json_value(metadata), dict, "metadata"),
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
            f"ids of questions must be unique, got {most_used!r:.80} {count} times"
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
