"""Updates of adapters: the frozen weights are read and never changed."""

import dataclasses
import functools
import gc
import re
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsearch.mesh import (
    MeshShape,
    activation_sharding,
    head_sharding,
    make_mesh,
    put_batch,
    shardings,
)
from jaxsearch.models.adapters import split
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.lora import LoRAConfig
from jaxsearch.models.transformer import Transformer
from jaxsearch.rl.batching import TrainBatch
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.optimizer import OptimizerConfig, make_optimizer
from jaxsearch.rl.update import Updater, begin_stage
from jaxsearch.run.fingerprint import fingerprint
from tests.programs import compile_to_read

VOCAB = 56
LORA = LoRAConfig(rank=2, alpha=4.0)
TRANSFORMER = Transformer(
    architecture=Architecture(
        vocab_size=VOCAB,
        width=32,
        mlp_width=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_width=8,
    ),
    lora=LORA,
)
CONFIG = OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.05)
OPTIMIZER = make_optimizer(CONFIG, 100)
OBJECTIVE = PolicyObjective(kl_weight=0.1, entropy_weight=0.01)


@pytest.fixture(scope="module")
def params():
    """Weights, and adapters that already change the output, on the host."""
    made = jax.device_get(jax.jit(TRANSFORMER.init)(jax.random.key(0)))
    frozen, trained = split(LORA, made)
    rng = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda x: x + rng.normal(size=x.shape).astype(np.float32) / 10, trained
    )
    return frozen, moved


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    loss_mask = rng.random((8, 12)) < 0.5
    loss_mask[:, 0] = False
    return TrainBatch(
        tokens=rng.integers(0, VOCAB, (8, 12), dtype=np.int32),
        segments=np.ones((8, 12), np.int32),
        loss_mask=loss_mask,
        behavior_logprobs=np.zeros((8, 12), np.float32),
        sampling_logprobs=np.zeros((8, 12), np.float32),
        old_logprobs=rng.uniform(-5, -3, (8, 12)).astype(np.float32),
        advantages=rng.normal(size=(8, 12)).astype(np.float32),
        weights=np.ones((8, 12), np.float32),
    )


def updater_of(frozen, **options):
    return Updater(
        **{"forward": TRANSFORMER.hidden, **options},
        head=TRANSFORMER.head,
        objective=OBJECTIVE,
        optimizer=OPTIMIZER,
        frozen=frozen,
    )


def on_device(tree):
    return jax.tree.map(jnp.array, tree)


def num_bytes(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def updated(params, batch):
    """Two updates on one device: the frozen weights and the states in between."""
    frozen, trained = map(on_device, params)
    updater = updater_of(frozen)
    states = [begin_stage(trained, OPTIMIZER, needs_reference=True)]
    found = [jax.device_get(states[0])]
    for _ in range(2):
        state, metrics = updater.update(states.pop(), [batch])
        states.append(state)
        found.append(jax.device_get(state))
    return frozen, found, metrics


@pytest.mark.slow
def test_only_adapters_are_trained_and_remembered(params, updated):
    frozen, (start, _, end), metrics = updated
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(frozen), params[0])
    assert fingerprint(frozen) == fingerprint(params[0])
    assert start.params.keys() == end.params.keys() == {"adapters"}
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.params, end.params)
    assert all(jax.tree.leaves(moved))
    assert end.num_updates == 2 and np.isfinite(metrics["loss"].value)


@pytest.mark.slow
def test_an_optimizer_of_adapters_is_small(params, updated):
    """Two moments and a reference of the trained part, and three counters."""
    frozen, (start, _, _), _ = updated
    adapters = num_bytes(start.params)
    assert num_bytes(start.opt_state) <= 2 * adapters + 16
    assert num_bytes(start.reference) == adapters
    assert num_bytes(start) < 0.5 * num_bytes(frozen)
    everything = jax.eval_shape(OPTIMIZER.init, params[0])
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(everything)]
    assert sum(sizes) > 7 * num_bytes(start.opt_state)


