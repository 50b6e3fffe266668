"""Predictions are appended, recovered after a stop, and joined in order."""

import errno
import json
import os

import pytest

from jaxsearch.evaluation.prediction_log import Key, PredictionLog

KEYS = [Key("a", f"q{i}", sample) for i in range(3) for sample in range(2)]


def line(key: Key) -> dict:
    return {"set": key.set_name, "id": key.question_id, "sample": key.sample, "x": "é"}


def written(folder, keys) -> PredictionLog:
    log = PredictionLog(folder)
    log.read(KEYS)
    log.append([(key, line(key)) for key in keys])
    return log


def ids(folder) -> list[tuple[str, int]]:
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return [(one["id"], one["sample"]) for one in map(json.loads, lines)]


def test_lines_are_in_the_file_at_once_and_in_order_at_the_end(tmp_path):
    log = written(tmp_path, KEYS[::-1])
    assert len(ids(tmp_path)) == 6 and ids(tmp_path) != sorted(ids(tmp_path))
    log.join(KEYS)
    assert ids(tmp_path) == [(key.question_id, key.sample) for key in KEYS]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]


def test_a_line_that_was_cut_is_made_again(tmp_path):
    written(tmp_path, KEYS[:4])
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    log = PredictionLog(tmp_path)
    assert log.read(KEYS) == set(KEYS[:3])
    log.append([(key, line(key)) for key in (KEYS[5], KEYS[3], KEYS[4])])
    # What was cut is not in the middle of the file now.
    assert PredictionLog(tmp_path).read(KEYS) == set(KEYS)
    log.join(KEYS)
    assert ids(tmp_path) == [(key.question_id, key.sample) for key in KEYS]


def test_lines_are_where_the_file_ends_and_not_where_this_process_wrote(tmp_path):
    log = written(tmp_path, KEYS[:1])
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write(json.dumps(line(KEYS[5])) + "\n")
    log.append([(key, line(key)) for key in KEYS[1:3]])
    log.join(KEYS[:3])
    assert ids(tmp_path) == [(key.question_id, key.sample) for key in KEYS[:3]]


def test_a_full_disk_keeps_the_lines_and_gets_its_room_back(tmp_path, monkeypatch):
    log = written(tmp_path, KEYS[::-1])
    before = (tmp_path / "predictions.jsonl").read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr(os, "fsync", fail)
        log.join(KEYS)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]
    assert (tmp_path / "predictions.jsonl").read_bytes() == before


def test_files_of_other_processes_are_joined_too(tmp_path):
    written(tmp_path, KEYS[:2])
    theirs = b"".join(json.dumps(line(key)).encode() + b"\n" for key in KEYS[2:5])
    (tmp_path / "predictions.1.jsonl").write_bytes(theirs + b'{"set": "a", "id')
    log = PredictionLog(tmp_path)
    assert log.read(KEYS) == set(KEYS[:5])
    log.append([(KEYS[5], line(KEYS[5]))])
    log.join(KEYS)
    assert ids(tmp_path) == [(key.question_id, key.sample) for key in KEYS]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing\n", "line 2: not JSON"),
        ('{"id": 3}\n', "line 2: 'id' must be a string"),
        ('{"id": "q0", "sample": [1]}\n', "line 2: .* 'sample' an integer"),
        (
            '{"set": "b", "id": "q0"}\n',
            "line 2: question 'q0' of set 'b', sample 0, is",
        ),
    ],
)
def test_a_line_that_is_not_of_the_evaluation_is_refused(tmp_path, text, message):
    written(tmp_path, KEYS[:1])
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write(text)
    with pytest.raises(ValueError, match=message):
        PredictionLog(tmp_path).read(KEYS)
