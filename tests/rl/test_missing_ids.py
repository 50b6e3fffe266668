"""Embedding rows without a token have probability 0 in training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsearch.rl import head_chunks
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rl.head_sharding import HeadSharding
from tests.rl.test_head import AXES, D, T, full_logprobs, value_and_grads

# A padded embedding, a vocabulary that skips ids, and one that begins late.
RANGES = [((0, 18),), ((0, 7), (9, 18), (20, 24)), ((3, 24),)]
V, ROWS = 24, 8


def arguments(id_ranges):
    """Tokens that have an id; rows without one have the largest logits."""
    keys = jax.random.split(jax.random.key(9), 4)
    ids = np.concatenate([np.arange(*ids) for ids in id_ranges])
    is_token = np.isin(np.arange(V), ids)
    head = jax.random.normal(keys[1], (V, D)) * np.where(is_token, 1.0, 30.0)[:, None]
    loss_mask = np.random.default_rng(3).random((ROWS, T)) < 0.4
    loss_mask[:, 0] = False
    tokens = jnp.asarray(ids)[jax.random.randint(keys[2], (ROWS, T), 0, len(ids))]
    hidden = jax.random.normal(keys[0], (ROWS, T, D))
    weights = jax.random.uniform(keys[3], (2, ROWS, T))
    return ids, (hidden, head, tokens, jnp.asarray(loss_mask), 0.7, weights)


@pytest.mark.parametrize("id_ranges", RANGES)
@pytest.mark.parametrize("chunk", [5, 2048])
@pytest.mark.parametrize("is_sharded", [False, True])
def test_logprobs_are_those_of_a_head_without_the_rows(
    monkeypatch, id_ranges, chunk, is_sharded
):
    monkeypatch.setattr(head_chunks, "_CHUNK_POSITIONS", chunk)
    places = None
    if is_sharded:
        mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), AXES)
        place = functools.partial(NamedSharding, mesh)
        places = HeadSharding(
            rows=place(P(("data", "fsdp"))), head=place(P("tensor", "fsdp"))
        )
    ids, args = arguments(id_ranges)
    masked = functools.partial(
        policy_logprobs, head_sharding=places, id_ranges=id_ranges
    )
    grads, outputs = value_and_grads(masked, *args)
    hidden, head, tokens, *rest = args
    expected_grads, expected = value_and_grads(
        full_logprobs, hidden, head[ids], jnp.searchsorted(ids, tokens), *rest
    )
    for got, want in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(grads[0], expected_grads[0], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(grads[1][ids], expected_grads[1], rtol=1e-5, atol=2e-6)
    missing = np.setdiff1d(np.arange(V), ids)
    assert len(missing) and (np.asarray(grads[1])[missing] == 0.0).all()
    # They would have taken most of the probability.
    unmasked, _ = policy_logprobs(*args[:4], jnp.float32(args[4]))
    assert (unmasked < outputs[0] - 1.0).any()


def test_all_ids_are_no_mask():
    _, args = arguments(((0, V),))
    masked = functools.partial(policy_logprobs, id_ranges=((0, V),))
    grads, outputs = value_and_grads(masked, *args)
    expected_grads, expected = value_and_grads(policy_logprobs, *args)
    for got, want in zip(outputs + grads, expected + expected_grads, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
