"""A run is evaluated on its own data, or says that it is not."""

import dataclasses
from pathlib import Path

import pytest

from jaxsearch import json_lines
from jaxsearch.config import DataConfig
from jaxsearch.data.question import Question, flashrag_line
from jaxsearch.monitor.rollout_log import read_rollouts, rollout_files
from jaxsearch.run.data_notes import data_notes
from jaxsearch.run.folder import read_run_config, write_record
from jaxsearch.run.heldout_split import hold_out, record_heldout, without
from jaxsearch.run.inputs import load_inputs
from jaxsearch.train import train
from tests.tiny import dataset, tiny_config

SOURCE = dataset(None, 0)


def write(path, questions):
    json_lines.replace_lines(path, map(flashrag_line, questions))
    return str(path)


def texts(questions):
    return [question.question for question in questions]


def numbered(num):
    return [
        Question(id=f"q{i}", question=f"Who is {i}?", golden_answers=("A",))
        for i in range(num)
    ]


def with_data(config, **fields):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **fields))


@pytest.fixture
def config(tmp_path):
    """A run on 120 questions of a file, which searches the passages of its source."""
    path = write(tmp_path / "own.jsonl", SOURCE.questions[:120])
    config = with_data(tiny_config(tmp_path / "run"), questions=path)
    return dataclasses.replace(config, eval=dataclasses.replace(config.eval, limit=0))


def notes_of(config, inputs=None):
    return data_notes(config, inputs or load_inputs(config), has_search=True)


def two_stages(config, first, second):
    """The config with two RL stages, each with its own file of questions."""
    *_, search = config.stages
    stages = (
        dataclasses.replace(search, name="first", questions=first),
        dataclasses.replace(search, name="second", questions=second),
    )
    return dataclasses.replace(with_data(config, questions=""), stages=stages)


# --------------------------------------------------------------------- what is held out


@pytest.mark.parametrize(
    ("num", "share", "most", "num_heldout"),
    [
        (94, 0.1, 200, 0),
        (100, 0.1, 200, 10),
        (120, 0.1, 200, 12),
        (1000, 0.5, 200, 200),
        (1000, 0.5, 5, 5),
        (40, 0.25, 200, 10),
        (500, 0.0, 200, 0),
    ],
)
def test_a_share_is_held_out_up_to_a_largest_number(num, share, most, num_heldout):
    data = DataConfig(source=dataset, heldout_share=share, max_heldout=most)
    held = hold_out(numbered(num), data)
    assert len(held) == len(set(texts(held))) == num_heldout
    rest = without({"search": numbered(num)}, held)["search"]
    assert len(rest) == num - num_heldout and not {*texts(rest)} & {*texts(held)}


def test_the_choice_depends_on_the_texts_alone():
    data = DataConfig(source=dataset)
    whole = hold_out(numbered(200), data)
    assert hold_out(numbered(200)[::-1], data) == whole
    renamed = [dataclasses.replace(q, id=f"other{q.id}") for q in numbered(200)]
    assert texts(hold_out(renamed, data)) == texts(whole)
    # A sample of the file rather than its beginning, in no order of the file.
    places = [int(q.id[1:]) for q in whole]
    assert places != sorted(places) and max(places) > 100 > min(places)
    # Questions added to a file change few of the choices.
    more = hold_out(numbered(220), data)
    assert len({*texts(more)} & {*texts(whole)}) >= 15


def test_a_question_that_occurs_twice_is_not_on_both_sides():
    questions = numbered(150)
    again = [
        dataclasses.replace(q, id=f"{q.id}b", question=f"  {q.question.upper()} ")
        for q in questions
    ]
    held = hold_out(questions + again, DataConfig(source=dataset))
    assert len(held) == 30 and len({text.strip().upper() for text in texts(held)}) == 15
    rest = without({"search": questions + again}, held)["search"]
    assert len(rest) == 270


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_makes_no_sense_is_refused(share):
    with pytest.raises(ValueError, match=r"data.heldout_share must be in \[0, 1\)"):
        DataConfig(source=dataset, heldout_share=share)
    with pytest.raises(ValueError, match="max_heldout must be at least 1"):
        DataConfig(source=dataset, max_heldout=0)


