"""Whole objectives against ReSearch's actor, and their metrics."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rl.batching import TrainBatch
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rl.objectives import ImitationObjective, Objective, PolicyObjective


def batch_of(loss_mask, *, old_logprobs=0.0, advantages=0.0):
    shape = loss_mask.shape
    return TrainBatch(
        tokens=jnp.zeros(shape, jnp.int32),
        segments=jnp.ones(shape, jnp.int32),
        loss_mask=jnp.asarray(loss_mask),
        behavior_logprobs=jnp.zeros(shape, jnp.float32),
        sampling_logprobs=jnp.zeros(shape, jnp.float32),
        old_logprobs=jnp.broadcast_to(jnp.asarray(old_logprobs, jnp.float32), shape),
        advantages=jnp.broadcast_to(jnp.asarray(advantages, jnp.float32), shape),
        weights=jnp.ones(shape, jnp.float32),
    )


def actor_loss(logits, given):
    """Mean loss and metrics; the head is the identity, so that hidden = logits."""

    def shifted(name):  # a response's first token stands at position 1 of our row
        return jnp.pad(jnp.asarray(given[name], jnp.float32), ((0, 0), (1, 0)))

    assert given["kl_loss_type"] == "low_var_kl"
    objective = PolicyObjective(
        clip_low=given["clip_ratio"],
        clip_high=given["clip_ratio"],
        kl_weight=given["kl_loss_coef"],
        entropy_weight=given["entropy_coeff"],
    )
    batch = batch_of(
        shifted("loss_mask") > 0,
        old_logprobs=shifted("old_log_probs"),
        advantages=shifted("advantages"),
    )
    logprobs, entropy = policy_logprobs(
        jnp.pad(logits, ((0, 0), (0, 1), (0, 0))),
        jnp.eye(logits.shape[-1]),
        shifted("responses").astype(jnp.int32),
        batch.loss_mask,
        jnp.float32(given["temperature"]),
    )
    losses, metrics = objective(logprobs, entropy, shifted("ref_log_prob"), batch)
    return jnp.sum(losses) / jnp.sum(batch.loss_mask), metrics


@pytest.mark.slow
def test_actor_loss_from_logits_to_gradient_is_that_of_the_reference(vectors):
    """Covers temperature, log-probs, clip, entropy bonus, KL and token mean.

    ReSearch multiplies a microbatch's mean by its share of the minibatch's rows; that
    factor is removed, because totals are divided once here. Its float64 cases have
    float32's tolerance, because the softmax is in float32 here.
    """
    for _, _, given, expected, _ in vectors("research_actor_loss"):
        logits = jnp.asarray(given["logits"], jnp.float32)
        scored = functools.partial(actor_loss, given=given)
        (loss, metrics), grad = jax.jit(jax.value_and_grad(scored, has_aux=True))(
            logits
        )
        share = len(given["logits"]) / given["ppo_mini_batch_size"]
        for got, want in (
            (loss, expected["loss"] / share),
            (grad, expected["grad_logits"] / share),
            (metrics["clip_fraction"].value, expected["pg_clipfrac"]),
            (metrics["entropy"].value, expected["entropy_loss"]),
            (metrics["kl"].value, expected["kl_loss"]),
        ):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_metrics_count_policy_tokens_only():
    """Two of four tokens count: ratios 1 and 2 with advantage 1, clip at 1.2."""
    loss_mask = np.array([[False, True, True, False]])
    batch = batch_of(loss_mask, old_logprobs=-2.0, advantages=1.0)
    logprobs = jnp.array([[9.0, -2.0, -2.0 + math.log(2), 9.0]])
    entropy = jnp.array([[0.0, 1.0, 2.0, 0.0]])
    objective = PolicyObjective(kl_weight=0.0, entropy_weight=0.5)
    losses, metrics = objective(logprobs, entropy, jnp.zeros((1, 4)), batch)
    # -1 - 0.5 * 1 and -1.2 - 0.5 * 2: more entropy is less loss
    np.testing.assert_allclose(losses, [[0.0, -1.5, -2.2, 0.0]], rtol=1e-6)
    assert metrics["clip_fraction"].value == 0.5
    assert metrics["entropy"].value == 1.5
    np.testing.assert_allclose(metrics["logprob_drift/mean"].value, math.log(2) / 2)
    np.testing.assert_allclose(metrics["logprob_drift/max"].value, math.log(2))
    assert "kl" not in metrics  # the reference was not computed


def test_a_reference_is_needed_for_kl_only():
    assert PolicyObjective(kl_weight=0.1).needs_reference
    assert not PolicyObjective(kl_weight=0.0).needs_reference
    assert not ImitationObjective().needs_reference
    assert isinstance(ImitationObjective(), Objective)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clip_low", 0.0),
        ("clip_low", 1.0),
        ("clip_high", -0.1),
        ("kl_weight", -0.1),
        ("entropy_weight", -0.1),
    ],
)
def test_values_that_cannot_be_are_refused_with_the_value(name, value):
    with pytest.raises(ValueError, match=rf"{name}.*got .*{value}"):
        PolicyObjective(**{name: value})
