"""Rollouts through a model server against those of our own sampler, greedy."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.served.client import ServerSettings
from jaxsearch.trajectory import Status
from tests.served.conftest import same
from tests.served.model_server import model_server


def rolled_out(sampler, kit, questions, *, params=None, environment=None, **options):
    settings = {"group_size": 1, "stage": 2, "temperature": 0.0} | options
    environment = environment or kit.environment()
    return sampler.run(params, questions, environment, **settings)[0]


@pytest.fixture(scope="module")
def params(kit, greedy_params):
    return jax.jit(kit.transformer.for_rollouts)(greedy_params)


@pytest.fixture(scope="module")
def expected(kit, sampler, questions, params):
    return rolled_out(sampler, kit, questions, params=params)


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["stop_reason", "matched_stop", ""])
def test_ids_are_those_of_our_sampler(
    kit, questions, random_model, served, expected, reason
):
    """With the surplus behind tags, and however the server says where it stopped."""
    surplus = [kit.tokenizer.decode([i]) for i in range(16)].index(" gone")
    assert any(surplus in t.tokens[t.is_policy] for t in expected)
    with model_server(random_model, reason=reason) as (url, ways):
        done = rolled_out(served(url), kit, questions)
    same(done, expected)
    assert not any(one.is_encoded_again for one in done)
    [turn, *_] = ways.bodies
    assert turn["stop"] == ["go"] and turn["skip_special_tokens"] is False
    assert turn["include_stop_str_in_output"] and turn["no_stop_trim"]
    assert all(isinstance(one, int) for one in turn["prompt"])


@pytest.mark.slow
def test_nothing_is_kept_of_what_is_handed_over(
    kit, questions, random_model, served, sampler, params, expected
):
    """Trajectories of tens of thousands of questions are gigabytes."""
    with model_server(random_model) as (url, _):
        for one in (sampler, served(url)):
            found = []
            options = {"params": params, "on_finished": found.append}
            assert rolled_out(one, kit, questions, **options) == []
            same(sorted(found, key=lambda t: t.prompt_index), expected)


@pytest.mark.slow
def test_budgets_are_those_of_our_sampler(
    kit, questions, random_model, served, tight_sampler, params
):
    """Turns of five tokens, rows of 32, nine searches: most budgets run out."""
    expected = rolled_out(tight_sampler, kit, questions, params=params)
    assert len({t.status for t in expected}) > 1
    limits = {key: kit.tight[key] for key in ("max_turn_len", "max_len", "max_calls")}
    with model_server(random_model) as (url, ways):
        same(rolled_out(served(url, **limits), kit, questions), expected)
    assert max(body["max_tokens"] for body in ways.bodies) == 5
    assert min(body["max_tokens"] for body in ways.bodies) < 5


def test_the_last_search_is_that_of_our_sampler(
    kit, questions, random_model, served, params
):
    expected = rolled_out(kit.sampler(16, max_calls=1), kit, questions, params=params)
    assert any(t.status is Status.OUT_OF_CALLS for t in expected)
    with model_server(random_model) as (url, _):
        same(rolled_out(served(url, max_calls=1), kit, questions), expected)


@pytest.mark.slow
def test_a_server_that_ignores_stop_is_cut_at_the_tag(
    kit, questions, random_model, served, expected
):
    notes = []
    with model_server(random_model, heeds_stop=False) as (url, _):
        same(rolled_out(served(url, notes=notes), kit, questions), expected)
    [note] = notes
    assert "ignored `stop`" in note


def test_logprobs_are_those_of_the_server(
    kit, questions, random_model, served, expected
):
    with model_server(random_model) as (url, _):
        asked = rolled_out(served(url, fields={"logprobs": True}), kit, questions)
        unasked = rolled_out(served(url), kit, questions[:1])
    for one, other in zip(asked, expected, strict=True):
        own = one.is_policy
        np.testing.assert_allclose(one.logprobs[own], other.logprobs[own], atol=1e-4)
    assert np.isnan(unasked[0].logprobs).all()


def test_samples_have_numbers_and_seeds(kit, questions, random_model, served):
    with model_server(random_model) as (url, ways):
        done = rolled_out(
            served(url),
            kit,
            questions[:2],
            group_size=3,
            first_sample=4,
            temperature=0.5,
        )
    assert [(t.prompt_index, t.sample_index) for t in done] == [
        (p, s) for p in (40, 41) for s in (4, 5, 6)
    ]
    seeds = [body["seed"] for body in ways.bodies]
    assert len(set(seeds)) == len(seeds)
    assert {body["temperature"] for body in ways.bodies} == {0.5}


def test_an_environment_that_fails_ends_the_run(kit, questions, random_model, served):
    class Broken(type(kit.environment().environment)):
        def step(self, turns):
            raise ZeroDivisionError

    whole = kit.environment()
    broken = Broken(**{f: vars(whole.environment)[f] for f in SEARCH_FIELDS})
    environment = dataclasses.replace(whole, environment=broken)
    with (
        model_server(random_model) as (url, _),
        pytest.raises(ZeroDivisionError),
    ):
        rolled_out(served(url), kit, questions, environment=environment)


SEARCH_FIELDS = (
    *("retriever", "protocol", "num_passages", "on_search_failure", "has_reminder"),
)


def test_top_k_is_refused_where_the_server_does_not_take_it(kit, questions, served):
    """It has no effect on greedy answers, which are asked for."""
    fields = {"truncation": TopKTopP(top_k=5), "has_extras": False}
    sampler = served("http://127.0.0.1:9/v1", fields=fields)
    with pytest.raises(ValueError, match="the field top_k, .* rollout.top_k 5;"):
        rolled_out(sampler, kit, questions[:1], temperature=1.0)
    settings = ServerSettings(attempts=1)
    sampler = served("http://127.0.0.1:9/v1", fields=fields, settings=settings)
    [one] = rolled_out(sampler, kit, questions[:1])
    assert one.status is Status.MODEL_FAILED
