"""Asking one question: the same answer as in an evaluation, shown turn by turn."""

import dataclasses
import json

import numpy as np
import pytest

from jaxsearch.commands.main import main
from jaxsearch.config import DataConfig, RetrievalConfig
from jaxsearch.env.environment import RolloutId
from jaxsearch.evaluation.ask import ask, watched
from jaxsearch.evaluation.evaluate import evaluate
from jaxsearch.json_lines import replace_lines
from jaxsearch.rewards.tasks import RESEARCH
from jaxsearch.run.build import open_run
from jaxsearch.run.export import export
from jaxsearch.run.folder import write_record
from jaxsearch.run.inputs import load_inputs, unknown_words
from jaxsearch.run.model_config import model_config
from jaxsearch.run.options import with_index
from jaxsearch.run.retrievers import open_retrievers
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.passages import Passage
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from tests.tiny import dataset, tiny_config
from tests.web.stub_providers import one_page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run."""
    return open_run(tiny_config(tmp_path_factory.mktemp("runs") / "untrained"))


@pytest.mark.slow
def test_a_question_gets_the_answer_of_an_evaluation(run):
    """From programs for one rollout, without those of the whole run."""
    run = dataclasses.replace(run)
    params = run.rollout_params(run.initial_params())
    questions = run.inputs.heldout[:2]
    asked = [ask(run, params, question.question)[0] for question in questions]
    assert "sampler" not in vars(run)
    environment = run.environments.heldout
    found = evaluate(run.sampler, params, questions, environment, run.task)
    for answer, expected in zip(asked, found.trajectories, strict=True):
        np.testing.assert_array_equal(answer.tokens, expected.tokens)
        assert answer.status is expected.status


def test_turns_and_observations_are_shown_when_they_are_there(run):
    shown = []
    environment = run.environments.heldout
    passage = run.inputs.heldout_passages[0]
    turn = run.inputs.protocol.search_turn("who", passage.title)

    def on_segment(segment):
        shown.append((segment.is_policy, segment.text))

    turns = [(RolloutId(0, 0, 0), turn)]
    [answer] = watched(environment, on_segment).step(turns)
    [expected] = environment.step(turns)
    assert answer == expected
    assert shown == [(True, turn), (False, run.inputs.tokenizer.decode(answer.ids))]
    assert passage.title in shown[1][1]


def test_an_index_that_is_given_is_searched_for_held_out_questions(run, tmp_path):
    """Although they have passages of their own."""
    given = [Passage(id="g1", contents="Given\nThe given passage.")]
    ExactIndex(given, TfidfEncoder.fit(given, dims=16)).save(tmp_path / "index")
    retrieval = with_index(run.config.retrieval, str(tmp_path / "index"))
    config = dataclasses.replace(run.config, retrieval=retrieval)
    inputs = load_inputs(config)
    assert inputs.heldout_passages
    for retriever in open_retrievers(config, inputs):
        [[hit]] = retriever.search(["given"], 1)
        assert hit.passage == given[0]
    # Training with an index of one's own leaves them theirs.
    retrieval = dataclasses.replace(retrieval, heldout_index="")
    config = dataclasses.replace(config, retrieval=retrieval, out=str(tmp_path / "r"))
    title = inputs.heldout_passages[0].title
    [[hit]] = open_retrievers(config, inputs)[1].search([title], 1)
    assert hit.passage.title == title


@pytest.mark.parametrize("name", ["url", "web", "retriever"])
def test_an_index_for_held_out_questions_excludes_other_searches(name):
    value = {"url": "http://host", "web": one_page, "retriever": print}[name]
    with pytest.raises(ValueError, match=f"{name} and retrieval.heldout_index exclude"):
        RetrievalConfig(heldout_index="a", **{name: value})


def test_words_that_the_tokenizer_cannot_spell_are_named(run):
    known = run.inputs.heldout[0].question
    assert unknown_words(run.inputs, known) == []
    asked = "Who founded Zürich in Vaznuk?"
    assert unknown_words(run.inputs, asked) == ["Zürich"]


def test_questions_with_unknown_words_are_counted(run, tmp_path, capsys):
    texts = [run.inputs.heldout[0].question, "Who founded Zürich ?", "Is Łódź old?"]
    lines = [
        {"id": f"q{i}", "question": text, "golden_answers": ["b"]}
        for i, text in enumerate(texts)
    ]
    replace_lines(tmp_path / "questions.jsonl", lines)
    data = DataConfig(source=dataset, heldout=str(tmp_path / "questions.jsonl"))
    inputs = load_inputs(dataclasses.replace(run.config, data=data))
    num_questions = len(inputs.questions["search"]) + 3
    assert capsys.readouterr().err.splitlines() == [
        f"2 of {num_questions} questions have words that the tokenizer cannot spell, "
        "such as 'Zürich' in question 'q1'"
    ]
    load_inputs(run.config)
    assert capsys.readouterr().err == ""


@pytest.fixture
def folder(run, tmp_path):
    """The folder of the run, as training begins."""
    config = dataclasses.replace(run.config, out=str(tmp_path / "run"))
    write_record(config, "")
    (tmp_path / "run" / "checkpoints").mkdir()
    return config.out


def test_without_a_question_some_are_suggested(run, folder, capsys):
    heldout = [question.question for question in run.inputs.heldout]
    assert main(["ask", "--model", folder]) == 0
    suggested = capsys.readouterr().out.splitlines()
    assert len(set(suggested)) == 5 and set(suggested) <= set(heldout)
    assert main(["ask", "--model", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"questions": suggested}


def test_a_model_that_is_no_run_has_no_suggestions(tmp_path, capsys):
    assert main(["ask", "--model", str(tmp_path)]) == 2
    assert "so there is no question to suggest: give one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("max_positions", "max_len", "max_observation_len"),
    [(2048, 2048, 682), (32_768, 8704, 2048), (120, 120, 40)],
)
def test_budgets_fit_the_positions_of_a_model(
    run, tmp_path, max_positions, max_len, max_observation_len
):
    policy = run.policy(run.initial_params())
    export(policy, tmp_path / "hf", max_positions=max_positions, dtype="float32")
    rollout = model_config(str(tmp_path / "hf"), RESEARCH).rollout
    assert rollout.max_len == max_len
    assert rollout.max_observation_len == max_observation_len
    assert rollout.max_prompt_len + rollout.max_turn_len == max_len
