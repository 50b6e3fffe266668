"""Questions in CSV and TSV files."""

import csv
import gzip

import pytest

from jaxsearch.data.formats import read_questions
from jaxsearch.data.question import Question


def notes_and_questions(path, **options):
    notes = []
    return notes, read_questions(path, note=notes.append, **options)


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_a_spreadsheet_writes(tmp_path, suffix, delimiter, line_end):
    path = tmp_path / f"q.{suffix}"
    rows = [
        ["id", "question", "golden_answers", "hops"],
        ["a", f'Who, "Ann"{delimiter} or\nBen?', '["Ann", "Anne"]', "2"],
        ["", "Où est-ce ?", "Lyon, France", ""],
        ["c", "Which?", "[", "1"],
    ]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    notes, questions = notes_and_questions(path)
    assert questions == [
        Question(
            id="a",
            question=f'Who, "Ann"{delimiter} or\nBen?',
            golden_answers=("Ann", "Anne"),
            metadata={"hops": "2"},
        ),
        # The second row has two lines.
        Question(id="row4", question="Où est-ce ?", golden_answers=("Lyon, France",)),
        Question(
            id="c", question="Which?", golden_answers=("[",), metadata={"hops": "1"}
        ),
    ]
    [note] = notes
    assert "rows without a usable id got their numbers: 1, such as 'row4'" in note
    packed = tmp_path / f"p.{suffix}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert notes_and_questions(packed)[1] == questions


def test_metadata_is_json(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text('question,golden_answers,metadata\nWho?,Ann,"{""hops"": 2}"\n')
    [question] = read_questions(path)
    assert question.metadata == {"hops": 2}
    path.write_text("question,golden_answers,metadata\nWho?,Ann,two\n")
    notes, [question] = notes_and_questions(path)
    assert question.metadata == {} and "left out: `metadata` in 1" in notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Who?,Ann\n", r":1: expected a line of column names with `question` and"),
        ("id,question\n1,Who?\n", r"got 'id, question'$"),
        ("question;answer\nWho?;Ann\n", r"separated by semicolons: save .* commas$"),
        ("question\tanswer\nWho?\tAnn\n", r"separated by tabs: save the file with c"),
        ("question,answer,answer\n", r":1: the column 'answer' is there twice"),
        ("question,answer\nWho?,Ann,Ben\n", r":2: expected 2 columns, .* got 3; corr"),
        ("question,answer\n\nWho?\n", r":3: expected 2 columns, .* got 1; correct"),
        ("question,answer\nWho?,\n", r":2: expected a field `golden_answers` or `an"),
        ("question,answer\n,Ann\n", r":2: expected a field `question`, got the fi"),
        ('question,answer\n"Who?,Ann\n', r":2: not CSV: unexpected end of data; cor"),
        ("question,answer\nWho?,['A']\n", r":2: `answer` must be one answer, or a JS"),
        ('question,answer\nWho?,"[1]"\n', r":2: `answer` must be a list of non-empty"),
        ("question,answer\n", r"expected at least one question, the file has no good"),
        ("", r"expected at least one question, the file has no good row"),
        (b"question,answer\nWho?,Andr\xe9\n", r":2: not UTF-8 .*; convert the file"),
        ("question,answer\nWho?,Ann\n".encode("utf-16"), r":1: UTF-16, expected UTF-8"),
    ],
)
def test_a_malformed_file_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "q.csv"
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=message) as caught:
        read_questions(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


def test_bad_rows_can_be_skipped(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("question,answer\nWho?\nWhere?,Lyon\n")
    notes, [question] = notes_and_questions(path, skip_bad_rows=True)
    assert question.question == "Where?" and "1 of 2 rows are bad" in notes[0]
