"""All faults of a file are found in one pass, counted, and named or skipped."""

import json

import pytest

from jaxsearch.data.formats import read_questions
from jaxsearch.search.passages import read_passages

GOOD = {"question": "Who?", "golden_answers": ["Ann"], "contents": "Title\nText."}


@pytest.fixture
def file(tmp_path):
    """A file of 40 rows, of which every third is bad, in three different ways."""

    def row(number):
        bad = {0: {"question": " ", "contents": 3}, 3: {"id": "1"}}
        if number % 9 == 6:
            return b"{"
        fields = {"id": str(number)} | GOOD
        return json.dumps(fields | bad.get(number % 9, {})).encode()

    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(map(row, range(1, 41))))
    return path


@pytest.mark.parametrize("read", [read_questions, read_passages])
def test_all_faults_are_counted_and_ten_are_named(file, read):
    with pytest.raises(ValueError) as caught:
        read(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: 13 of 40 rows are bad: line 3: id '1'")
    assert message.count("; line ") == 9
    assert "; line 30: id '1'" in message and "line 33: " not in message
    assert "; and 3 more; correct them, or skip them with --data.skip" in message
    assert "\n" not in message


@pytest.mark.parametrize("read", [read_questions, read_passages])
def test_the_rest_is_read_without_the_bad_rows(file, read):
    notes = []
    rows = read(file, skip_bad_rows=True, note=notes.append)
    assert [row.id for row in rows] == [str(n) for n in range(1, 41) if n % 3]
    [note] = notes
    assert note.startswith(f"{file}: 13 of 40 rows are bad and were skipped: line 3: ")


@pytest.mark.parametrize("read", [read_questions, read_passages])
def test_a_line_that_is_not_utf8_is_one_bad_row(tmp_path, read):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(GOOD | {"id": "1"}).encode()
    path.write_bytes(good + b'\n{"id": "\xe9"}\n' + good.replace(b'"1"', b'"2"'))
    with pytest.raises(ValueError, match="UTF-8.*; correct the row, or skip it with"):
        read(path)
    assert [row.id for row in read(path, skip_bad_rows=True)] == ["1", "2"]


@pytest.mark.parametrize("read", [read_questions, read_passages])
def test_a_file_without_a_good_row_is_refused(tmp_path, read):
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n[]\n")
    with pytest.raises(ValueError, match="the file has no good row"):
        read(path, skip_bad_rows=True)


def test_notes_are_printed_to_standard_error(file, capsys):
    read_questions(file, skip_bad_rows=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
