import builtins
import gzip
import json

import pytest

from jaxsearch.data.formats import read_questions
from jaxsearch.data.question import Question

FLASHRAG = {"id": "a", "question": "Who?", "golden_answers": ["Ann", "Anne"]}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def error_of(path):
    """Returns the message of the ValueError: one line that names the file."""
    with pytest.raises(ValueError) as caught:
        read_questions(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_flashrag_in_file_order(tmp_path):
    metadata = {"supporting_titles": ["Ann (queen)"]}
    path = write(
        tmp_path / "q.jsonl",
        FLASHRAG | {"id": "b", "metadata": metadata},
        FLASHRAG | {"question": "Where is\u2028it?"},
    )
    first, second = read_questions(path)
    assert first == Question(
        id="b", question="Who?", golden_answers=("Ann", "Anne"), metadata=metadata
    )
    assert (second.id, second.question) == ("a", "Where is\u2028it?")
    assert second.metadata == {}


def test_gzip_and_plain_files_are_read_alike(tmp_path):
    plain = write(tmp_path / "q.jsonl", FLASHRAG)
    packed = tmp_path / "q.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_questions(packed) == read_questions(str(plain))


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path):
    path = tmp_path / "q.jsonl"
    record = FLASHRAG | {"question": "Where is\u2028it?"}
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n")
    assert read_questions(path)[0].question == "Where is\u2028it?"


@pytest.mark.parametrize(
    ("answer", "golden_answers"),
    [("Ann", ("Ann",)), (["Ann", "Anne"], ("Ann", "Anne"))],
)
def test_r1_searcher(tmp_path, answer, golden_answers):
    record = {"idx": 7, "question": "Who?", "answer": answer, "gen_text_store": ""}
    [question] = read_questions(write(tmp_path / "stage_2.jsonl", record))
    assert (question.id, question.golden_answers) == ("7", golden_answers)


def test_hotpotqa_array(tmp_path):
    record = {
        "_id": "5a7a",
        "question": "Who?",
        "answer": "Ann",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["Second", 0], ["First", 1], ["Second", 2]],
        "context": [["First", ["..."]]],
    }
    path = tmp_path / "hotpot.json"
    path.write_text(json.dumps([record, record | {"_id": "5a7b"}], indent=1))
    question, other = read_questions(path)
    assert (question.id, other.id) == ("5a7a", "5a7b")
    assert question.metadata == {
        "type": "bridge",
        "level": "hard",
        "supporting_titles": ["Second", "First"],
    }


def test_musique_original(tmp_path):
    record = {
        "id": "2hop__1_2",
        "question": "Who?",
        "answer": "Ann",
        "answer_aliases": ["Anne", "Ann"],
        "paragraphs": [
            {"idx": 0, "title": "Other", "is_supporting": False},
            {"idx": 1, "title": "Ann (queen)", "is_supporting": True},
        ],
    }
    [question] = read_questions(write(tmp_path / "musique.jsonl", record))
    assert question.golden_answers == ("Ann", "Anne")
    assert question.metadata == {"supporting_titles": ["Ann (queen)"]}


def test_no_aliases(tmp_path):
    record = {"id": "1", "question": "Who?", "answer": "Ann", "answer_aliases": []}
    [question] = read_questions(write(tmp_path / "q.jsonl", record))
    assert question.golden_answers == ("Ann",)


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is read with pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_research_parquet(tmp_path):
    row = {
        "data_source": "musique",
        "question": "Who?",
        "ability": "qa",
        "reward_model": {"style": "rule", "ground_truth": ["Ann", "Anne"]},
        "extra_info": {"id": "2hop__1_2"},
    }
    [question] = read_questions(write_parquet(tmp_path / "train.parquet", [row]))
    assert question == Question(
        id="2hop__1_2",
        question="Who?",
        golden_answers=("Ann", "Anne"),
        metadata={"dataset": "musique"},
    )


def test_search_r1_parquet(tmp_path):
    def row(source, asked):
        content = f"Example. Question: not this? Question: {asked}\n"
        return {
            "data_source": source,
            "prompt": [{"role": "user", "content": content}],
            "reward_model": {"style": "rule", "ground_truth": {"target": ["Ann"]}},
            "extra_info": {"split": "train", "index": 0},
        }

    path = write_parquet(
        tmp_path / "train.parquet", [row("nq", "Who?"), row("hotpotqa", "Where?")]
    )
    first, second = read_questions(path)
    assert (first.question, first.golden_answers) == ("Who?", ("Ann",))
    assert second.question == "Where?"
    assert (first.id, second.id) == ("nq_train_0", "hotpotqa_train_0")


def test_parquet_without_pyarrow_names_the_package(tmp_path, monkeypatch):
    path = tmp_path / "train.parquet"
    path.touch()
    real_import = builtins.__import__

    def no_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    assert "pip install pyarrow" in error_of(path)


