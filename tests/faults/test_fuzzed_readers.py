"""Every reader meets damaged and hostile files: one named error, and no hang.

The sample of CI is short and always the same; `-m long` reads each for five minutes.
"""

import contextlib
import gzip
import json
import os
import pickle
from pathlib import Path

import pytest

from jaxsearch import bounded_files
from jaxsearch.bounded_files import CutOffError, read_bytes, read_lines
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.json_files import (
    MAX_BYTES,
    json_value,
    parse_json,
    read_json,
)
from jaxsearch.json_types import typed
from jaxsearch.models.hf_config import from_hf_config
from jaxsearch.trajectory import Status, ToolCall
from tests.faults import (
    answer_readers,
    evaluation_readers,
    folder_readers,
    reader_files,
    server_readers,
)
from tests.faults.folder_readers import CONFIG
from tests.faults.mutations import PLANTED, fuzz
from tests.tokenizer_folders import END, write_json, write_tokenizer

GROUPS = {
    "questions": reader_files.question_readers,
    "corpora": reader_files.corpus_readers,
    "tokenizers": reader_files.tokenizer_readers,
    "predictions": reader_files.score_readers,
    "workloads": reader_files.workload_readers,
    "indexes": folder_readers.index_readers,
    "encoders": folder_readers.encoder_readers,
    "models": folder_readers.model_readers,
    "runs": folder_readers.run_readers,
    "selections": folder_readers.selection_readers,
    "search servers": server_readers.search_readers,
    "web services": server_readers.web_readers,
    "evaluations": evaluation_readers.evaluation_readers,
    "verdicts": evaluation_readers.verdict_readers,
    "prepared sets": evaluation_readers.set_readers,
    "replay": folder_readers.replay_readers,
    "models and judges": answer_readers.model_answer_readers,
    "milvus": answer_readers.milvus_readers,
    "pages": answer_readers.page_readers,
}
# Variants of each reader in the sample; those that take long have fewer.
NUM, NUM_SLOW = 40, 8
SLOW = (
    *("index scann files", "tokenizer", "encoder", "run identity", "run report"),
    *("replay", "replay hashes", "replay parameters", "set fields", "set records"),
)
LONG_S = 300.0


@contextlib.contextmanager
def readers_of(group, folder):
    made = GROUPS[group](folder)
    if isinstance(made, dict):
        made = contextlib.nullcontext(made)
    with made as readers:
        yield readers


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_a_damaged_file_is_a_named_error(group, tmp_path):
    with readers_of(group, tmp_path) as readers:
        for name, reader in readers.items():
            num = NUM_SLOW if name in SLOW else NUM
            fuzz(reader.read, reader.paths, num=num, refusals=reader.refusals).check()


@pytest.mark.long
@pytest.mark.parametrize("group", GROUPS)
def test_five_minutes_of_damaged_files(group, tmp_path):
    failures = []
    with readers_of(group, tmp_path) as readers:
        for name, reader in readers.items():
            found = fuzz(
                reader.read,
                reader.paths,
                seconds=LONG_S,
                seed=1,
                refusals=reader.refusals,
            )
            try:
                found.check()
            except AssertionError as error:
                failures.append(f"{name}: {error}")
    assert not failures, "\n".join(failures)


def test_the_fuzzing_sees_what_it_looks_for(tmp_path):
    """A program, a pickle, another error, a long message and a library's own error."""
    path = tmp_path / "x.json"
    path.write_text('{"a": [1, "x"]}')

    class Planted:
        def __reduce__(self):
            return os.system, ("true",)

    for expected, fail in (
        ("_PlantedError", lambda: os.system("true")),
        ("_PlantedError", lambda: pickle.loads(pickle.dumps(Planted()))),
        ("_PlantedError", lambda: __import__(PLANTED)),
        ("KeyError", lambda: {}["x"]),
        ("long message", lambda: typed("x", int, "y" * 10_000)),
        ("no line", lambda: json.loads("{")),
    ):

        def read(fail=fail):
            if path.read_bytes() != b'{"a": [1, "x"]}':
                fail()

        with pytest.raises(AssertionError, match=expected):
            fuzz(read, [path], num=5).check()


