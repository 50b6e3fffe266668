"""Log-probs of the trainer, through the API."""

import dataclasses

import numpy as np
import pytest

import jaxsearch
from tests.api.conftest import ONE_HOP, TWO_HOPS


@pytest.fixture(scope="module")
def trajectories(policy, retriever):
    return jaxsearch.rollout(
        policy, [TWO_HOPS, ONE_HOP], retriever=retriever, group_size=3
    )


def agree(policy, trajectories, **settings):
    """Checks that sampler and trainer give the sampled tokens equal log-probs."""
    found = jaxsearch.logprobs(policy, trajectories, **settings)
    for one, logprobs in zip(trajectories, found, strict=True):
        assert logprobs.shape == one.tokens.shape
        expected = np.where(one.is_policy, one.logprobs, 0)
        np.testing.assert_allclose(logprobs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_trainer_agrees_with_the_sampler(policy, trajectories):
    # The rows are not in the order of their lengths.
    assert len(trajectories[0].tokens) > len(trajectories[-1].tokens)
    agree(policy, trajectories)


@pytest.mark.slow
def test_on_two_devices_and_in_packed_rows(policy, trajectories):
    model = dataclasses.replace(policy.config.model, pack_sequences=True)
    config = dataclasses.replace(policy.config, model=model)
    packed = dataclasses.replace(policy, config=config)
    agree(jaxsearch.shard(packed, jaxsearch.MeshShape(fsdp=2)), trajectories)


@pytest.mark.slow
def test_another_temperature_gives_others(policy, trajectories):
    with pytest.raises(AssertionError, match="Mismatched elements"):
        agree(policy, trajectories, temperature=0.5)
    assert jaxsearch.logprobs(policy, []) == []