# ---------------------------------------------------------------- the inputs of a run


def test_own_questions_are_judged_on_own_questions(config):
    inputs = load_inputs(config)
    held, trained = texts(inputs.heldout), texts(inputs.questions["search"])
    assert len(held) == 12 and len(trained) == 108
    assert {*held, *trained} == {*texts(SOURCE.questions[:120])}
    # They are searched in the same passages as in training.
    assert inputs.heldout_passages == [] and SOURCE.heldout_passages != []
    [line, _] = notes_of(config, inputs)
    assert line.startswith(f"evaluation: 12 questions of {config.data.questions} are ")
    assert f"{config.out}/heldout.jsonl" in line and "--data.heldout-share 0" in line
    other_seed = dataclasses.replace(config, seed=7)
    assert load_inputs(other_seed).heldout == inputs.heldout
    limited = dataclasses.replace(
        config, eval=dataclasses.replace(config.eval, limit=5)
    )
    assert load_inputs(limited).heldout == inputs.heldout[:5]
    assert load_inputs(limited).questions == inputs.questions


def test_a_file_of_heldout_questions_is_taken_as_it_is(config, tmp_path):
    path = write(tmp_path / "heldout.jsonl", SOURCE.questions[:3])
    config = with_data(config, heldout=path)
    inputs = load_inputs(config)
    assert texts(inputs.heldout) == texts(SOURCE.questions[:3])
    assert len(inputs.questions["search"]) == 120 and inputs.own_heldout == []
    assert not any("evaluation" in note for note in notes_of(config, inputs))


@pytest.mark.parametrize(
    ("num", "share", "why"),
    [
        (40, 0.1, "own.jsonl has 40 questions, and a share of 0.1 of them is less "),
        (8, 0.5, "own.jsonl has 8 questions, and a share of 0.5 of them is less "),
        (120, 0.0, "data.heldout_share is 0; give questions with --data.heldout FILE"),
    ],
)
def test_a_run_without_evaluation_says_so(config, num, share, why):
    path = write(config_path(config), SOURCE.questions[:num])
    config = with_data(config, questions=path, heldout_share=share)
    inputs = load_inputs(config)
    assert inputs.heldout == [] and len(inputs.questions["search"]) == num
    [line, _] = notes_of(config, inputs)
    assert line.startswith("no evaluation: ") and why in line


def config_path(config):
    return Path(config.data.questions)


def test_a_source_decides_what_it_holds_out(tmp_path):
    config = tiny_config(tmp_path / "run")
    inputs = load_inputs(config)
    assert inputs.heldout == SOURCE.heldout[:6] and notes_of(config, inputs) == []
    assert inputs.heldout_passages == SOURCE.heldout_passages

    def without_heldout(run_folder, seed):
        return dataclasses.replace(SOURCE, heldout=[])

    config = with_data(config, source=without_heldout)
    inputs = load_inputs(config)
    assert len(inputs.questions["search"]) == len(SOURCE.questions)
    [line] = notes_of(config, inputs)
    assert line.startswith("no evaluation: data.source has no held-out questions; ")


def test_stages_with_files_of_their_own(config, tmp_path):
    """The last stage's file is divided, and no stage trains on what is held out."""
    first = write(tmp_path / "first.jsonl", SOURCE.questions[:60])
    config = two_stages(config, first, config.data.questions)
    inputs = load_inputs(config)
    held = {*texts(inputs.heldout)}
    assert len(held) == 12 and held & {*texts(SOURCE.questions[:60])}
    for questions in inputs.questions.values():
        assert questions and not held & {*texts(questions)}
    assert len(inputs.questions["second"]) == 108

    # The last stage has the questions of data.source, and so has the evaluation.
    config = two_stages(config, first, "")
    inputs = load_inputs(config)
    assert inputs.heldout == SOURCE.heldout and len(inputs.questions["first"]) == 60
    assert not any("evaluation" in note for note in notes_of(config, inputs))


