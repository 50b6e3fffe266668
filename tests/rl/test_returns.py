"""Tests of returns, whitening and importance weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rl.losses import clipped_policy_loss, sequence_log_ratio
from jaxsearch.rl.returns import discounted_returns, importance, whitened


def row(*values, dtype=jnp.float32):
    return jnp.array([values], dtype)


def test_returns_pass_over_observations_and_stop_at_the_end_of_a_rollout():
    """Two rollouts share a row; a reward at an observation is not used."""
    found = discounted_returns(
        row(0.0, 1.0, 9.0, 2.0, 0.0, 4.0, 0.0),
        row(0, 1, 0, 1, 0, 1, 0, dtype=bool),
        row(1, 1, 1, 1, 2, 2, 0, dtype=jnp.int32),
        gamma=0.5,
    )
    np.testing.assert_array_equal(found, row(0.0, 2.0, 0.0, 2.0, 0.0, 4.0, 0.0))


def test_normalisation_is_over_all_microbatches_and_policy_tokens_alone():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, (6, 8)).astype(np.float32)
    mask = rng.random((6, 8)) < 0.5
    values[~mask] = np.nan
    parts = [jnp.asarray(values[:2]), jnp.asarray(values[2:])]
    masks = [jnp.asarray(mask[:2]), jnp.asarray(mask[2:])]
    found = np.concatenate(whitened(parts, masks))
    counted = values[mask].astype(np.float64)
    wanted = (counted - counted.mean()) / counted.std()
    np.testing.assert_allclose(found[mask], wanted, rtol=1e-5, atol=1e-6)
    assert (found[~mask] == 0.0).all()


def test_equal_values_become_zero():
    [found] = whitened([jnp.full((2, 3), 0.1)], [jnp.ones((2, 3), bool)])
    np.testing.assert_allclose(found, 0.0, atol=1e-3)


def test_importance_by_hand():
    found = importance(
        jnp.log(row(0.5, 0.9, 0.1, 0.5)),
        jnp.log(row(0.25, 0.1, 0.2, 0.0)),
        row(1, 1, 1, 0, dtype=bool),
        max_weight=3.0,
    )
    np.testing.assert_allclose(found, row(2.0, 3.0, 0.5, 1.0), rtol=1e-6)


def test_a_sequences_ratio_is_its_own_geometric_mean():
    """This also holds if two rollouts share a row."""
    found = sequence_log_ratio(
        row(-1.0, -2.0, -3.0, -1.0, -5.0),
        row(-2.0, -2.0, -1.0, -4.0, jnp.nan),
        row(1, 1, 0, 1, 0, dtype=bool),
        row(1, 1, 1, 2, 0, dtype=jnp.int32),
    )
    np.testing.assert_allclose(found, row(0.5, 0.5, 0.0, 3.0, 0.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [(5.0, -1.0, 3.0), (2.0, -1.0, 2.0), (5.0, 1.0, -1.2)],
)
def test_dual_clip_by_hand(ratio, advantage, loss):
    losses, _ = clipped_policy_loss(
        jnp.log(row(ratio)),
        row(advantage),
        row(1, dtype=bool),
        clip_low=0.2,
        clip_high=0.2,
        max_ratio=3.0,
    )
    np.testing.assert_allclose(losses, row(loss), rtol=1e-6)
