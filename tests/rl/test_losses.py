"""Losses against ReSearch's code, by hand, and at positions that do not count."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rl.losses import (
    clipped_policy_loss,
    imitation,
    kl_abs,
    kl_k1,
    kl_k2,
    kl_k3,
    token_log_ratio,
)

CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def log_ratio(logprobs, old_logprobs, loss_mask):
    segments = jnp.ones(loss_mask.shape, jnp.int32)
    return token_log_ratio(logprobs, old_logprobs, loss_mask, segments)


def policy_loss_of(given):
    """Total loss, the clipped positions, and the gradient."""

    def total(logprobs):
        loss_mask = jnp.asarray(given["eos_mask"] > 0)
        losses, is_clipped = clipped_policy_loss(
            log_ratio(logprobs, jnp.asarray(given["old_log_prob"]), loss_mask),
            jnp.asarray(given["advantages"]),
            loss_mask,
            clip_low=given["cliprange"],
            clip_high=given["cliprange"],
        )
        return jnp.sum(losses), is_clipped

    logprobs = jnp.asarray(given["log_prob"])
    value_and_grad = jax.jit(jax.value_and_grad(total, has_aux=True))
    (loss, is_clipped), grad = value_and_grad(logprobs)
    return float(loss), np.asarray(is_clipped), np.asarray(grad)


def test_policy_loss_is_that_of_the_reference(vectors):
    num_empty = 0
    for _, dtype, given, expected, tol in vectors("research_policy_loss"):
        weight = (given["eos_mask"] > 0).sum()
        with jax.enable_x64(dtype == np.float64):
            loss, is_clipped, grad = policy_loss_of(given)
        if weight == 0:
            # The reference divides 0 by 0, so its update is NaN. Here a microbatch
            # without policy tokens adds nothing to the sums of the others.
            assert math.isnan(expected["pg_loss"])
            assert (loss, is_clipped.any(), grad.any()) == (0.0, False, False)
            num_empty += 1
            continue
        np.testing.assert_allclose(loss / weight, expected["pg_loss"], **tol)
        np.testing.assert_allclose(grad / weight, expected["grad_log_prob"], **tol)
        share = is_clipped.sum() / weight
        np.testing.assert_allclose(share, expected["pg_clipfrac"], rtol=1e-6)
    assert num_empty == 1


ESTIMATORS = {"kl": kl_k1, "abs": kl_abs, "mse": kl_k2, "low_var_kl": kl_k3}


def kl_of(given):
    """KL per token and the gradient of its sum."""
    ref_logprobs = jnp.asarray(given["ref_logprob"])
    estimator = ESTIMATORS[given["kl_penalty"]]

    def total(logprobs):
        kl = estimator(logprobs, ref_logprobs, jnp.ones(logprobs.shape, bool))
        return jnp.sum(kl), kl

    logprobs = jnp.asarray(given["logprob"])
    grad, kl = jax.jit(jax.grad(total, has_aux=True))(logprobs)
    return np.asarray(kl), np.asarray(grad)


def test_kl_is_that_of_the_reference(vectors):
    is_clamped = False
    for _, dtype, given, expected, tol in vectors("research_kl_penalty"):
        with jax.enable_x64(dtype == np.float64):
            kl, grad = kl_of(given)
        np.testing.assert_allclose(kl, expected["kl"], **tol)
        np.testing.assert_allclose(grad, expected["grad_logprob"], **tol)
        is_clamped |= (kl == 10.0).any()
    assert is_clamped  # some cases are clamped


def row(*values):
    return jnp.array([values], jnp.float32)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "is_clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.56, True),  # clipped at 1 + 0.28
        (1.25, 2.0, -2.5, False),
        (0.5, 2.0, -1.0, False),  # the lower objective: not clipped
        (0.5, -2.0, 1.6, True),  # clipped at 1 - 0.2
        (1.5, -2.0, 3.0, False),
    ],
)
def test_clipping_by_hand_with_a_bound_each_side(ratio, advantage, loss, is_clipped):
    losses, clipped = clipped_policy_loss(
        row(math.log(ratio)),
        row(advantage),
        jnp.ones((1, 1), bool),
        clip_low=0.2,
        clip_high=0.28,
    )
    np.testing.assert_allclose(losses, [[loss]], rtol=1e-6)
    assert clipped.tolist() == [[is_clipped]]


def test_kl_by_hand():
    """d = log 2: 2 - log 2 - 1. Equal log-probs: 0."""
    kl = kl_k3(row(-1.0, -3.0), row(-1.0 + math.log(2), -3.0), jnp.ones((1, 2), bool))
    np.testing.assert_allclose(kl, [[1 - math.log(2), 0.0]], rtol=1e-6)


@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
def test_what_does_not_count_changes_neither_value_nor_gradient(poison):
    loss_mask = jnp.array([[False, True, False, True]])

    def total(logprobs, old, advantages, reference):
        ratio = log_ratio(logprobs, old, loss_mask)
        losses, _ = clipped_policy_loss(ratio, advantages, loss_mask, **CLIP)
        losses += kl_k3(logprobs, reference, loss_mask)
        return jnp.sum(losses + imitation(logprobs, loss_mask))

    clean = (
        row(-1.0, -2.0, -3.0, -4.0),
        row(-1.1, -2.1, -3.1, -4.1),
        row(1.0, 2.0, 3.0, -4.0),
        row(-1.2, -2.2, -3.2, -4.2),
    )
    poisoned = tuple(jnp.where(loss_mask, x, poison) for x in clean)
    want, want_grad = jax.value_and_grad(total)(*clean)
    got, grad = jax.value_and_grad(total)(*poisoned)
    assert got == want
    np.testing.assert_array_equal(grad, want_grad)
    assert (grad[~loss_mask] == 0.0).all()
    assert (grad[loss_mask] != 0.0).all()


@pytest.mark.parametrize("distance", [150.0, -150.0])
def test_a_ratio_that_overflows_is_clipped_like_any_other(distance):
    """exp(150) is inf in float32; a clipped token has gradient 0, not inf * 0 = NaN."""

    def total(logprobs):
        loss_mask = jnp.ones((1, 1), bool)
        losses, _ = clipped_policy_loss(
            log_ratio(logprobs, row(-200.0), loss_mask),
            row(math.copysign(1.0, distance)),
            loss_mask,
            **CLIP,
        )
        kl = kl_k3(logprobs, row(-200.0), jnp.ones((1, 1), bool))
        kl += kl_k3(-logprobs, row(200.0), jnp.ones((1, 1), bool))
        return jnp.sum(losses + kl)

    loss, grad = jax.value_and_grad(total)(row(-200.0 + distance))
    policy_loss = -1.2 if distance > 0 else 0.8
    np.testing.assert_allclose(loss, policy_loss + 20.0, rtol=1e-6)
    assert grad.tolist() == [[0.0]]
