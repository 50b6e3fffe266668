"""The packaged policy behind a model server against the same policy here."""

import dataclasses

import numpy as np
import pytest

import jaxsearch
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE
from jaxsearch.json_lines import replace_lines
from jaxsearch.rewards.judge import judge
from jaxsearch.rewards.tasks import task_named
from jaxsearch.run.loading import open_anywhere
from jaxsearch.run.model_config import model_config
from jaxsearch.run.options import RunOptions, with_options
from jaxsearch.search.indexes import build_index
from jaxsearch.search.tfidf_encoder import TfidfEncoder
from jaxsearch.served.model import ServedModel, served_config
from jaxsearch.served.run import open_served
from jaxsearch.trajectory import Status
from tests.served.conftest import same
from tests.served.model_server import GreedyModel, model_server
from tests.tiny import worlds

POLICY = "jaxsearch:quickstart"
MAX_LEN = 120  # positions of the packaged policy
NUM_QUESTIONS = 16


@pytest.fixture(scope="module")
def choices(tmp_path_factory):
    """Questions of an invented world, and an index of its passages."""
    folder = tmp_path_factory.mktemp("world")
    world, *_ = worlds(0)
    replace_lines(
        folder / "questions.jsonl",
        [
            {
                "id": one.id,
                "question": one.question,
                "golden_answers": list(one.golden_answers),
                "metadata": dict(one.metadata),
            }
            for one in world.questions[:NUM_QUESTIONS]
        ],
    )
    encoder = TfidfEncoder.fit(world.passages, dims=256)
    build_index(world.passages, encoder).save(folder / "index")
    return {
        "task": "quickstart",
        "questions": str(folder / "questions.jsonl"),
        "index": str(folder / "index"),
        "limit": 0,
    }


@pytest.fixture(scope="module")
def model():
    policy = jaxsearch.load_policy(POLICY)
    tokenizer = policy.tokenizer
    return GreedyModel(
        policy.transformer,
        policy.params,
        tokenizer,
        MAX_LEN,
        num_ids=tokenizer.num_ids,
    )


def chosen_config(config, choices):
    """The config with the choices."""
    asked = (choices["questions"],)
    return with_options(config, RunOptions(**choices | {"questions": asked}))


def on_one_device(config):
    """The config with one replica, on one of the eight virtual devices."""
    rollout = dataclasses.replace(config.rollout, replicas=1)
    return dataclasses.replace(config, rollout=rollout)


def with_one_passage(config, choices):
    """The config with the choices; the packaged policy reads one passage."""
    config = chosen_config(config, choices)
    retrieval = dataclasses.replace(config.retrieval, num_passages=1)
    return dataclasses.replace(config, retrieval=retrieval)


def local(choices):
    """The policy of this process, and its rollouts."""
    config = model_config(POLICY, task_named(choices["task"]))
    run = open_anywhere(on_one_device(with_one_passage(config, choices)))
    return rolled_out(run, run.rollout_params(run.initial_params()))


def served(url, choices):
    """The policy behind a server."""
    model = ServedModel(url=url, tokenizer=POLICY)
    config = served_config(model, choices["task"])
    return open_served(model, with_one_passage(config, choices))


def rolled_out(run, params=None):
    done, _ = run.sampler.run(
        params,
        list(enumerate(run.inputs.heldout)),
        run.environments.heldout,
        group_size=1,
        stage=EVALUATION_STAGE,
        temperature=0.0,
    )
    return done


@pytest.fixture(scope="module")
def expected(choices):
    done = local(choices)
    assert sum(len(one.searches) for one in done) >= NUM_QUESTIONS
    return done


def em(trajectories, task):
    return [score["em"] for score in judge(trajectories, task).scores]


@pytest.mark.slow
def test_the_same_rollouts_and_the_same_table(choices, model, expected, capfd):
    with model_server(model, max_model_len=MAX_LEN) as (url, _):
        run = served(url, choices)
        done = rolled_out(run)
    same(done, expected)
    assert run.name == "policy" and run.has_ids
    assert not any(one.is_encoded_again for one in done)
    assert np.mean(em(done, run.task)) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "ways", [{}, {"reason": "", "keeps_stop": False}, {"knows_extras": False}]
)
def test_texts_alone_give_the_same_answers(choices, model, expected, capfd, ways):
    """With the tags, and without them and without a word about what was cut off."""
    with model_server(model, keeps_ids=False, max_model_len=MAX_LEN, **ways) as (
        url,
        _,
    ):
        run = served(url, choices)
        done = rolled_out(run)
    assert not run.has_ids
    assert all(one.is_encoded_again for one in done)
    assert em(done, run.task) == em(expected, run.task)
    assert [one.status for one in done] == [one.status for one in expected]


def test_a_model_of_fewer_tokens_has_smaller_budgets(choices, model, capfd):
    with model_server(model, max_model_len=80) as (url, _):
        run = served(url, choices | {"max_searches": 3})
        done = rolled_out(run)
    assert run.config.rollout.max_searches == 3
    assert max(len(one.tokens) for one in done) <= 80
    assert "takes at most 80 tokens" in capfd.readouterr().err


@pytest.mark.slow
def test_a_first_search_is_the_same_here_and_there(choices, model, capfd):
    # A prompt ends with its first search; the longest do not fit.
    own = {"task": "tests.served.tasks:READ_FIRST", "drop_long_prompts": True}
    choices = choices | own | {"limit": 6}
    expected = local(choices)
    with model_server(model, max_model_len=MAX_LEN) as (url, _):
        same(rolled_out(served(url, choices)), expected)
    for one in expected:
        assert one.searches[0].query == one.question
        assert not one.segments[0].is_policy and one.status is Status.ANSWERED