def test_a_stage_of_which_everything_is_held_out_is_refused(config, tmp_path):
    [one, *_] = load_inputs(config).heldout
    first = write(tmp_path / "first.jsonl", [one])
    with pytest.raises(ValueError, match="all questions of stage 'first' are held out"):
        load_inputs(two_stages(config, first, config.data.questions))


def test_questions_and_passages_of_different_origin_are_named(config, tmp_path):
    [_, line] = notes_of(config)
    num_passages = len(SOURCE.passages)
    assert line.startswith(f"the questions of {config.data.questions} are searched in ")
    assert f"the {num_passages} passages of data.source; give passages of your" in line

    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "contents": "A\\nA is a town."}\n')
    retrieval = dataclasses.replace(config.retrieval, corpus=str(corpus))
    both = dataclasses.replace(config, retrieval=retrieval)
    assert len(notes_of(both)) == 1
    passages = dataclasses.replace(with_data(both, questions=""))
    assert notes_of(passages) == [
        f"the questions of data.source are searched in {corpus}; give questions of "
        "your own with --data.questions"
    ]


# ------------------------------------------------------------------- the run's folder


def begin(config):
    """Writes what `train` writes before its first step."""
    inputs = load_inputs(config)
    record_heldout(config, inputs.own_heldout)
    write_record(config, "")
    return inputs


def test_a_run_that_resumes_has_the_same_questions(config):
    inputs = begin(config)
    resumed = load_inputs(config)
    assert resumed.heldout == inputs.heldout
    assert resumed.questions == inputs.questions
    assert notes_of(config, resumed) == notes_of(config, inputs)
    # As `jaxsearch eval` and `jaxsearch ask` read it.
    assert load_inputs(read_run_config(Path(config.out))).heldout == inputs.heldout

    # With a longer file a new run would hold out others, which this one has trained on.
    write(config_path(config), SOURCE.questions[:200])
    resumed = load_inputs(config)
    assert resumed.heldout == inputs.heldout
    assert not {*texts(inputs.heldout)} & {*texts(resumed.questions["search"])}
    elsewhere = dataclasses.replace(config, out=f"{config.out}-2")
    assert load_inputs(elsewhere).heldout != inputs.heldout


def test_a_run_of_an_earlier_version_holds_out_nothing(config):
    """It has trained on all questions of its file."""
    write_record(config, "")
    inputs = load_inputs(config)
    assert inputs.heldout == [] and len(inputs.questions["search"]) == 120
    [line, _] = notes_of(config, inputs)
    assert f"the run in {config.out} was started without one" in line


@pytest.mark.long
def test_a_whole_run_on_own_questions(config, capsys):
    """Held-out questions are announced once, listed, and never trained on."""
    config = dataclasses.replace(
        config,
        stages=config.stages[1:],
        steps=1,
        eval=dataclasses.replace(config.eval, every=0, limit=3),
    )
    train(config)
    said = capsys.readouterr().err
    assert said.count("evaluation: 12 questions of ") == 1
    recorded = json_lines.read_lines(Path(config.out) / "heldout.jsonl")
    evaluations = json_lines.read_lines(Path(config.out) / "eval.jsonl")
    assert [one["n"] for one in evaluations] == [3] * 4
    held = texts(load_inputs(config).own_heldout)
    assert [one["question"] for one in recorded] == held
    [step] = rollout_files(Path(config.out)).values()
    ids = {one.question_id for one in read_rollouts(step)}
    assert ids and not ids & {one["id"] for one in recorded}
