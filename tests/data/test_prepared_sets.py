"""Prepared sets: what is stored is what was read, and nothing has changed since."""

import json

import pytest
import tensorflow_datasets as tfds

from jaxsearch.data.formats import read_questions
from jaxsearch.data.known_sets import KNOWN_SETS
from jaxsearch.data.prepare import prepare_set
from jaxsearch.data.prepared_set import EVALUATION_SPLITS, TRAINING_SPLITS, find_set
from jaxsearch.data.question import Question, flashrag_line
from jaxsearch.data.set_summary import describe, sample, summary


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEARCH_DATA", str(tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.fixture
def file(questions, tmp_path):
    path = tmp_path / "mine_dev.jsonl"
    lines = [json.dumps(flashrag_line(question)) for question in questions]
    path.write_text("\n".join(lines))
    return str(path)


def fail(line):
    raise AssertionError(line)


def test_a_name_gives_the_questions_of_its_file(file, questions, folder):
    [prepared] = prepare_set("hotpotqa", file)
    assert str(prepared) == "hotpotqa/dev"  # the split that the file's name has
    for name in ("hotpotqa", "hotpotqa/dev", "HotpotQA"):
        assert read_questions(name, note=fail) == questions
    # A normaliser leaves out the same answers as of a file.
    options = {"normalise": lambda text: text.replace("answer 0", "")}
    with pytest.raises(ValueError, match=r"hotpotqa/dev: 4 of 11 rows are bad: .*'q0'"):
        read_questions("hotpotqa", **options)
    found = read_questions("hotpotqa", **options, skip_bad_rows=True)
    assert found == read_questions(file, **options, skip_bad_rows=True)
    assert [path.name for path in folder.glob("*/*/*")] == ["1.0.0"]


def test_tensorflow_datasets_reads_it_too(file, questions):
    [prepared] = prepare_set("2wikimultihopqa", file)
    builder = tfds.builder_from_directory(prepared.folder)
    row = builder.as_data_source("dev")[3]
    assert row["question"].decode() == questions[3].question
    info = builder.info
    assert (info.name, str(info.version)) == ("2wiki", "1.0.0")
    assert "arXiv:2011.01060" in info.citation
    assert info.redistribution_info.license == "Apache-2.0"
    origin = info.metadata["origin"]
    assert origin["address"] == file and len(origin["sha256"]) == 64


def test_the_same_content_is_left_and_another_is_refused(
    file, questions, tmp_path, folder, monkeypatch
):
    notes = []
    [first] = prepare_set("mine", file)
    inode = first.folder.stat().st_ino
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((tmp_path / "mine_dev.jsonl").read_bytes())
    prepare_set("mine", str(copy), split="dev", note=notes.append)
    assert notes == ["mine/dev is already prepared from the same content"]
    assert first.folder.stat().st_ino == inode
    copy.write_text(json.dumps(flashrag_line(questions[0])))
    with pytest.raises(ValueError, match=r"mine/dev was prepared from .*--replace"):
        prepare_set("mine", str(copy), split="dev")
    assert read_questions("mine") == questions
    prepare_set("mine", str(copy), split="dev", replace=True)
    assert read_questions("mine") == questions[:1]
    # Neither a bad file nor a full disk replaces anything.
    copy.write_text("{}")
    with pytest.raises(ValueError, match="expected a field"):
        prepare_set("mine", str(copy), split="dev", replace=True)
    assert read_questions("mine") == questions[:1]

    def full(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("jaxsearch.data.prepare.checksums", full)
    with pytest.raises(OSError, match="disk full"):
        prepare_set("mine", file, replace=True)
    assert read_questions("mine") == questions[:1]
    monkeypatch.undo()
    monkeypatch.setenv("JAXSEARCH_DATA", str(folder))
    prepare_set("mine", file, replace=True)
    assert [path.name for path in (folder / "mine/dev").iterdir()] == ["1.0.0"]


def change_a_byte(folder):
    [shard] = folder.glob("*array_record*")
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)


