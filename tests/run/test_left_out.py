"""Bad rows and long prompts: refused together before a run, or left out and counted."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.commands.main import main
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import identity
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.overrides import overridden
from jaxsearch.train import train
from tests.tiny import dataset, tiny_config

QUICKSTART = str(Path(__file__).resolve().parents[2] / "configs" / "quickstart.py")
LONG = "What " * 60


def write(path, questions):
    lines = (
        {"id": f"q{i}", "question": text, "golden_answers": ["Ann"]}
        for i, text in enumerate(questions)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def texts():
    """300 questions of known words."""
    questions = dataset(None, 0).questions
    return [questions[i % len(questions)].question for i in range(300)]


def with_data(config, **fields):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **fields))


def test_all_long_prompts_are_counted_and_ten_are_named(tmp_path, texts, capsys):
    texts[7::20] = [LONG] * 15
    path = write(tmp_path / "q.jsonl", texts)
    config = tiny_config(tmp_path / "run")
    config = with_data(config, questions=path, heldout_share=0.0)
    with pytest.raises(ValueError) as caught:
        train(with_data(config, drop_long_prompts=False))
    message = str(caught.value)
    assert not (tmp_path / "run").exists()
    assert message.startswith(
        "the prompts of 15 of 300 questions exceed the budget of 28 tokens: question "
        "'q7' has 120, question 'q27' has 120, "
    )
    assert "question 'q187' has 120, and 5 more; raise --rollout.max-p" in message
    assert "(120 fits all), or drop these questions with --data.drop-long" in message
    capsys.readouterr()
    inputs = load_inputs(config)
    [questions] = inputs.questions.values()
    assert [q.id for q in questions] == [f"q{i}" for i in range(300) if i % 20 != 7]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("the prompts of 15 of ") and line.endswith("were dropped")


def with_answers(answers):
    """The source of tiny runs, with other golden answers of its first questions."""

    def source(run_folder, seed):
        found = dataset(run_folder, seed)
        first = [
            dataclasses.replace(question, golden_answers=those)
            for question, those in zip(found.questions, answers, strict=False)
        ]
        rest = found.questions[len(first) :]
        return dataclasses.replace(found, questions=first + rest)

    return source


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([("the",)], "data.source, question '{0}': expected golden answers, every one"),
        ([()], "data.source, question '{0}': expected golden answers, got none"),
        (
            [("Ann",), (" ", "a"), ("!",)],
            "data.source: 2 of 200 rows are bad: question '{1}': .*; question '{2}'",
        ),
    ],
)
def test_empty_answers_of_a_source_are_named_or_skipped(
    tmp_path, capsys, answers, message
):
    config = with_data(tiny_config(tmp_path / "run"), source=with_answers(answers))
    ids = [question.id for question in dataset(None, 0).questions]
    with pytest.raises(ValueError, match=message.format(*ids)):
        load_inputs(config)
    inputs = load_inputs(with_data(config, skip_bad_rows=True))
    num_bad = sum(those != ("Ann",) for those in answers)
    assert len(inputs.questions["search"]) == 200 - num_bad
    [line] = capsys.readouterr().err.splitlines()
    assert f"{num_bad} of 200 rows are bad and were skipped: question " in line
    # Questions that the run does not use are not checked.
    path = write(tmp_path / "q.jsonl", ["What is this?"])
    load_inputs(with_data(config, questions=path))


def test_answers_that_nothing_equals_are_left_out_of_a_source(tmp_path, capsys):
    source = with_answers([("the", "Ann"), ("Ann",)])
    inputs = load_inputs(with_data(tiny_config(tmp_path / "run"), source=source))
    assert inputs.questions["search"][0].golden_answers == ("Ann",)
    [line] = capsys.readouterr().err.splitlines()
    assert "left out: 1, such as 'the' of question " in line


def test_long_heldout_prompts_are_dropped_too(tmp_path, texts, capsys):
    path = write(tmp_path / "q.jsonl", [texts[0], LONG, texts[1]])
    config = with_data(tiny_config(tmp_path / "run"), heldout=path)
    with pytest.raises(ValueError, match="the prompts of 1 of .* question 'q1' has"):
        load_inputs(with_data(config, drop_long_prompts=False))
    inputs = load_inputs(config)
    assert [question.id for question in inputs.heldout] == ["q0", "q2"]


def test_a_run_without_any_fitting_prompt_is_refused(tmp_path):
    path = write(tmp_path / "q.jsonl", [LONG, LONG])
    config = with_data(tiny_config(tmp_path / "run"), questions=path)
    with pytest.raises(ValueError, match="no other question is left; raise"):
        load_inputs(config)


@pytest.mark.parametrize("name", ["questions", "heldout"])
def test_bad_rows_are_skipped_in_every_file_of_questions(tmp_path, texts, capsys, name):
    path = write(tmp_path / "q.jsonl", [texts[0], " ", texts[1]])
    config = with_data(tiny_config(tmp_path / "run"), **{name: path})
    with pytest.raises(ValueError, match="q.jsonl:2: .*--data.skip-bad-rows"):
        load_inputs(config)
    capsys.readouterr()
    inputs = load_inputs(with_data(config, skip_bad_rows=True))
    read = inputs.heldout if name == "heldout" else inputs.questions["search"]
    assert [question.id for question in read] == ["q0", "q2"]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: 1 of 3 rows are bad and were skipped: line 2: ")


def test_bad_rows_of_a_corpus_are_skipped(tmp_path, capsys):
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": 1, "contents": "t"}\n{"id": 2}\n')
    config = tiny_config(tmp_path / "run")
    retrieval = dataclasses.replace(config.retrieval, corpus=str(path))
    config = dataclasses.replace(config, retrieval=retrieval)
    with pytest.raises(ValueError, match="c.jsonl, line 2: .*--data.skip-bad-rows"):
        load_inputs(config)
    inputs = load_inputs(with_data(config, skip_bad_rows=True))
    assert [passage.id for passage in inputs.passages] == ["1"]


def test_the_options_do_not_make_another_run(tmp_path):
    config = tiny_config(tmp_path / "run")
    other = with_data(config, skip_bad_rows=True, drop_long_prompts=False)
    assert identity(other) == identity(config)


@pytest.mark.parametrize(
    "words",
    [
        ["--data.skip-bad-rows", "--data.drop-long-prompts"],
        ["--data.skip-bad-rows", "True", "--data.drop-long-prompts=True"],
        ["--data.skip_bad_rows", "--seed", "3", "--data.drop-long-prompts"],
    ],
)
def test_the_options_need_no_value(words):
    before = with_data(read_config(QUICKSTART), drop_long_prompts=False)
    data = overridden(before, words, "train").data
    assert data.skip_bad_rows and data.drop_long_prompts


def test_other_fields_still_need_a_value(capsys):
    config = read_config(QUICKSTART)
    words = ["--data.questions", "--data.skip-bad-rows", "False"]
    with pytest.raises(SystemExit):
        overridden(config, words, "train")
    assert overridden(config, words[1:], "train").data.skip_bad_rows is False


def test_an_index_is_built_without_bad_rows(tmp_path, capsys):
    path = tmp_path / "c.jsonl"
    lines = [json.dumps({"id": i, "contents": f"Town {i}\nIt is {i}."}) for i in "abc"]
    path.write_text("\n".join([*lines, "{"]))
    words = ["index", "build", "--corpus", str(path), "--out", str(tmp_path / "index")]
    assert main([*words, "--dims", "16"]) == 2
    assert "c.jsonl, line 4: " in capsys.readouterr().err
    assert not (tmp_path / "index").exists()
    assert main([*words, "--dims", "16", "--skip-bad-rows"]) == 0
    captured = capsys.readouterr()
    assert "1 of 4 rows are bad and were skipped: line 4: " in captured.err


def test_golden_answers_are_checked_with_the_normaliser_of_the_task(tmp_path, texts):
    path = tmp_path / "q.jsonl"
    line = {"id": "a", "question": texts[0], "golden_answers": ["the"]}
    path.write_text(json.dumps(line))
    config = tiny_config(tmp_path / "run")
    for name in ("questions", "heldout"):
        with pytest.raises(ValueError, match="q.jsonl:1: every answer in `golden_a"):
            train(with_data(config, **{name: str(path)}))
    assert not (tmp_path / "run").exists()
