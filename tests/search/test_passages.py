"""Tests of reading and writing corpus files."""

import gzip
import json

import pytest

from jaxsearch.search.passages import (
    Passage,
    corpus_fingerprint,
    read_passages,
    write_passages,
)

PASSAGES = [
    Passage(id="a", contents='"Alû"\nA spirit of the night.'),
    Passage(id="b", contents='"Lilu"\nA "demon"\twith\ttabs.'),
]


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_write_then_read(tmp_path, name):
    write_passages(PASSAGES, tmp_path / name)
    assert read_passages(tmp_path / name) == PASSAGES


def test_same_passages_make_same_bytes(tmp_path):
    write_passages(PASSAGES, tmp_path / "a.jsonl.gz")
    write_passages(PASSAGES, tmp_path / "b.jsonl.gz")
    first, second = (tmp_path / f"{name}.jsonl.gz" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    # Bytes 4 to 8 of a gzip file are its time stamp.
    assert first.read_bytes()[4:8] == bytes(4)


def test_title_and_text_become_contents(tmp_path):
    path = tmp_path / "c.jsonl"
    line = {"id": "7", "title": "Two\nlines", "text": "Body.", "extra": 1}
    path.write_text(json.dumps(line) + "\n\n")
    [passage] = read_passages(path)
    assert passage == Passage(id="7", contents='"Two lines"\nBody.')
    assert (passage.title, passage.text) == ("Two lines", "Body.")


def test_r1_searcher_tsv_keeps_the_text(tmp_path):
    path = tmp_path / "c.tsv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write('0\tTitle: Alû Text:  A spirit.\r\n1\t"b" ""\n')
    assert read_passages(path) == [
        Passage(id="0", contents="Title: Alû Text:  A spirit."),
        Passage(id="1", contents='"b" ""'),
    ]


GOOD = b'{"id": "a", "contents": "t"}\n'
BAD_FILES = {
    "malformed JSON": ("c.jsonl", GOOD + b'{"id": "b", ', "line 2: expected one JSON"),
    "not an object": ("c.jsonl", GOOD + b"[1]", "line 2: expected a JSON object"),
    "no text": ("c.jsonl", b'{"id": "a", "title": "t"}', 'line 1: field "text" is'),
    "list of contents": ("c.jsonl", b'{"id": "a", "contents": []}', "1: .* got list"),
    "surrogate": ("c.jsonl", b'{"id": "a", "contents": "\\ud800"}', "line 1: .*half"),
    "duplicate id": ("c.jsonl", GOOD + b"\n" + GOOD, "line 3: id 'a' .* line 1"),
    "not UTF-8": ("c.jsonl", GOOD + b'{"id": "\xff"}', "line 2: .*0xff at column 9"),
    "empty": ("c.jsonl", b"\n", "expected at least one passage"),
    "TSV without tab": ("c.tsv", b"0\ta\n1 b\n", "line 2: expected id<TAB>text"),
    "TSV without id": ("c.tsv", b"\ta\n", "line 1: expected id<TAB>text"),
    "not gzip": ("c.jsonl.gz", GOOD, "after line 0: the gzip data is"),
    "other suffix": ("c.csv", GOOD, "expected a corpus named"),
    "no parquet": ("c.parquet", GOOD, "after row 0: not a readable parquet file"),
    "blank": ("c.jsonl", GOOD + b'{"id": "b", "contents": " "}', "2: .* has no text"),
    "blank title and text": (
        "c.jsonl",
        b'{"id": "b", "title": "", "text": ""}',
        "line 1: the passage has no text",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_one_clear_line(tmp_path, case):
    name, content, message = BAD_FILES[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_passages(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [12, 40, 0.5, -4])
def test_truncated_gzip(tmp_path, kept):
    path = tmp_path / "c.jsonl.gz"
    write_passages(
        [Passage(id=str(i), contents=f"text {i * i}") for i in range(2000)], path
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if kept == 0.5 else kept])
    with pytest.raises(ValueError, match=r"after line \d+: the gzip data is trunc"):
        read_passages(path)


def test_damaged_gzip(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    write_passages(PASSAGES, path)
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 0xFF  # the first byte of the checksum
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="the gzip data is truncated or damaged"):
        read_passages(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="none.jsonl: cannot be read: No such file"):
        read_passages(tmp_path / "none.jsonl")
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_passages(tmp_path / "d.jsonl")


def test_fingerprint_sees_ids_texts_order_and_borders():
    corpora = [
        PASSAGES,
        PASSAGES[::-1],
        PASSAGES[:1],
        [Passage(id="ab", contents="c")],
        [Passage(id="a", contents="bc")],
        [Passage(id="a", contents="b"), Passage(id="c", contents="")],
    ]
    fingerprints = {corpus_fingerprint(corpus) for corpus in corpora}
    assert len(fingerprints) == len(corpora)
    assert corpus_fingerprint(list(PASSAGES)) == corpus_fingerprint(PASSAGES)
    assert all(len(found) >= 16 for found in fingerprints)


@pytest.mark.parametrize("id_", [1, 0, -7, 2**70])
def test_an_integer_id_becomes_its_decimal_text(tmp_path, id_):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"id": id_, "contents": "Volmeer\nA town."}))
    assert read_passages(path) == [
        Passage(id=str(id_), contents="Volmeer\nA town."),
    ]


