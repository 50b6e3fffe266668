"""A policy with random weights, and one that searches, both behind model servers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.served.client import ModelClient, ServerSettings
from jaxsearch.served.completions import RequestFields
from jaxsearch.served.sampler import ServedSampler
from tests.rollouts.conftest import LIMITS, kit, questions, sampler, tight_sampler
from tests.served.model_server import GreedyModel

__all__ = ["kit", "questions", "sampler", "tight_sampler"]


@pytest.fixture(scope="session")
def greedy_params(kit):
    """Large random weights, with which greedy rows search, end and run out."""
    rng = np.random.default_rng(5)
    return jax.tree.map(
        lambda x: jnp.asarray(0.7 * rng.normal(size=x.shape), x.dtype),
        kit.transformer.shapes,
    )


@pytest.fixture(scope="session")
def random_model(kit, greedy_params):
    """Samples an id beyond the tokenizer's too, as the sampler of the kit does."""
    return model_of(kit, greedy_params, kit.transformer.architecture.vocab_size)


@pytest.fixture(scope="session")
def known_model(kit, greedy_params):
    """The same, without that id."""
    return model_of(kit, greedy_params, kit.tokenizer.num_ids)


def model_of(kit, params, num_ids):
    return GreedyModel(
        kit.transformer, params, kit.tokenizer, LIMITS["max_len"], num_ids
    )


@pytest.fixture
def served(kit):
    """Makes a sampler over a server of the policy with random weights."""

    def make(url, *, notes=None, settings=None, protocol=None, fields=None, **budgets):
        return ServedSampler(
            ModelClient(url, settings or ServerSettings(concurrency=8)),
            RequestFields(
                model="policy", stop=kit.protocol.stop_tags, **(fields or {})
            ),
            Budgets(num_slots=1, **(LIMITS | budgets)),
            protocol or kit.protocol,
            kit.tokenizer,
            seed=7,
            note=[].append if notes is None else notes.append,
        )

    return make


def same(found, expected):
    """Checks that two lists of trajectories are equal but for their log-probs."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.prompt_index, one.sample_index) == (
            other.prompt_index,
            other.sample_index,
        )
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.is_policy, other.is_policy)
        assert one.segments == other.segments
        assert one.status is other.status
        assert one.tool_calls == other.tool_calls