DAMAGES = {
    "mine-dev.array_record-00000-of-00001 has changed": change_a_byte,
    "features.json is missing": lambda f: (f / "features.json").unlink(),
    "more.txt does not belong to it": lambda f: (f / "more.txt").write_text("?"),
    "checksums.json: not JSON": lambda f: (f / "checksums.json").write_text("{"),
    "expected a JSON object": lambda f: (f / "checksums.json").write_text("[]"),
    "checksums.json": lambda f: (f / "checksums.json").unlink(),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_a_damaged_folder_is_refused_and_can_be_replaced(said, file, questions):
    [prepared] = prepare_set("mine", file)
    DAMAGES[said](prepared.folder)
    for use in (read_questions, describe, lambda n: sample(n, 1, seed=0)):
        with pytest.raises(ValueError, match="mine/dev in .* is damaged: ") as caught:
            use("mine")
        assert said in str(caught.value)
    with pytest.raises(ValueError, match="`jaxsearch data prepare .* --replace`"):
        prepare_set("mine", file)
    prepare_set("mine", file, replace=True)
    assert read_questions("mine") == questions


def test_the_split_that_is_meant_is_read(file, questions, tmp_path):
    for split in ("train", "dev", "test"):
        path = tmp_path / f"{split}.jsonl"
        line = flashrag_line(questions[0]) | {"id": split}
        path.write_text(json.dumps(line))
        prepare_set("nq", str(path))
    assert find_set("nq", splits=TRAINING_SPLITS).split == "train"
    assert find_set("nq", splits=EVALUATION_SPLITS).split == "test"
    assert read_questions("nq/dev")[0].id == "dev"
    with pytest.raises(ValueError, match="splits dev, test, train; give one, as in nq"):
        read_questions("nq")
    with pytest.raises(ValueError, match="no prepared split 'all', but dev, test, tr"):
        read_questions("nq/all")
    notes = []
    prepare_set("musique", file)
    found = find_set("musique", splits=TRAINING_SPLITS, note=notes.append)
    assert found.split == "dev"
    assert notes == ["musique: its split dev is read, the only one that is prepared"]


def test_every_known_set_is_evaluated_on_the_split_of_the_papers():
    first = {
        one.name: next(s for s in EVALUATION_SPLITS if s in one.splits)
        for one in KNOWN_SETS
    }
    dev = ("hotpotqa", "2wiki", "musique")
    assert first == {
        **dict.fromkeys(dev, "dev"),
        **dict.fromkeys(("bamboogle", "nq", "triviaqa", "popqa"), "test"),
    }


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("hotpotq", {}, r"unknown set 'hotpotq' \(near it: hotpotqa\); known: hotpot"),
        ("popqa", {"split": "dev"}, r"PopQA has no split 'dev' .*; it has test"),
        ("mine", {"file": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ("mine.v2", {"file": "q.jsonl"}, "expected the name of a set .* got 'mine.v2'"),
        ("mine/dev", {"file": "q.jsonl"}, "give a split with --split"),
        ("../mine", {"file": "q.jsonl"}, "expected the name of a set"),
        ("mine", {"file": "q.jsonl", "split": "../x"}, "a name such as dev, got"),
        ("mine", {"file": "q.jsonl", "split": "all"}, "a name such as dev, got 'all'"),
        ("-mine", {"file": "q.jsonl"}, "expected the name of a set"),
        ("mine", {"file": "q.jsonl", "revision": "v1"}, "--revision is for FlashRAG's"),
    ],
)
def test_what_cannot_be_prepared(name, options, said):
    with pytest.raises(ValueError, match=said):
        prepare_set(name, **options)


def test_what_is_not_prepared_says_how_to(file):
    with pytest.raises(ValueError, match="not prepared in .*`jaxsearch data prepare b"):
        read_questions("bamboogle")
    prepare_set("mine", file)
    with pytest.raises(
        ValueError, match=r"no set 'mime', .*\(near it: mine.*; prepared: mine; a file"
    ):
        read_questions("mime")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"golden_answers": ["a"]}], "expected a field `question`"),
        ([{"question": "Who?"}], "expected a field `golden_answers` or `answer`"),
        ([{"question": "Who?", "golden_answers": []}], "at least one, got"),
        ([{"question": "Who?", "golden_answers": [["a"], ["b"]]}], "in a nested list"),
        ([{"id": "1", "question": "Who?", "answer": "a"}] * 2, "already used at"),
    ],
)
def test_bad_sets_are_refused_or_go_on_without_bad_rows(rows, said, tmp_path):
    path = tmp_path / "bad.jsonl"
    good = {"id": "good", "question": "Who?", "answer": ["Ann", "Anne"]}
    path.write_text("\n".join(map(json.dumps, [good, *rows])))
    with pytest.raises(ValueError, match=said):
        prepare_set("mine", str(path))
    prepare_set("mine", str(path), skip_bad_rows=True, note=lambda line: None)
    assert read_questions("mine")[0].golden_answers == ("Ann", "Anne")


def test_flashrag_metadata_names_pages_and_keeps_no_passages(tmp_path):
    facts = {"title": ["B", "A", "B"], "sent_id": [0, 1, 2]}
    context = {"title": ["A", "B"], "sentences": [["a"], ["b"]]}
    row = {"id": "dev_0", "question": "Who?", "golden_answers": ["a"]}
    more = {"type": "bridge", "supporting_facts": facts, "context": context}
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps(row | {"metadata": more}))
    [question] = read_questions(path)
    assert question.metadata == {"type": "bridge", "supporting_titles": ["B", "A"]}


def test_a_sample_is_the_same_from_a_file_and_from_its_set(file, questions):
    prepare_set("mine", file)
    drawn = sample("mine", 4, seed=1)
    assert drawn == sample(file, 4, seed=1) and len({q.id for q in drawn}) == 4
    assert drawn != sample("mine", 4, seed=2)
    assert len(sample("mine", 100, seed=0)) == len(questions)
    with pytest.raises(ValueError, match="-n must be at least 1, got 0"):
        sample("mine", 0, seed=0)


def test_a_value_that_is_null_is_not_counted():
    questions = [
        Question(id=i, question="Who?", golden_answers=("a",), metadata={"hops": hops})
        for i, hops in {"a": 2, "b": None, "c": 2}.items()
    ]
    assert summary(questions)["by_hops"] == {"2": 2}
    assert "by_hops" not in summary(questions[1:2])


def test_a_description_counts(file):
    prepare_set("mine", file)
    found = describe("mine")["dev"]
    assert found["questions"] == 11 and found["from"] == file
    assert found["answers_per_question"] == 21 / 11 and found["most_answers"] == 3
    assert found["with_supporting_titles"] == 5 and found["by_hops"]["3"] == 1
    mixed = describe(f"mine=3,{file}")
    assert [one["share"] for one in mixed.values()] == [0.75, 0.25]
    assert describe("popqa")["prepared"] == []
