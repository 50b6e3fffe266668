"""A run whose rollouts use several devices, and invalid settings."""

import dataclasses

import numpy as np
import pytest

from jaxsearch.bench.measurement import compilations
from jaxsearch.run.build import open_run
from tests.tiny import tiny_config


def opened(folder, **rollout):
    config = tiny_config(folder)
    rollout = dataclasses.replace(config.rollout, **rollout)
    return open_run(dataclasses.replace(config, rollout=rollout))


def rolled_out(run):
    rollout_params = run.rollout_params(run.initial_params())
    questions = list(enumerate(run.inputs.heldout[:4]))
    done, _ = run.sampler.run(
        rollout_params,
        questions,
        run.environments.heldout,
        group_size=2,
        stage=0,
        temperature=1.0,
    )
    return done


@pytest.mark.long
def test_a_run_samples_the_same_on_one_device_and_on_two(tmp_path):
    one, two = (opened(tmp_path / str(n), replicas=n) for n in (1, 2))
    assert len(opened(tmp_path / "all", replicas=None).replicas) == 8
    for a, b in zip(rolled_out(one), rolled_out(two), strict=True):
        assert (a.prompt_index, a.sample_index, a.status) == (
            b.prompt_index,
            b.sample_index,
            b.status,
        )
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"tensor": 3, "replicas": None}, "rollout.tensor 3 does not divide the 8"),
        ({"tensor": 2, "replicas": 5}, "rollout.replicas 5 x .* needs 10 devices"),
        ({"tensor": 2}, "rollout.tensor 2 does not fit: .*key.* of size 1 is not"),
        ({"tensor": 0}, "tensor must be at least 1, got 0"),
        ({"replicas": 0}, "replicas must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_compiles(tmp_path, rollout, message):
    with compilations() as compiled, pytest.raises(ValueError, match=message):
        opened(tmp_path, **rollout)
    assert not compiled and not list(tmp_path.iterdir())
