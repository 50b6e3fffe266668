"""Questions, and readers for the file formats in which they are distributed.

The layout of a record is recognised by its fields, so a file may mix layouts; those of
the Hugging Face Hub, where lists of objects are objects of lists, are read as well:

  FlashRAG      `id`, `question`, `golden_answers`, optional `metadata`
  R1-Searcher   `idx`, `question`, `answer` (a string or a list)
  HotpotQA, 2WikiMultiHopQA   `_id` or `id`, `question`, `answer`, `supporting_facts`
  MuSiQue       `id`, `question`, `answer`, `answer_aliases`, `paragraphs`
  NQ-open       `question`, `answer` (a list)
  TriviaQA      `question_id`, `question`, `answer` (an object: `value`, `aliases`)
  PopQA         `id`, `question`, `possible_answers` (a list as JSON text)
  ReSearch      parquet: `question`, `reward_model`, `extra_info.id`
  Search-R1     parquet: `prompt`, `reward_model`, `extra_info.{split,index}`
  CSV, TSV      columns `question`, `golden_answers` or `answer` (one answer, or several
                as a JSON list), optional `id`; see `data.table_rows`

Only a question and an answer are needed. Other fields that are malformed are left out,
and a record without an id gets the number of its line.
"""

import dataclasses
import pathlib
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jaxsearch.bad_rows import BadRowError, BadRows, Note, print_note
from jaxsearch.data.answer_fields import golden_answers
from jaxsearch.data.fields import Record
from jaxsearch.data.metadata_fields import metadata
from jaxsearch.data.prepared_set import find_set, parse_name
from jaxsearch.data.question import Question
from jaxsearch.data.records import SUFFIXES, read_records
from jaxsearch.data.source_questions import check_answers
from jaxsearch.data.verl_fields import asked_in, id_of_verl, prompt_of_verl
from jaxsearch.hub_files import fetched


def read_questions(
    path: str | pathlib.Path,
    *,
    normalise: Callable[[str], str] = str.strip,
    skip_bad_rows: bool = False,
    splits: Sequence[str] = (),
    note: Note = print_note,
) -> list[Question]:
    """Reads the questions of a file or a prepared set, in order.

    Args:
      path: the file, or `hf://OWNER/NAME[/FILE][@REVISION]` for one of a data set on
        the Hugging Face Hub; or NAME or NAME/SPLIT of a set that `jaxsearch data
        prepare` has prepared.
      normalise: the normaliser that predictions are compared with; golden
        answers that are then empty are left out, and a row without another is bad.
      skip_bad_rows: whether to continue without rows that are malformed.
      splits: splits to look for if only NAME is given; the first prepared one is read.
      note: receives lines for the user about what was left out or skipped.

    Raises:
      ValueError: if the file is missing, unreadable or empty, rows are malformed and
        not skipped (the message names the locations), or a set is damaged or not
        prepared.

    Example:
      >>> from jaxsearch.data.sample import sample_questions_path
      >>> questions = jaxsearch.read_questions(sample_questions_path())
      >>> len(questions), questions[0].golden_answers
      (300, (...))
    """
    if named := parse_name(str(path)):
        prepared = find_set(*named, splits=splits, note=note)
        return check_answers(
            prepared.questions(),
            normalise=normalise,
            skip_bad_rows=skip_bad_rows,
            note=note,
            origin=str(prepared),
        )
    return _questions_of_file(
        fetched(path, SUFFIXES),
        normalise=normalise,
        skip_bad_rows=skip_bad_rows,
        note=note,
    )


def _questions_of_file(
    path: pathlib.Path,
    *,
    normalise: Callable[[str], str],
    skip_bad_rows: bool,
    note: Note,
) -> list[Question]:
    """The questions of a local file; see `read_questions`."""
    bad_rows = BadRows(path)
    left_out: Counter[str] = Counter()
    empty_answers: list[tuple[str, str]] = []
    records = (
        Record(
            number=number,
            where=where,
            fields=fields,
            left_out=left_out,
            empty_answers=empty_answers,
        )
        for number, where, fields in read_records(path, bad_rows)
    )
    found = _good_rows(records, bad_rows, normalise)
    bad_rows.settle(skip=skip_bad_rows, note=note)
    if not found:
        raise ValueError(
            f"{path}: expected at least one question, the file has no good row"
        )
    numbered = [id_ for id_, row in found.items() if not row.question.id]
    if said := _said(left_out, empty_answers, numbered):
        note(f"{path}, {bad_rows.num_rows:,} rows: {said}")
    return [dataclasses.replace(row.question, id=id_) for id_, row in found.items()]


def _said(
    left_out: Counter[str], empty_answers: list[tuple[str, str]], numbered: list[str]
) -> str:
    """Describes the changes to the rows of a file; "" for none.

    Args:
      left_out: number of rows by field that was left out.
      empty_answers: location and text of the golden answers that were left out.
      numbered: ids that are numbers of rows.
    """
    said = []
    if left_out:
        counted = ", ".join(f"`{name}` in {n:,}" for name, n in left_out.items())
        said.append(f"malformed fields that are not needed were left out: {counted}")
    if empty_answers:
        where, answer = empty_answers[0]
        said.append(
            "golden answers that are empty once normalised were left out: "
            f"{len(empty_answers):,}, such as {answer!r:.80} at {where}"
        )
    if numbered:
        said.append(
            f"rows without a usable id got their numbers: {len(numbered):,}, such as "
            f"{numbered[0]!r:.80}"
        )
    return "; ".join(said)


class _GoodRow(NamedTuple):
    """A question, whose id is empty if its row has none, and where it was found."""

    where: str
    question: Question


def _good_rows(
    records: Iterable[Record], bad_rows: BadRows, normalise: Callable[[str], str]
) -> dict[str, _GoodRow]:
    """The good records by their ids; the others go into `bad_rows`."""
    found: dict[str, _GoodRow] = {}
    prompts: dict[str, str] = {}
    for record in records:
        try:
            question = _question(record, normalise)
        except BadRowError as error:
            bad_rows.add(error)
            continue
        id_ = question.id or f"row{record.number}"
        if id_ in found:
            bad_rows.add(
                f"{record.where}: id {id_!r:.80} was already used at "
                f"{found[id_].where}; ids must be unique"
            )
            continue
        found[id_] = _GoodRow(record.where, question)
        if _has_prompt_only(record):
            prompts[id_] = question.question
    for id_, text in asked_in(prompts).items():
        where, question = found[id_]
        if text:
            asked = dataclasses.replace(question, question=text)
            found[id_] = _GoodRow(where, asked)
        else:
            del found[id_]
            bad_rows.add(
                f"{where}: `prompt` must be text ending in `Question: ...`, got "
                f"{reprlib.repr(question.question)}"
            )
    return found


def _question(record: Record, normalise: Callable[[str], str]) -> Question:
    """The question of a record: its id may be empty, its text the whole prompt."""
    if "reward_model" in record.fields:
        id_ = id_of_verl(record)
    elif "golden_answers" in record.fields:
        id_ = record.id("id", "idx", "_id", "question_id")
    else:
        id_ = record.id("idx", "_id", "id", "question_id")
    is_prompt = _has_prompt_only(record)
    return Question(
        id=id_ or "",
        question=prompt_of_verl(record) if is_prompt else record.text("question"),
        golden_answers=golden_answers(record, normalise),
        metadata=metadata(record),
    )


def _has_prompt_only(record: Record) -> bool:
    fields = record.fields
    return "reward_model" in fields and fields.get("question") is None