@pytest.mark.parametrize("fields", [{}, {"id": None}, {"id": ""}, {"id": True}])
def test_a_passage_without_a_usable_id_gets_the_number_of_its_line(tmp_path, fields):
    path = tmp_path / "c.jsonl"
    path.write_bytes(GOOD + b"\n" + json.dumps(fields | {"contents": "t"}).encode())
    notes = []
    passages = read_passages(path, note=notes.append)
    assert [passage.id for passage in passages] == ["a", "row3"]
    assert notes == [
        f"{path}: 1 of 2 passages have no usable id and got their line numbers, such "
        "as 'row3'"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.tsv", "1\tVolmeer   A harbour town.\n"),
        ("c.jsonl", '{"id": 1, "contents": "Volmeer   A harbour town."}\n'),
        ("c.tsv.gz", "1\tVolmeer   A harbour town.\n"),
    ],
)
def test_a_byte_order_mark_is_not_part_of_a_corpus(tmp_path, name, text):
    other = text.replace("1", "2").encode("utf-8-sig")
    raw = text.encode("utf-8-sig") + other  # files that were joined have two
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    contents = "Volmeer   A harbour town."
    assert read_passages(path) == [
        Passage(id="1", contents=contents),
        Passage(id="2", contents=contents),
    ]


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_parquet(tmp_path):
    rows = [{"id": 7, "title": "Alû", "text": "A spirit.", "url": "x"}] * 1500
    rows = [row | {"id": number} for number, row in enumerate(rows)]
    write_parquet(tmp_path / "c.parquet", rows)
    passages = read_passages(tmp_path / "c.parquet")
    assert passages[1499] == Passage(id="1499", contents='"Alû"\nA spirit.')
    write_parquet(tmp_path / "d.parquet", [{"id": "a", "contents": None}])
    with pytest.raises(ValueError, match='row 1: field "title" is missing; expected'):
        read_passages(tmp_path / "d.parquet")
    raw = (tmp_path / "c.parquet").read_bytes()
    (tmp_path / "c.parquet").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match="c.parquet, after row 0: "):
        read_passages(tmp_path / "c.parquet")


def test_a_folder_of_shards_is_read_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 2):
        path = tmp_path / "shards" / f"part-{number}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"contents": f"shard {number}"}) + "\n")
    (tmp_path / "shards" / "README.md").write_text("no corpus")
    notes = []
    passages = read_passages(tmp_path / "shards", note=notes.append)
    assert [p.contents for p in passages] == ["shard 2", "shard 9", "shard 10"]
    assert [p.id for p in passages] == [f"part-{n}.jsonl-row1" for n in (2, 9, 10)]
    assert len(notes) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a folder of corpus files named"):
        read_passages(tmp_path / "empty")


def test_ids_of_shards_are_unique(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        write_passages(PASSAGES, tmp_path / name)
    with pytest.raises(ValueError, match="b.jsonl: 2 of 2 rows .* in .*a.jsonl, line "):
        read_passages(tmp_path)
    assert read_passages(tmp_path, skip_bad_rows=True) == PASSAGES
