"""Tests of the advantage estimators."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rl.advantages import group_relative


def test_one_success_in_five_by_hand():
    """Mean 0.2, sample std sqrt((0.64 + 4 * 0.04) / 4) = sqrt(0.2)."""
    rewards = jnp.array([[0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0, 1.0]])
    winner = 0.8 / math.sqrt(0.2)  # 1.79; with the population std it would be 2
    loser = -0.2 / math.sqrt(0.2)
    expected = [[loser, winner, loser, loser, loser]]
    expected.append([-x for x in expected[0]])
    # eps = 1e-6 is small compared with a std of 0.45.
    np.testing.assert_allclose(group_relative(rewards), expected, rtol=5e-6)


def groups_of(cases):
    """Rewards and reference advantages, group by group."""
    for _, dtype, given, expected, tol in cases:
        rewards = given["token_level_rewards"].sum(axis=1)
        # The reference gives every token of a row the row's advantage.
        advantages = expected["advantages"][:, 0]
        for index in np.unique(given["index"]):
            is_member = given["index"] == index
            yield dtype, rewards[is_member], advantages[is_member], given, tol


@pytest.mark.slow
def test_equal_to_the_reference(vectors):
    """Equal except for groups of one (errors here) and equal rewards (0 here).

    In ReSearch's code a group of equal rewards gets rounding noise divided by eps, up
    to 0.06 in float32 for some sizes. Without a signal the policy must not change.
    """
    num_groups = {"same": 0, "one": 0, "other": 0}
    cases = vectors("research_grpo_advantage")
    for dtype, rewards, expected, given, tol in groups_of(cases):
        if len(rewards) == 1:
            with pytest.raises(ValueError, match="at least 2 answers, got 1"):
                group_relative(jnp.asarray(rewards, jnp.float32)[None])
            num_groups["one"] += 1
            continue
        with jax.enable_x64(dtype == np.float64):
            advantages = group_relative(
                jnp.asarray(rewards)[None], eps=float(given["epsilon"])
            )
        advantages = np.asarray(advantages)[0]
        if len(set(rewards.tolist())) == 1:
            assert (advantages == 0.0).all()
            np.testing.assert_allclose(expected, 0.0, atol=tol["atol"])
            num_groups["same"] += 1
        else:
            np.testing.assert_allclose(advantages, expected, **tol)
            num_groups["other"] += 1
    assert all(num_groups.values()), num_groups


@pytest.mark.parametrize("size", [5, 6, 7, 16])
@pytest.mark.parametrize("reward", [0.1, 0.6, 2 / 3, 1e6])
def test_an_equal_group_carries_no_signal_at_all(size, reward):
    """The float32 mean of equal numbers is not always exactly that number."""
    rewards = jnp.full((1, size), reward, jnp.float32)
    assert (group_relative(rewards) == 0.0).all()
    assert (jax.jit(group_relative)(rewards) == 0.0).all()


def test_order_within_a_group_does_not_matter():
    rewards = jnp.array([[0.1, 1.0, 0.0, 0.4]])
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        group_relative(rewards)[:, order],
        group_relative(rewards[:, order]),
        rtol=1e-6,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_is_refused_by_its_group(bad):
    rewards = jnp.array([[0.0, 1.0], [bad, bad], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"must be finite, got .* in group 1"):
        group_relative(rewards)
    # A compiled program cannot raise, so the result is NaN.
    is_nan = jnp.isnan(jax.jit(group_relative)(rewards))
    assert is_nan.tolist() == [[False, False], [True, True], [False, False]]


def test_a_group_is_as_if_those_not_kept_had_never_been():
    rng = np.random.default_rng(0)
    rewards = rng.random((6, 5)).astype(np.float32)
    is_kept = rng.random((6, 5)) < 0.7
    is_kept[:2] = [[True] * 5, [True, False, True, False, False]]
    advantages = np.asarray(group_relative(jnp.asarray(rewards), jnp.asarray(is_kept)))
    for got, row, is_here in zip(advantages, rewards, is_kept, strict=True):
        assert (got[~is_here] == 0.0).all()
        alone = group_relative(jnp.asarray(row[is_here])[None])[0]
        np.testing.assert_allclose(got[is_here], alone, rtol=1e-5)
    assert len(set(is_kept.sum(axis=1).tolist())) > 2


def test_a_reward_that_is_not_kept_moves_no_baseline_by_hand():
    """1, 0 and a dropped 0: mean 1/2, sample std sqrt(1/2), not 1/3, sqrt(1/3)."""
    rewards = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    is_kept = jnp.array([[True, True, False], [True, False, False], [False] * 3])
    side = 0.5 / math.sqrt(0.5)
    expected = [[side, -side, 0.0], [0.0] * 3, [0.0] * 3]
    for function in (group_relative, jax.jit(group_relative)):
        advantages = np.asarray(function(rewards, is_kept))
        np.testing.assert_allclose(advantages, expected, rtol=5e-6)
        assert (advantages[1:] == 0.0).all()  # one answer left, or none: no signal


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_kept_may_be_anything(bad):
    rewards = jnp.array([[0.0, 1.0, bad], [bad, bad, 0.5], [bad, bad, bad]])
    is_kept = jnp.isfinite(rewards)
    clean = jnp.where(is_kept, rewards, 7.0)
    for function in (group_relative, jax.jit(group_relative)):
        np.testing.assert_array_equal(
            function(rewards, is_kept), function(clean, is_kept)
        )
    with pytest.raises(ValueError, match=r"must be finite, got .* in group 1"):
        group_relative(rewards, is_kept.at[1, 0].set(True))
