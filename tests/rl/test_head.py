"""The chunked head against full logits: values, unread inputs, array sizes."""

import functools
import math

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsearch.rl import head_chunks
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rl.head_sharding import HeadSharding

M, T, D, V = 3, 13, 8, 17
AXES = (AxisType.Auto,) * 3


def full_logprobs(hidden, head, tokens, loss_mask, temperature):
    """The same by a softmax over all positions, differentiated by autodiff."""
    logps = jax.nn.log_softmax(hidden[:, :-1] @ head.T / temperature, axis=-1)
    chosen = jnp.take_along_axis(logps, tokens[:, 1:, None], axis=-1)[..., 0]
    entropy = -jnp.sum(jnp.exp(logps) * logps, axis=-1)
    pad = ((0, 0), (1, 0))
    return tuple(jnp.where(loss_mask, jnp.pad(x, pad), 0.0) for x in (chosen, entropy))


def inputs(seed, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), 4)
    return (
        jax.random.normal(keys[0], (M, T, D), dtype),
        jax.random.normal(keys[1], (V, D), dtype),
        jax.random.randint(keys[2], (M, T), 0, V),
        jax.random.uniform(keys[3], (2, M, T)),  # weights of the scalar
    )


def value_and_grads(function, hidden, head, tokens, loss_mask, temperature, weights):
    """A scalar computed from both outputs, its gradients, and the outputs."""

    @jax.jit
    def scalar(hidden, head):
        outputs = function(hidden, head, tokens, loss_mask, jnp.float32(temperature))
        return sum(
            jnp.sum(w * x) for w, x in zip(weights, outputs, strict=True)
        ), outputs

    return jax.grad(scalar, argnums=(0, 1), has_aux=True)(hidden, head)


def mask(kind):
    loss_mask = np.random.default_rng(7).random((M, T)) < 0.4
    if kind == "all":
        loss_mask[:] = True
    if kind == "none":
        loss_mask[:] = False
    if kind == "one row without":  # and one of a single token, the last
        loss_mask[0] = False
        loss_mask[1] = np.arange(T) == T - 1
    loss_mask[:, 0] = False
    return jnp.asarray(loss_mask)


