"""Question files as people have them: layouts of the Hub, missing and broken fields."""

import json

import pytest

from jaxsearch.data.formats import read_questions
from jaxsearch.data.question import Question
from jaxsearch.rewards.answers import normalise_research

HOTPOTQA = {
    "id": "h1",
    "question": "In which year was the harbour of Volmeer opened?",
    "answer": "1871",
    "type": "bridge",
    "level": "easy",
    "supporting_facts": {"title": ["Volmeer", "Kessel"], "sent_id": [0, 1]},
    "context": {"title": ["Volmeer"], "sentences": [["A town.", "Opened in 1871."]]},
}
VERL = {
    "data_source": "own",
    "prompt": [
        {
            "role": "user",
            "content": "Answer. Question: Who painted Kessel Hall? Question: again?",
        }
    ],
    "reward_model": {"style": "rule", "ground_truth": "Orro Vant"},
    "extra_info": {"index": 7},
}
FLASHRAG = {"id": "f1", "question": "Who?", "golden_answers": ["Orro Vant"]}


@pytest.fixture
def read(tmp_path):
    """Writes records to a JSONL file and reads it; returns questions and notes."""

    def read(*records, **options):
        path = tmp_path / "q.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        notes = []
        return read_questions(path, note=notes.append, **options), notes

    return read


def test_hotpotqa_of_the_hub(read):
    empty = {"title": [], "sent_id": []}
    record = HOTPOTQA | {"id": "h2", "supporting_facts": empty, "context": empty}
    (first, second), notes = read(HOTPOTQA, record)
    assert first == Question(
        id="h1",
        question=HOTPOTQA["question"],
        golden_answers=("1871",),
        metadata={
            "type": "bridge",
            "level": "easy",
            "supporting_titles": ["Volmeer", "Kessel"],
        },
    )
    assert second.metadata["supporting_titles"] == []
    assert notes == []


@pytest.mark.parametrize(
    "facts",
    [
        {"title": ["Volmeer", "Kessel"], "sent_id": [0, 3]},
        [["Volmeer", 0], ["Kessel", 3]],
        [{"title": "Volmeer", "sent_id": 0}, {"title": "Kessel", "sent_id": 3}],
        '[["Volmeer", 0], ["Kessel", 3]]',
    ],
)
def test_2wikimultihopqa_in_all_its_forms(read, facts):
    record = {"_id": "w1", "type": "compositional", "question": "Who?", "answer": "Ann"}
    [question], notes = read(
        record | {"supporting_facts": facts, "evidences": [["a", "b", "c"]]}
    )
    assert question.metadata["supporting_titles"] == ["Volmeer", "Kessel"]
    assert (question.id, notes) == ("w1", [])


@pytest.mark.parametrize(
    "paragraphs",
    [
        [
            {"idx": 0, "title": "Other", "is_supporting": False},
            {"idx": 1, "title": "Ann (queen)", "is_supporting": True},
        ],
        {
            "idx": [0, 1],
            "title": ["Other", "Ann (queen)"],
            "is_supporting": [False, True],
        },
    ],
)
def test_musique_of_the_hub(read, paragraphs):
    record = {
        "id": "2hop__1_2",
        "question": "Who?",
        "answer": "Ann",
        "answer_aliases": ["Anne"],
        "answerable": True,
        "paragraphs": paragraphs,
    }
    [question], notes = read(record)
    assert question.golden_answers == ("Ann", "Anne")
    assert question.metadata == {"supporting_titles": ["Ann (queen)"]}
    assert notes == []


def test_nq_open_has_lists_of_answers_and_no_ids(read):
    records = [
        {"question": "who won", "answer": ["Germany", "West Germany"]},
        {"question": "who lost", "answer": ["Ann"]},
    ]
    (first, second), [note] = read(*records)
    assert first.golden_answers == ("Germany", "West Germany")
    assert (first.id, second.id) == ("row1", "row2")
    assert "rows without a usable id got their numbers: 2, such as 'row1'" in note


def test_triviaqa_of_the_hub(read):
    record = {
        "question": "Which Lloyd Webber musical?",
        "question_id": "tc_33",
        "entity_pages": {"doc_source": [], "title": []},
        "answer": {
            "aliases": ["Sunset Blvd", "Sunset Boulevard"],
            "normalized_aliases": ["sunset blvd"],
            "matched_wiki_entity_name": "",
            "value": "Sunset Boulevard",
        },
    }
    [question], notes = read(record)
    assert question.id == "tc_33"
    assert question.golden_answers == ("Sunset Boulevard", "Sunset Blvd")
    assert notes == []
    unknown = record | {"answer": {"aliases": [], "value": "<unk>"}}
    with pytest.raises(ValueError, match="`answer` must be an object with a `value`"):
        read(unknown)