def test_json_of_every_kind_of_fault_is_refused(tmp_path):
    deep = b"[" * 101 + b"]" * 101
    for content in (b"[" * 10**6, b"\xff", b"1" * 41, b"{", b"", b"\xef\xbb\xbf", deep):
        with pytest.raises(ValueError, match="^the file: not JSON"):
            parse_json(content, "the file")
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "a file") == {"a": 1}
    assert json_value(deep[1:-1]) is not None
    assert json_value(b"1" * 40) == int("1" * 40)
    assert json_value(b"[" + b"[]," * 500 + b"[]]") == [[]] * 501
    with pytest.raises(ValueError, match="NaN is not a JSON number"):
        json_value("[NaN]", allow_nan=False)
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="expected at most 100,000,000 bytes"):
        read_json(large)
    with pytest.raises(ValueError, match="found something else"):
        read_json(tmp_path)


def test_files_and_lines_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_files, "MAX_BYTES", 100)
    monkeypatch.setattr(bounded_files, "MAX_LINE_BYTES", 50)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 50 + b"\n" + b"y" * 49)
    assert len(read_bytes(path)) == 100
    with pytest.raises(ValueError, match="line 1: expected at most 50 bytes"):
        [*read_lines(path)]
    path.write_bytes(b"x" * 49 + b"\n" + b"y" * 50)
    assert [number for number, _ in read_lines(path)] == [1, 2]
    path.write_bytes(b"x" * 101)
    with pytest.raises(ValueError, match="at most 100 bytes when decompressed"):
        read_bytes(path)
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_bytes(tmp_path)
    path.write_bytes(b"x\n" * 51)
    assert len([*read_lines(path)]) == 51
    with pytest.raises(ValueError, match="at most 100 bytes when decompressed"):
        [*read_lines(path, max_bytes=100)]
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b"x\n" * 20)[:-4])
    with pytest.raises(CutOffError, match="truncated or damaged"):
        [*read_lines(packed)]


def test_values_have_the_types_of_a_class():
    call = {"query": "x", "passage_ids": ["1"], "has_failed": True}
    found = typed(call, ToolCall, "the call")
    assert found == ToolCall(query="x", passage_ids=("1",), has_failed=True)
    assert typed("ended", Status, "x") is Status.ENDED
    assert typed(1, float | None, "x") == 1.0 and typed(None, str | None, "x") is None
    for value, hint, message in (
        (call | {"query": 1}, ToolCall, "the value.query must be a text, got 1"),
        (call | {"passage_ids": [1]}, ToolCall, r"passage_ids\[0\] must be a text"),
        (call | {"b": 1, "a": 1}, ToolCall, "has the unknown field 'a'"),
        ({}, ToolCall, "the value has no 'query'"),
        (True, int, "must be a 64-bit integer, got True"),
        (2**63, int | None, "must be a 64-bit integer or null"),
        ("x", Status, "must be one of answered, "),
        ("1", float, "must be a number, got '1'"),
        ([1, "x"], dict[str, int], "must be an object"),
        ({"a": {"b": "c"}}, dict[str, dict[str, float]], "the value.a.b must be a"),
    ):
        with pytest.raises(ValueError, match=message):
            typed(value, hint, "the value")


def test_a_huge_id_of_a_tokenizer_is_refused_at_once(tmp_path):
    """A table of as many ids would need 17 GB."""
    folder = Path(write_tokenizer(tmp_path))
    fields = json.loads((folder / "tokenizer.json").read_text())
    fields["added_tokens"][-1]["id"] = 2**31
    fields["model"]["vocab"][END] = 2**31
    write_json(folder / "tokenizer.json", fields)
    with pytest.raises(ValueError, match="has the id 2,147,483,648; expected"):
        Tokenizer.load(str(folder))


def test_huge_sizes_of_a_model_are_refused_at_once():
    for name in ("num_hidden_layers", "vocab_size"):
        with pytest.raises(ValueError, match=f"{name} must be at most"):
            from_hf_config(CONFIG | {name: 10**12})