# Chunk sizes for 36 positions: 2, 15 (3 chunks, the last one short), 12, 36.
@pytest.mark.parametrize(
    ("kind", "chunk", "temperature"),
    [
        ("random", 2, 1.0),
        ("random", 15, 0.6),
        ("all", 15, 1.7),
        ("all", 2048, 0.9),
        ("one row without", 12, 1.0),
        ("none", 15, 1.0),
    ],
)
def test_values_and_gradients_are_those_of_full_logits(
    monkeypatch, kind, chunk, temperature
):
    monkeypatch.setattr(head_chunks, "_CHUNK_POSITIONS", chunk)
    hidden, head, tokens, weights = inputs(1)
    args = (hidden, head, tokens, mask(kind), temperature, weights)
    grads, outputs = value_and_grads(policy_logprobs, *args)
    expected_grads, expected = value_and_grads(full_logprobs, *args)
    for got, want in zip(outputs + grads, expected + expected_grads, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("chunk", [5, 2048])
def test_devices_that_share_rows_and_vocabulary_give_the_same(monkeypatch, chunk):
    """Rows sharded over two axes, the vocabulary over a third, and the stored width."""
    monkeypatch.setattr(head_chunks, "_CHUNK_POSITIONS", chunk)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), AXES)
    place = functools.partial(NamedSharding, mesh)
    places = HeadSharding(
        rows=place(P(("data", "fsdp"))), head=place(P("tensor", "fsdp"))
    )
    keys = jax.random.split(jax.random.key(5), 4)
    # One device's rows are all policy tokens; another device's rows have none.
    loss_mask = np.random.default_rng(3).random((8, T)) < 0.4
    loss_mask[:2], loss_mask[2:4], loss_mask[:, 0] = True, False, False
    args = (
        jax.random.normal(keys[0], (8, T, D)),
        jax.random.normal(keys[1], (24, D)),
        jax.random.randint(keys[2], (8, T), 0, 24),
        jnp.asarray(loss_mask),
        0.7,
        jax.random.uniform(keys[3], (2, 8, T)),
    )
    spread = functools.partial(policy_logprobs, head_sharding=places)
    grads, outputs = value_and_grads(spread, *args)
    expected_grads, expected = value_and_grads(full_logprobs, *args)
    for got, want in zip(outputs + grads, expected + expected_grads, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
    assert grads[1].sharding.is_equivalent_to(places.head, 2)


def test_entropy_gradient_alone_is_that_of_full_logits(monkeypatch):
    monkeypatch.setattr(head_chunks, "_CHUNK_POSITIONS", 15)
    hidden, head, tokens, weights = inputs(2)
    weights = weights.at[0].set(0.0)
    args = (hidden, head, tokens, mask("random"), 0.8, weights)
    grads, _ = value_and_grads(policy_logprobs, *args)
    expected, _ = value_and_grads(full_logprobs, *args)
    assert jnp.abs(grads[0]).max() > 0.01
    for got, want in zip(grads, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


def test_even_choice_by_hand():
    """A uniform policy: log p = -log V and entropy log V at any temperature."""
    logprobs, entropy = policy_logprobs(
        jnp.zeros((1, 2, D)),
        jnp.ones((V, D)),
        jnp.array([[3, 5]]),
        jnp.array([[False, True]]),
        jnp.float32(0.3),
    )
    np.testing.assert_allclose(logprobs, [[0.0, -math.log(V)]], rtol=1e-6)
    np.testing.assert_allclose(entropy, [[0.0, math.log(V)]], rtol=1e-6)


def test_positions_that_do_not_count_are_not_read():
    """NaN before retrieved tokens reaches neither values nor gradients."""
    hidden, head, tokens, weights = inputs(3)
    loss_mask = mask("random")
    is_read = jnp.pad(loss_mask[:, 1:], ((0, 0), (0, 1)))
    poisoned = jnp.where(is_read[..., None], hidden, jnp.nan)
    args = (head, tokens, loss_mask, 1.0, weights)
    grads, outputs = value_and_grads(policy_logprobs, poisoned, *args)
    clean_grads, clean = value_and_grads(policy_logprobs, hidden, *args)
    for got, want in zip(outputs + grads, clean + clean_grads, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtypes", [("bfloat16", "bfloat16"), ("bfloat16", "float32")])
def test_gradients_have_the_dtype_of_what_they_belong_to(dtypes):
    hidden, head, tokens, weights = inputs(4)
    hidden, head = hidden.astype(dtypes[0]), head.astype(dtypes[1])
    args = (tokens, mask("random"), 1.0, weights)
    grads, outputs = value_and_grads(policy_logprobs, hidden, head, *args)
    assert [str(x.dtype) for x in grads] == [*dtypes]
    assert [str(x.dtype) for x in outputs] == ["float32", "float32"]
    wide = (hidden.astype(jnp.float32), head.astype(jnp.float32))
    expected, expected_outputs = value_and_grads(full_logprobs, *wide, *args)
    # Products of bfloat16 numbers are exact in float32, so values are as precise.
    for got, want in zip(outputs, expected_outputs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    # Gradients of the logits are rounded to 8 bits once, and results once more.
    for got, want in zip(grads, expected, strict=True):
        error = jnp.linalg.norm((got - want).ravel()) / jnp.linalg.norm(want.ravel())
        assert error < 0.01


def largest_array(function, *args):
    """Number of elements of the largest value computed by the program."""

    def largest(jaxpr):
        sizes = [math.prod(v.aval.shape) for e in jaxpr.eqns for v in e.outvars]
        inner = [
            largest(sub)
            for e in jaxpr.eqns
            for sub in jax.extend.core.jaxprs_in_params(e.params)
        ]
        return max(sizes + inner, default=0)

    return largest(jax.make_jaxpr(function)(*args).jaxpr)


def test_nothing_of_all_positions_times_vocabulary_exists(monkeypatch):
    monkeypatch.setattr(head_chunks, "_CHUNK_POSITIONS", 8)
    rows, row_len, width, vocab = 2, 32, 4, 64
    hidden, head = jnp.ones((rows, row_len, width)), jnp.ones((vocab, width))
    tokens = jnp.ones((rows, row_len), jnp.int32)
    loss_mask = tokens.at[:, 0].set(0) > 0

    def gradient(function):
        def scalar(hidden, head):
            return sum(
                jnp.sum(x)
                for x in function(hidden, head, tokens, loss_mask, jnp.float32(1.0))
            )

        return jax.grad(scalar, argnums=(0, 1))

    full = rows * (row_len - 1) * vocab
    assert largest_array(gradient(full_logprobs), hidden, head) >= full
    # Only the logits of one chunk.
    assert largest_array(gradient(policy_logprobs), hidden, head) == 8 * vocab


def test_a_row_of_one_position_is_refused():
    with pytest.raises(ValueError, match="at least 2 positions, got 1"):
        policy_logprobs(
            jnp.zeros((1, 1, D)),
            jnp.zeros((V, D)),
            jnp.zeros((1, 1), jnp.int32),
            jnp.zeros((1, 1), bool),
            jnp.float32(1.0),
        )


def mean_entropy(logits, given):
    """ReSearch's entropy loss; the head is the identity, so that hidden = logits."""
    pad = ((0, 0), (1, 0))
    is_target = jnp.asarray(given["eos_mask"] > 0)
    logprobs, entropy = policy_logprobs(
        jnp.pad(logits, ((0, 0), (0, 1), (0, 0))),
        jnp.eye(logits.shape[-1]),
        jnp.pad(jnp.asarray(given["labels"], jnp.int32), pad),
        jnp.pad(is_target, pad),
        jnp.float32(1.0),
    )
    return jnp.sum(entropy) / is_target.sum(), (logprobs[:, 1:], entropy[:, 1:])


def test_equal_to_the_reference(vectors):
    """ReSearch's log-probs, entropy, mean entropy and its gradient.

    The reference is in float64 and the head in float32; 2e-6 is its rounding error.
    """
    for _, _, given, expected, _ in vectors("research_entropy_and_logprob"):
        is_target = given["eos_mask"] > 0
        logits = jnp.asarray(given["logits"], jnp.float32)
        scored = functools.partial(mean_entropy, given=given)
        (loss, (logprobs, entropy)), grad = jax.jit(
            jax.value_and_grad(scored, has_aux=True)
        )(logits)
        for got, want in (
            (logprobs, np.where(is_target, expected["log_prob"], 0.0)),
            (entropy, np.where(is_target, expected["entropy"], 0.0)),
            (loss, expected["entropy_loss"]),
            (grad, expected["grad_logits_entropy_loss"]),
        ):
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)
