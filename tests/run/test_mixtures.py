"""Runs on prepared sets and mixtures: config, record, held-out questions, stream."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxsearch.data.mixture import Mixture, WeightedSource
from jaxsearch.data.prepare import prepare_set
from jaxsearch.run.config_fields import config_fields
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import check_restorable, identity
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.options import RunOptions, with_options
from jaxsearch.run.overrides import overridden
from jaxsearch.run.stage_questions import stage_stream
from tests.tiny import dataset, tiny_config

QUICKSTART = str(Path(__file__).resolve().parents[2] / "configs" / "quickstart.py")
MIXTURE = Mixture(
    sources=(WeightedSource(path="one", weight=2.0), WeightedSource(path="two"))
)


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """The prepared sets `one`, of 90 questions, and `two`, of 60, with equal ids."""
    monkeypatch.setenv("JAXSEARCH_DATA", str(tmp_path / "sets"))
    texts = [question.question for question in dataset(None, 0).questions]
    for name, some in (("one", texts[:90]), ("two", texts[90:150])):
        path = tmp_path / f"{name}.jsonl"
        rows = [
            {"id": f"train_{i}", "question": text, "answer": "Ann"}
            for i, text in enumerate(some)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        prepare_set(name, str(path))


def with_questions(config, questions, **data):
    data = dataclasses.replace(config.data, questions=questions, **data)
    return dataclasses.replace(config, data=data)


def test_a_stage_draws_from_its_sets_in_proportion(sets, tmp_path):
    config = with_questions(tiny_config(tmp_path / "run"), MIXTURE)
    inputs = load_inputs(config)
    [number] = [i for i, stage in enumerate(config.stages) if stage.name == "search"]
    assert len(inputs.questions["search"]) == 135 and len(inputs.own_heldout) == 15
    stream = stage_stream(config, number, inputs.questions["search"])
    drawn = [question for _, question in stream.next_batch(30)]
    assert sum(question.id.startswith("one/train_") for question in drawn) == 20
    assert not {q.id for q in drawn} & {q.id for q in inputs.own_heldout}
    # The text of the command line is the same mixture.
    texts = with_questions(config, "one=2,two=1")
    again = stage_stream(texts, number, load_inputs(texts).questions["search"])
    assert [question for _, question in again.next_batch(30)] == drawn


def test_a_mixture_is_recorded_and_given_on_the_command_line():
    config = read_config(QUICKSTART)
    words = ["--data.questions", "one=2,two=1", "--stages.0.questions", "two"]
    found = overridden(config, words, "train")
    assert found.data.questions == MIXTURE and found.stages[0].questions == "two"
    check_restorable(found)
    assert identity(found)["data"]["questions"]["sources"][0]["path"] == "one"
    assert config_fields(found)["data.questions"] == "one=2,two=1"
    # The default of a config is kept, and can be overridden again.
    assert overridden(found, [], "train") == found
    assert overridden(found, ["--data.questions", "nq"], "t").data.questions == "nq"


def test_a_weight_that_is_none_is_refused_by_the_config(capsys):
    config = read_config(QUICKSTART)
    with pytest.raises(ValueError, match="questions: nq=x: expected a weight such as"):
        dataclasses.replace(config.data, questions="nq=x")
    with pytest.raises(SystemExit) as stopped:
        overridden(config, ["--data.questions", "nq=0,one"], "train")
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "must be positive and finite" in line


def test_an_evaluation_on_other_questions_reads_no_training_file(sets, tmp_path):
    config = with_questions(tiny_config(tmp_path / "run"), "nowhere.jsonl")
    found = with_options(config, RunOptions(questions=("one",)))
    assert len(load_inputs(found).heldout) == 90
    with pytest.raises(ValueError, match="nowhere.jsonl: no such file"):
        load_inputs(with_options(config, RunOptions()))


def test_several_sets_are_evaluated_without_weights(sets, tmp_path):
    config = tiny_config(tmp_path / "run")
    everything = dataclasses.replace(config.eval, limit=0)
    config = dataclasses.replace(config, eval=everything)
    several = with_questions(config, "", heldout="one,two")
    assert len(load_inputs(several).heldout) == 150
    weighted = with_questions(config, "", heldout=MIXTURE)
    with pytest.raises(ValueError, match="weights have no effect"):
        load_inputs(weighted)