def test_parquet_of_the_hub(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is read with pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train.parquet"
    answer = {"aliases": ["Sunset Blvd"], "value": "Sunset Boulevard"}
    rows = [
        HOTPOTQA | {"answer": answer},
        {"id": None, "question": "Who?", "answer": {"aliases": [], "value": "Ann"}},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    notes = []
    first, second = read_questions(path, note=notes.append)
    assert first.golden_answers == ("Sunset Boulevard", "Sunset Blvd")
    assert first.metadata["supporting_titles"] == ["Volmeer", "Kessel"]
    assert (second.id, second.metadata) == ("row2", {})
    assert len(notes) == 1 and "1, such as 'row2'" in notes[0]


@pytest.mark.parametrize("answers", ['["politician", "pol"]', ["politician", "pol"]])
def test_popqa_of_the_hub(read, answers):
    record = {"id": 4222362, "obj": "politician", "prop": "occupation"}
    [question], notes = read(
        record | {"question": "What is it?", "possible_answers": answers}
    )
    assert (question.id, question.golden_answers) == ("4222362", ("politician", "pol"))
    assert notes == []


def test_popqa_as_tsv(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_text(
        "id\tquestion\tpossible_answers\n"
        '42\tWhat is "it"?\t"[""politician"", ""a \\u00e9""]"\n'
        "43\tWho?\n"
    )
    with pytest.raises(ValueError, match=f"^{path}:3: expected 3 columns.* got 2; "):
        read_questions(path)
    [question] = read_questions(path, skip_bad_rows=True)
    assert question == Question(
        id="42", question='What is "it"?', golden_answers=("politician", "a é")
    )


@pytest.mark.parametrize("bad", ["politician", "[1]", "[]", "{}"])
def test_possible_answers_that_are_no_list_are_refused(read, bad):
    record = {"id": 1, "question": "What is it?", "possible_answers": bad}
    with pytest.raises(ValueError, match="q.jsonl:1: `possible_answers` must be"):
        read(record)


@pytest.mark.parametrize("metadata", [None, {}])
def test_flashrag_without_metadata(read, metadata):
    [question], notes = read(FLASHRAG | {"metadata": metadata})
    assert (question.metadata, notes) == ({}, [])


@pytest.mark.parametrize(
    ("record", "left_out"),
    [
        (FLASHRAG | {"metadata": "text"}, "`metadata` in 1"),
        (FLASHRAG | {"metadata": {"title": "\ud83d"}}, "`metadata` in 1"),
        (HOTPOTQA | {"supporting_facts": [3]}, "`supporting_facts` in 1"),
        (HOTPOTQA | {"supporting_facts": [[]]}, "`supporting_facts` in 1"),
        (HOTPOTQA | {"supporting_facts": {"title": [3]}}, "`supporting_facts` in 1"),
        (HOTPOTQA | {"supporting_facts": "none"}, "`supporting_facts` in 1"),
        (
            HOTPOTQA | {"supporting_facts": None, "answer_aliases": [3]},
            "`answer_aliases` in 1",
        ),
        (FLASHRAG | {"id": ""}, "`id` in 1"),
        (FLASHRAG | {"id": True}, "`id` in 1"),
        (VERL | {"extra_info": "none"}, "`extra_info` in 1"),
    ],
)
def test_what_training_does_not_need_is_left_out_and_counted(read, record, left_out):
    [question], [note] = read(record)
    assert f"malformed fields that are not needed were left out: {left_out}" in note
    assert "supporting_titles" not in question.metadata


def test_verl_with_a_plain_ground_truth(read):
    [question], notes = read(VERL)
    assert question == Question(
        id="own_7",
        question="Who painted Kessel Hall? Question: again?",
        golden_answers=("Orro Vant",),
        metadata={"dataset": "own"},
    )
    assert notes == []


@pytest.mark.parametrize(
    ("record", "metadata"),
    [
        (FLASHRAG | {"difficulty": 3}, {"difficulty": 3}),
        (FLASHRAG | {"a": None, "metadata": {"a": 1, "b": [2]}}, {"a": 1, "b": [2]}),
        ({"question": "Who?", "answer": "Ann", "tags": ["x"]}, {"tags": ["x"]}),
        (VERL | {"era": "x"}, {"dataset": "own", "era": "x"}),
        (
            VERL | {"extra_info": {"index": 7, "era": {"from": 1}}},
            {"dataset": "own", "era": {"from": 1}},
        ),
    ],
)
def test_columns_that_no_layout_has_are_metadata(read, record, metadata):
    [question], _ = read(record)
    assert question.metadata == metadata


def test_a_column_that_is_not_json_is_left_out_and_counted(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is read with pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train.parquet"
    row = FLASHRAG | {"image": b"x", "hops": 2}
    parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    notes = []
    [question] = read_questions(path, note=notes.append)
    assert question.metadata == {"hops": 2}
    assert len(notes) == 1 and "`image` in 1" in notes[0]


@pytest.mark.parametrize("truth", ["Orro Vant", ["Orro Vant"], {"target": "Orro Vant"}])
def test_ground_truths_of_verl(read, truth):
    record = VERL | {"reward_model": {"ground_truth": truth}, "question": "Who?"}
    [question], _ = read(record)
    assert (question.question, question.golden_answers) == ("Who?", ("Orro Vant",))


def test_questions_of_verl_begin_after_what_all_prompts_share(read):
    def row(index, asked):
        content = f"Example. Question: not this? Answer: Ann. Question: {asked}\n"
        return VERL | {
            "prompt": [{"role": "user", "content": content}],
            "extra_info": {"split": "train", "index": index},
        }

    asked = ["Who? Question: again?", "Where is it?", "Question: really?"]
    questions, _ = read(*(row(i, text) for i, text in enumerate(asked)))
    assert [question.question for question in questions] == asked
    assert questions[0].id == "own_train_0"


@pytest.mark.parametrize("extra", [{}, None, {"index": None}, {"split": "train"}])
def test_verl_without_an_index(read, extra):
    [question], _ = read(VERL | {"extra_info": extra})
    assert question.id == "row1"


@pytest.mark.parametrize("id_", [None, "", "absent"])
def test_a_row_without_an_id_gets_the_number_of_its_line(tmp_path, id_):
    record = {"question": "Who?", "golden_answers": ["Ann"]}
    if id_ != "absent":
        record["id"] = id_
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(FLASHRAG) + "\n\n" + json.dumps(record) + "\n")
    assert [question.id for question in read_questions(path)] == ["f1", "row3"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"question": "Who? \ud83d"}, "question"),
        ({"golden_answers": ["Tessa \ud83d Brink"]}, "golden_answers"),
        ({"id": "\udc00"}, "id"),
    ],
)
def test_half_of_a_surrogate_pair_is_a_bad_row(read, change, name):
    match = rf"q.jsonl:2: `{name}` contains half of a surrogate pair \('\\ud"
    with pytest.raises(ValueError, match=match):
        read(FLASHRAG, FLASHRAG | {"id": "b"} | change)


