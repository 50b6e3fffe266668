"""Questions, and readers for the file formats in which they are distributed.

The format of a record is recognised by its fields, so a file may mix formats:

  FlashRAG      `id`, `question`, `golden_answers`, optional `metadata`
  R1-Searcher   `idx`, `question`, `answer` (a string or a list)
  HotpotQA, 2WikiMultihopQA   `_id`, `question`, `answer`, `supporting_facts`
  MuSiQue       `id`, `question`, `answer`, `answer_aliases`, `paragraphs`
  ReSearch      parquet: `question`, `reward_model`, `extra_info.id`
  Search-R1     parquet: `prompt`, `reward_model`, `extra_info.{split,index}`
"""

import dataclasses
import pathlib
import reprlib

from jaxsearch.data.records import read_records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question and all answers that count as correct.

    Attributes:
      id: unique within a set of questions.
      question: the text.
      golden_answers: at least one; the first is the preferred spelling.
      metadata: JSON values; `supporting_titles` lists the pages that answer it.
    """

    id: str
    question: str
    golden_answers: tuple[str, ...]
    metadata: dict = dataclasses.field(default_factory=dict, hash=False)


def read_questions(path: str | pathlib.Path) -> list[Question]:
    """Reads the questions of a file, in order.

    Raises:
      ValueError: if the file is missing, unreadable or empty, or a record is malformed;
        the message names the location.
    """
    questions = []
    seen: dict[str, str] = {}
    for where, fields in read_records(pathlib.Path(path)):
        question = _question(_Record(where, fields))
        if question.id in seen:
            raise ValueError(
                f"{where}: id {question.id!r} was already used at "
                f"{seen[question.id]}; ids must be unique"
            )
        seen[question.id] = where
        questions.append(question)
    if not questions:
        raise ValueError(f"{path}: expected at least one question, the file has none")
    return questions


@dataclasses.dataclass(frozen=True)
class _Record:
    """A JSON object and its location in a file; reading a field checks its type."""

    where: str
    fields: dict

    def get(self, name: str, kind: type, expected: str):
        if name not in self.fields:
            raise ValueError(
                f"{self.where}: expected a field `{name}`, "
                f"got the fields {reprlib.repr(sorted(self.fields))}"
            )
        value = self.fields[name]
        if not isinstance(value, kind) or value in ("", []):
            raise self.wrong(name, expected, value)
        return value

    def wrong(self, name: str, expected: str, value: object) -> ValueError:
        return ValueError(
            f"{self.where}: `{name}` must be {expected}, got {reprlib.repr(value)}"
        )

    def text(self, name: str) -> str:
        value = self.get(name, str, "a non-empty string")
        if not value.strip():
            raise self.wrong(name, "a non-empty string", value)
        return value

    def id(self, name: str) -> str:
        value = self.fields.get(name)
        # isinstance would accept a bool as an int.
        return str(value) if type(value) is int else self.text(name)

    def texts(self, name: str) -> tuple[str, ...]:
        expected = "a list of non-empty strings, at least one"
        values = self.get(name, list, expected)
        if not all(isinstance(text, str) and text.strip() for text in values):
            raise self.wrong(name, expected, values)
        return tuple(values)

    def objects(self, name: str) -> list["_Record"]:
        expected = "a list of objects, at least one"
        values = self.get(name, list, expected)
        if not all(isinstance(fields, dict) for fields in values):
            raise self.wrong(name, expected, values)
        return [_Record(self.where, fields) for fields in values]

    def object(self, name: str) -> "_Record":
        return _Record(self.where, self.get(name, dict, "an object"))


def _question(record: _Record) -> Question:
    fields = record.fields
    if "reward_model" in fields:
        return _question_of_verl(record)
    if "golden_answers" in fields:
        return Question(
            id=record.id("id"),
            question=record.text("question"),
            golden_answers=record.texts("golden_answers"),
            metadata=record.object("metadata").fields if "metadata" in fields else {},
        )
    if "answer" not in fields:
        raise ValueError(
            f"{record.where}: expected a field `golden_answers` or `answer`, "
            f"got the fields {reprlib.repr(sorted(fields))}"
        )
    if isinstance(fields["answer"], list):
        answers = record.texts("answer")
    else:
        answers = (record.text("answer"),)
    if fields.get("answer_aliases"):
        answers += record.texts("answer_aliases")
    return Question(
        id=record.id(next((name for name in ("idx", "_id") if name in fields), "id")),
        question=record.text("question"),
        golden_answers=tuple(dict.fromkeys(answers)),
        metadata=_original_metadata(record),
    )


def _original_metadata(record: _Record) -> dict:
    fields = record.fields
    metadata = {name: fields[name] for name in ("type", "level") if name in fields}
    if "supporting_facts" in fields:
        expected = "a list of [title, sentence number]"
        facts = record.get("supporting_facts", list, expected)
        if not all(isinstance(fact, list) and fact for fact in facts):
            raise record.wrong("supporting_facts", expected, facts)
        titles = [fact[0] for fact in facts]
        if not all(isinstance(title, str) for title in titles):
            raise record.wrong("supporting_facts", expected, facts)
    elif "paragraphs" in fields:
        paragraphs = record.objects("paragraphs")
        titles = [p.text("title") for p in paragraphs if p.fields.get("is_supporting")]
    else:
        return metadata
    return metadata | {"supporting_titles": list(dict.fromkeys(titles))}


def _question_of_verl(record: _Record) -> Question:
    """Converts a row of verl's layout, as written by ReSearch or Search-R1.

    Search-R1 numbers its rows from 0 in every source dataset, so the source becomes
    part of the id. Without a question column, the question is the text after the last
    `Question:` of the prompt.
    """
    fields = record.fields
    truth = record.object("reward_model")
    if isinstance(truth.fields.get("ground_truth"), dict):
        answers = truth.object("ground_truth").texts("target")
    else:
        answers = truth.texts("ground_truth")
    extra = record.object("extra_info")
    if extra.fields.get("id") is not None:
        question_id = extra.id("id")
    else:
        source = record.text("data_source")
        question_id = f"{source}_{extra.text('split')}_{extra.id('index')}"
    if "question" in fields:
        question = record.text("question")
    else:
        prompt = record.objects("prompt")[-1].text("content")
        question = prompt.rpartition("Question:")[2].strip()
        if not question:
            raise record.wrong("prompt", "text ending in `Question: ...`", prompt)
    metadata = {"dataset": fields["data_source"]} if "data_source" in fields else {}
    return Question(
        id=question_id, question=question, golden_answers=answers, metadata=metadata
    )
