"""Adapters in bfloat16 rollouts: the sampler moves as far as the trainer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsearch.models import cached_forward as cached
from jaxsearch.models.adapters import merged, split
from jaxsearch.models.cache import empty_cache
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.models.transformer import Transformer
from jaxsearch.plan.hlo import Program
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer
from jaxsearch.rollouts.layout import on_replica, replica_meshes, rollout_shardings
from tests.models.test_transformer import GEMMA3, LLAMA, QWEN, QWEN3
from tests.programs import compile_to_read

B, T, W = 4, 12, 4
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 50, (B, T)), jnp.int32)
ALL = LoRAConfig(rank=4, alpha=8.0)
SOME = LoRAConfig(rank=2, alpha=5.0, targets="k_proj|o_proj|gate_proj|down_proj")
CASES = pytest.mark.parametrize(
    ("architecture", "lora"),
    [(QWEN, ALL), (LLAMA, SOME), (QWEN3, ALL), (GEMMA3, SOME)],
    ids=["qwen2", "llama some maps", "qwen3", "gemma3 some maps"],
)


def logprobs(network, params, hidden):
    logits = jnp.einsum("BTD,VD->BTV", hidden, network.head(params))
    logps = jax.nn.log_softmax(logits.astype(jnp.float32))[:, :-1]
    return jnp.take_along_axis(logps, TOKENS[:, 1:, None], axis=-1)[..., 0]


def of_trainer(network, params):
    hidden = network.hidden(params, TOKENS, jnp.ones_like(TOKENS))
    return logprobs(network, params, hidden)


def of_sampler(network, rollout_params):
    """By one append to an empty cache, and the last token by a decoding step."""
    pages = jnp.arange(B * T // W, dtype=jnp.int32).reshape(B, -1)
    cache = empty_cache(network.architecture, (pages.size,), W, network.dtype)
    start, fed = jnp.zeros(B, jnp.int32), jnp.full(B, T - 1)
    arguments = (network, rollout_params)
    hidden, cache = cached.append(*arguments, TOKENS[:, :-1], start, fed, cache, pages)
    last, _ = cached.step(
        *(*arguments, TOKENS[:, -1], start + T - 1),
        *(jnp.ones(B, bool), cache, pages, pages.size),
    )
    return logprobs(
        network, rollout_params, jnp.concatenate([hidden, last[:, None]], axis=1)
    )


def five_updates(network, params):
    """Parameters after five policy gradients at a learning rate of 2e-5."""
    frozen, trained = split(network.lora, params)
    advantages = jnp.where(jnp.arange(B) % 2, 1.0, -1.0)[:, None]
    optimizer = make_optimizer(OptimizerConfig(learning_rate=2e-5), 5)

    @jax.jit
    def update(trained, state):
        def loss(trained):
            return -jnp.mean(advantages * of_trainer(network, frozen | trained))

        updates, state = optimizer.update(jax.grad(loss)(trained), state, trained)
        return optax.apply_updates(trained, updates), state

    state = optimizer.init(trained)
    for _ in range(5):
        trained, state = update(trained, state)
    return frozen | trained


@pytest.mark.slow
@CASES
def test_five_updates_move_the_sampler_as_they_move_the_trainer(architecture, lora):
    """The projection of one change on the other, of which merging loses a part.

    Parameters are published in bfloat16 and applied in float32, as the rounding of
    activations would hide a change of 0.01.
    """
    network = Transformer(architecture=architecture, lora=lora)
    # Weights as in a bfloat16 folder.
    before = jax.tree.map(
        lambda x: x.astype(jnp.bfloat16).astype(jnp.float32),
        network.init(jax.random.key(0)),
    )
    after = five_updates(network, before)
    published = dataclasses.replace(network, dtype=jnp.bfloat16)
    plain = dataclasses.replace(published, lora=LoRAConfig())
    sampler = jax.jit(
        lambda params: of_sampler(
            network, jax.tree.map(lambda x: x.astype(jnp.float32), params)
        )
    )
    of_sides = (
        lambda params: of_trainer(network, params),
        lambda params: sampler(published.for_rollouts(params)),
        lambda params: sampler(plain.for_rollouts(merged(lora, params))),
    )
    trainer, unmerged, rounded = (
        np.asarray(of(after) - of(before)).ravel() for of in of_sides
    )
    assert 0.98 <= unmerged @ trainer / (trainer @ trainer) <= 1.02
    assert rounded @ trainer / (trainer @ trainer) < 0.9
    # One program for adapters and one for merged weights; updates compile none.
    assert sampler._cache_size() == 2


def moderate(network):
    """Weights as in a bfloat16 folder, and adapters that change log-probs by 0.1."""
    params = network.init(jax.random.key(1))
    frozen, trained = split(network.lora, params)
    leaves, tree = jax.tree.flatten(trained)
    rng = np.random.default_rng(2)
    leaves = [x + 0.03 * rng.normal(size=x.shape).astype(np.float32) for x in leaves]
    trained = jax.tree.unflatten(tree, leaves)
    return jax.tree.map(
        lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), frozen | trained
    )


@CASES
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shapes_for_rollouts_are_those_of_one_layer_repeated(architecture, lora, dtype):
    network = Transformer(architecture=architecture, lora=lora, dtype=dtype)
    found = jax.eval_shape(network.for_rollouts, network.shapes)
    assert jax.tree.structure(found) == jax.tree.structure(network.rollout_shapes)
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(network.rollout_shapes), strict=True
    ):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


@CASES
def test_sampler_and_trainer_agree_in_bfloat16(architecture, lora):
    network = Transformer(architecture=architecture, lora=lora, dtype=jnp.bfloat16)
    params = moderate(network)
    rollout_params = network.for_rollouts(params)
    frozen, _ = split(lora, params)
    plain = dataclasses.replace(network, lora=LoRAConfig())
    without = plain.for_rollouts(frozen)
    weights = {k: v for k, v in rollout_params.items() if k != "adapters"}
    jax.tree.map(np.testing.assert_array_equal, weights, without)
    trainer = np.asarray(of_trainer(network, params))
    drift = np.abs(of_sampler(network, rollout_params) - trainer).mean()
    assert drift < 0.02
    assert np.abs(of_sampler(plain, without) - trainer).mean() > 3 * drift


@pytest.mark.slow
@pytest.mark.parametrize("lora", [ALL, SOME], ids=["all maps", "some maps"])
def test_devices_that_share_a_copy_send_only_what_is_narrow(lora):
    """Updates of maps with sharded inputs add sums [B T R]; weights do not move."""
    sizes = dataclasses.replace(QWEN, num_kv_heads=2, vocab_size=64)
    network = Transformer(architecture=sizes, lora=lora, dtype=jnp.bfloat16)
    params = moderate(network)
    [mesh, *_] = replica_meshes(jax.devices()[:2], 2)
    shared = on_replica(network, mesh)
    rollout_params = jax.device_put(
        shared.for_rollouts(params), rollout_shardings(mesh, shared)
    )
    sampler = jax.jit(functools.partial(of_sampler, shared))
    np.testing.assert_allclose(
        sampler(rollout_params), of_trainer(network, params), atol=0.1
    )
    text = compile_to_read(sampler.lower(rollout_params)).as_text()
    sent = {
        array.dims
        for visit in Program.read(text).visits(1)
        if visit.instruction.opcode.startswith(("all-", "collective-", "reduce-sc"))
        for array in visit.instruction.arrays
    }
    narrow = {(B, tokens, lora.rank) for tokens in (1, T - 1)}
    layers = {(B, tokens, sizes.width) for tokens in (1, T - 1)}
    assert narrow | layers <= sent
    of_logits = {(B, T), (B, T - 1, 1)}
    assert sent <= narrow | layers | of_logits