@pytest.mark.slow
def test_frozen_parameters_end_with_their_updater(params, batch):
    """A notebook may train adapters of one network after another."""
    frozen, trained = map(on_device, params)
    updater = updater_of(frozen)
    state = begin_stage(trained, OPTIMIZER, needs_reference=True)
    updater.update(state, [batch])
    found = weakref.ref(updater)
    del updater
    gc.collect()
    assert found() is None


def test_the_reference_is_the_policy_as_it_was(updated):
    _, (start, _, end), metrics = updated
    jax.tree.map(np.testing.assert_array_equal, end.reference, start.params)
    assert float(metrics["kl"].value) > 0


@pytest.mark.slow
def test_a_step_is_adamw_on_adapters_alone(params, batch, updated):
    """Clipping and weight decay apply only to the adapters."""
    _, (start, first, _), _ = updated
    frozen, trained = map(on_device, params)
    updater = updater_of(frozen)
    state = begin_stage(trained, OPTIMIZER, needs_reference=True)
    sums, metrics = updater.gradient_sums(state, [batch])
    assert sums.keys() == {"adapters"}
    grads = jax.tree.map(lambda x: x / metrics["loss"].weight, sums)
    norm = optax.tree.norm(grads)
    assert norm > 2 * CONFIG.max_grad_norm  # so the gradient is clipped
    adamw = optax.adamw(1e-2, b1=0.9, b2=0.999, weight_decay=0.01)
    grads = jax.tree.map(lambda g: g * CONFIG.max_grad_norm / norm, grads)
    moves, _ = adamw.update(grads, adamw.init(trained), trained)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7),
        jax.tree.map(lambda a, b: a - b, first.params, start.params),
        jax.device_get(moves),
    )


def products_of_the_head(frozen, trained, batch):
    """Products and sums with the head's shape in the program of a microbatch."""
    updater = updater_of(frozen)
    state = begin_stage(trained, OPTIMIZER, needs_reference=True)
    program = updater.gradient.accumulate.lower(
        updater.gradient, frozen, trained, state.reference, trained, batch
    )
    shape = rf"f32\[{VOCAB},32\]"
    return re.findall(
        rf"= {shape}\S* (?:dot|add)\(", compile_to_read(program).as_text()
    )


@pytest.mark.slow
def test_no_gradient_of_the_head_is_computed(params, batch):
    """Our custom rule always returns one, so the compiler must remove it as unused."""
    frozen, trained = map(on_device, params)
    assert products_of_the_head({}, frozen | trained, batch)  # the test can fail
    assert not products_of_the_head(frozen, trained, batch)


@pytest.mark.slow
def test_eight_devices_change_nothing(params, batch, compilations):
    """Same gradient, expected shardings, and no second compilation."""
    one = updater_of(on_device(params[0]))
    state = begin_stage(on_device(params[1]), OPTIMIZER, needs_reference=True)
    expected = jax.device_get(one.gradient_sums(state, [batch])[0])
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    places = shardings(mesh, TRANSFORMER.logical_axes, TRANSFORMER.shapes)
    frozen, trained = split(LORA, jax.device_put(params[0] | params[1], places))
    assert fingerprint(frozen) == fingerprint(params[0])
    spread = updater_of(
        frozen,
        forward=dataclasses.replace(
            TRANSFORMER, activation_sharding=activation_sharding(mesh)
        ).hidden,
        head_sharding=head_sharding(mesh, places[TRANSFORMER.head_name]),
    )
    state = begin_stage(trained, OPTIMIZER, needs_reference=True)
    rows = put_batch(mesh, batch)
    found = spread.gradient_sums(state, [rows])[0]
    for (path, got), want in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        norm = np.linalg.norm(want)
        assert norm > 0, path
        assert np.linalg.norm(got - want) / norm <= 1e-5, path
    state, _ = spread.update(state, [rows])
    compilations.clear()
    state, _ = spread.update(state, [rows])
    assert not compilations
    (adam,) = [x for x in state.opt_state[1] if isinstance(x, optax.ScaleByAdamState)]
    own = split(LORA, places)[1]
    for tree in (state.params, state.reference, adam.mu, adam.nu):
        assert jax.tree.map(lambda x: x.sharding, tree) == own