def test_a_file_that_is_no_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="parquet is read with pyarrow")
    path = tmp_path / "train.parquet"
    path.write_text("not parquet")
    assert "parquet" in error_of(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"question": " "}, "`question` must be a non-empty string, got ' '"),
        ({"question": 3}, "`question` must be a non-empty string, got 3"),
        ({"golden_answers": []}, "`golden_answers` must be a list of non-empty"),
        ({"golden_answers": ["", None]}, "`golden_answers` must be a list of"),
        ({"golden_answers": ["Ann", 3]}, "`golden_answers` must be a list of"),
        ({"golden_answers": 3}, "`golden_answers` must be a non-empty string or"),
    ],
)
def test_wrong_field_is_named_with_its_line(tmp_path, change, expected):
    path = write(tmp_path / "q.jsonl", FLASHRAG, FLASHRAG | {"id": "b"} | change)
    message = error_of(path)
    assert message.startswith(f"{path}:2: ")
    assert expected in message


ORIGINAL = {"_id": "a", "question": "Who?", "answer": "Ann"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answer": ""}, "`answer` must be a non-empty string"),
        ({"answer": None}, "`answer` must be a non-empty string or"),
        ({"answer": []}, "`answer` must be a list of non-empty strings"),
        ({"answer": {"aliases": []}}, "`answer` must be an object with a `value`"),
    ],
)
def test_wrong_field_of_an_original_file(tmp_path, change, expected):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([ORIGINAL | change]))
    message = error_of(path)
    assert message.startswith(f"{path}, item 1: ")
    assert expected in message


VERL = {
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "Question: Who?\n"}],
    "reward_model": {"ground_truth": ["Ann"]},
    "extra_info": {"split": "train", "index": 0},
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"reward_model": {}}, "expected a field `ground_truth`"),
        ({"reward_model": {"ground_truth": {"target": []}}}, "`target` must be"),
        ({"prompt": []}, "`prompt` must be a list of objects"),
        ({"prompt": [{"content": "Question: "}]}, "`prompt` must be text ending"),
    ],
)
def test_wrong_field_of_verls_layout(tmp_path, change, expected):
    assert expected in error_of(write(tmp_path / "q.jsonl", VERL | change))


@pytest.mark.parametrize("missing", ["question", "golden_answers"])
def test_missing_field(tmp_path, missing):
    record = {name: value for name, value in FLASHRAG.items() if name != missing}
    message = error_of(write(tmp_path / "q.jsonl", record))
    assert message.startswith(f"{tmp_path / 'q.jsonl'}:1: expected a field ")
    assert f"`{missing}`" in message


def test_duplicate_id_names_both_lines(tmp_path):
    path = write(tmp_path / "q.jsonl", FLASHRAG, FLASHRAG | {"id": "b"}, FLASHRAG)
    message = error_of(path)
    assert f"{path}:3: id 'a'" in message
    assert f"{path}:1;" in message


def test_malformed_json_names_its_line(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(FLASHRAG) + "\n\n{'id': 1}\n")
    assert error_of(path).startswith(f"{path}:3: malformed JSON")


def test_malformed_array_names_its_line(tmp_path):
    path = tmp_path / "q.json"
    path.write_text("[\n{},\n{]")
    assert error_of(path).startswith(f"{path}: malformed JSON array")
    assert "line 3" in error_of(path)


def test_record_that_is_no_object(tmp_path):
    assert "expected a JSON object, got 3" in error_of(write(tmp_path / "q.jsonl", 3))


@pytest.mark.parametrize("content", ["", "\n \n", "[]"])
def test_file_without_questions(tmp_path, content):
    path = tmp_path / "q.json"
    path.write_text(content)
    assert "expected at least one question" in error_of(path)


def test_missing_file(tmp_path):
    assert "no such file" in error_of(tmp_path / "absent.jsonl")


def test_unknown_extension(tmp_path):
    path = tmp_path / "q.xyz"
    path.touch()
    assert ".jsonl.gz" in error_of(path)


@pytest.mark.parametrize("damage", ["truncated", "garbled", "not gzip"])
def test_damaged_gzip(tmp_path, damage):
    whole = gzip.compress(json.dumps(FLASHRAG).encode() * 50)
    middle = len(whole) // 2
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(
        {
            "truncated": whole[:middle],
            "garbled": whole[:12] + b"\xff" * 20 + whole[32:],
            "not gzip": b'{"id": "a"}',
        }[damage]
    )
    assert "gzip" in error_of(path)


def test_not_utf8_names_its_line(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps(FLASHRAG).encode() + b'\n{"id": "\xe9"}\n')
    assert error_of(path).startswith(f"{path}:2: not UTF-8")