def test_a_whole_surrogate_pair_is_text(read):
    [question], _ = read(FLASHRAG | {"question": "Who is 😀?"})
    assert question.question == "Who is 😀?"


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.tsv", "q.csv"])
def test_a_byte_order_mark_is_not_part_of_a_file(tmp_path, name):
    texts = {
        "q.jsonl": json.dumps(FLASHRAG),
        "q.json": json.dumps([FLASHRAG]),
        "q.tsv": "id\tquestion\tgolden_answers\nf1\tWho?\tOrro Vant",
        "q.csv": "id,question,golden_answers\nf1,Who?,Orro Vant",
    }
    path = tmp_path / name
    path.write_text(texts[name] + "\n", encoding="utf-8-sig")
    [question] = read_questions(path)
    assert question == Question(id="f1", question="Who?", golden_answers=("Orro Vant",))


def test_joined_files_have_a_byte_order_mark_in_the_middle(tmp_path):
    path = tmp_path / "q.jsonl"
    lines = [json.dumps(FLASHRAG | {"id": id_}) + "\n" for id_ in "ab"]
    path.write_bytes(b"".join(line.encode("utf-8-sig") for line in lines))
    assert [question.id for question in read_questions(path)] == ["a", "b"]


@pytest.mark.parametrize("answers", ["A", ["The The"], ["...", ""], ["a", None, "the"]])
@pytest.mark.parametrize("name", ["golden_answers", "answer"])
def test_a_row_of_answers_that_normalise_to_nothing_is_bad(read, answers, name):
    record = {"id": "b", "question": "Who?", name: answers}
    match = f"q.jsonl:2: every answer in `{name}` is empty once normalised "
    with pytest.raises(ValueError, match=match):
        read(FLASHRAG, record, normalise=normalise_research)
    [question], [note] = read(
        FLASHRAG, record, normalise=normalise_research, skip_bad_rows=True
    )
    assert question.id == "f1" and "1 of 2 rows are bad and were skipped" in note


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"golden_answers": ["A", "Volmeer", ""]}, ("Volmeer",)),
        ({"answer": "The", "answer_aliases": ["Volmeer", "A"]}, ("Volmeer",)),
        ({"answer": {"value": "A", "aliases": ["An", "Volmeer"]}}, ("Volmeer",)),
        ({"possible_answers": '["a", "the", "Volmeer"]'}, ("Volmeer",)),
    ],
)
def test_only_the_answer_that_normalises_to_nothing_is_left_out(read, fields, kept):
    record = {"id": "b", "question": "Who?"} | fields
    [question], [note] = read(record, normalise=normalise_research)
    assert question.golden_answers == kept
    assert "that are empty once normalised were left out: 2, such as " in note
    [question], notes = read({"id": "c", "question": "?", "golden_answers": ["A", "b"]})
    assert (question.golden_answers, notes) == (("A", "b"), [])
