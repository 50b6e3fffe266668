"""A network with low-rank updates against the same network after merging."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.mesh import MeshShape, make_mesh, shardings
from jaxsearch.models.adapters import merged, split
from jaxsearch.models.lora import LoRAConfig
from tests.models.test_transformer import LLAMA, QWEN, hidden, make
from tests.programs import compile_to_read
from tests.segments import whole_rows

ALL = LoRAConfig(rank=3, alpha=6.0)
SOME = LoRAConfig(rank=2, alpha=5.0, targets="k_proj|o_proj|down_proj")
CASES = pytest.mark.parametrize(
    ("architecture", "lora"),
    [(QWEN, ALL), (LLAMA, SOME)],
    ids=["all maps", "some maps"],
)
TOKENS = jnp.asarray(np.random.default_rng(1).integers(0, 50, (3, 9)), jnp.int32)
LENGTHS = (9, 4, 1)
SEGMENTS = jnp.asarray(whole_rows(LENGTHS, 9))


@CASES
def test_new_adapters_change_no_bit(architecture, lora):
    plain, weights = make(architecture)
    transformer = dataclasses.replace(plain, lora=lora)
    adapters = transformer.init_adapters(jax.random.key(0))
    found = hidden(transformer, weights | adapters, TOKENS, LENGTHS)
    np.testing.assert_array_equal(found, hidden(plain, weights, TOKENS, LENGTHS))
    for path, leaf in jax.tree.leaves_with_path(adapters):
        assert (leaf == 0).all() == (path[-1].key == "b"), path


@pytest.mark.slow
def test_adapters_start_as_in_peft_and_weights_as_without_them():
    plain, _ = make(QWEN)
    key = jax.random.key(7)
    params = dataclasses.replace(plain, lora=ALL).init(key)
    some = dataclasses.replace(plain, lora=dataclasses.replace(SOME, rank=3)).init(key)
    frozen, trained = split(ALL, params)
    jax.tree.map(np.testing.assert_array_equal, frozen, plain.init(key))
    # Kaiming-uniform with a = sqrt(5) is uniform within 1 / sqrt(inputs).
    down = trained["adapters"]["mlp"]["down"]["a"]
    out = trained["adapters"]["projections"]["out"]["a"]
    for a, num_inputs in ((down, 48), (out, 8 * 6)):
        assert 0.95 < float(jnp.abs(a).max()) * num_inputs**0.5 <= 1
        assert 0.5 < float(a.std()) * (3 * num_inputs) ** 0.5 < 1.5
    # The values do not depend on what else is selected, and are all different.
    np.testing.assert_array_equal(some["adapters"]["mlp"]["down"]["a"], down)
    leaves = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3]
    corners = [float(leaf[0, 0, 0]) for leaf in leaves if (leaf != 0).any()]
    assert len(set(corners)) == len(corners)


@CASES
def test_merged_equals_unmerged(architecture, lora):
    transformer, params = make(architecture, lora=lora)
    plain, weights = make(architecture)
    whole = merged(lora, params)
    assert jax.tree.structure(whole) == jax.tree.structure(weights)
    expected = hidden(plain, whole, TOKENS, LENGTHS)
    found = hidden(transformer, params, TOKENS, LENGTHS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Merging changes the adapted weights and no others.
    frozen, _ = split(lora, params)
    without = hidden(plain, frozen, TOKENS, LENGTHS)
    assert np.abs(found - without)[0].max() > 0.1
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), whole, frozen)
    assert sum(jax.tree.leaves(changed)) == len(transformer.adapted)


def test_an_update_is_its_formula():
    """W + alpha / rank * B A for one map, computed in NumPy."""
    transformer, params = make(QWEN, lora=ALL)
    one = params["adapters"]["projections"]["out"]
    a = np.asarray(one["a"][1], np.float64).reshape(3, 8 * 6)
    b = np.asarray(one["b"][1], np.float64)
    weight = np.asarray(params["blocks"]["projections"]["out"][1]).reshape(32, 8 * 6)
    found = merged(ALL, params)["blocks"]["projections"]["out"][1]
    expected = weight + 6.0 / 3 * (b @ a)
    np.testing.assert_allclose(found.reshape(32, 48), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@CASES
def test_gradients_are_those_of_the_merged_network(architecture, lora):
    transformer, params = make(architecture, lora=lora)
    plain, _ = make(architecture)
    frozen, trained = split(lora, params)
    weight = np.random.default_rng(2).normal(size=(3, 9, architecture.width))

    def loss(trained, is_merged):
        params = frozen | trained
        states = (
            plain.hidden(merged(lora, params), TOKENS, SEGMENTS)
            if is_merged
            else transformer.hidden(params, TOKENS, SEGMENTS)
        )
        return jnp.sum(states * weight)

    found, expected = (
        jax.jit(jax.grad(lambda t, m=is_merged: loss(t, m)))(trained)
        for is_merged in (False, True)
    )
    for (path, one), other in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        norm = np.linalg.norm(other)
        assert norm > 0, path
        assert np.linalg.norm(one - other) / norm < 1e-4, path


@pytest.mark.slow
def test_no_gradient_of_a_weight_is_computed():
    """The compiled program has no product with the shape of a weight."""
    # Sizes that no product of activations has.
    architecture = dataclasses.replace(QWEN, width=34, mlp_width=58)
    transformer, params = make(architecture, lora=ALL)
    frozen, trained = split(ALL, params)

    def loss(trained, frozen):
        return jnp.sum(transformer.hidden(frozen | trained, TOKENS, SEGMENTS) ** 3)

    def products(*argnums):
        grad = jax.jit(jax.grad(loss, argnums=argnums))
        text = compile_to_read(grad.lower(trained, frozen)).as_text()
        shapes = re.findall(r"= f32\[([\d,]+)\]\S* (?:dot|custom-call)\(", text)
        return {tuple(sorted(map(int, shape.split(",")))) for shape in shapes}

    weights = {
        tuple(sorted(leaf.shape[1:]))
        for part in ("projections", "mlp")
        for leaf in params["blocks"][part].values()
    }
    assert products(0, 1) & weights  # the test can fail
    assert not products(0) & weights


def test_float32_rollouts_read_merged_weights():
    transformer, params = make(QWEN, lora=ALL)
    plain, _ = make(QWEN)
    rollout_params = transformer.for_rollouts(params)
    expected = plain.for_rollouts(merged(ALL, params))
    # The same arrays, so decoding has no extra cost.
    jax.tree.map(np.testing.assert_array_equal, rollout_params, expected)


def test_adapters_lie_where_the_weights_lie():
    """Adapters are sharded like the weights; the rank axis is not sharded."""
    transformer, _ = make(QWEN, lora=ALL)
    axes = transformer.logical_axes["adapters"]
    assert axes["projections"]["query"] == {
        "a": ("layers", "rank", "embed"),
        "b": ("layers", "heads", "head", "rank"),
    }
    assert axes["projections"]["out"] == {
        "a": ("layers", "rank", "heads", "head"),
        "b": ("layers", "embed", "rank"),
    }
    assert axes["mlp"]["up"] == {
        "a": ("layers", "rank", "embed"),
        "b": ("layers", "mlp", "rank"),
    }
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    places = shardings(mesh, transformer.logical_axes, transformer.shapes)["adapters"]
    shapes = transformer.shapes["adapters"]
    parts = jax.tree.map(lambda p, s: p.shard_shape(s.shape), places, shapes)
    assert parts["projections"]["query"] == {"a": (2, 3, 16), "b": (2, 4, 6, 3)}
    assert parts["projections"]["out"] == {"a": (2, 3, 4, 6), "b": (2, 16, 3)}
    assert parts["mlp"]["down"] == {"a": (2, 3, 24), "b": (2, 16, 3)}
