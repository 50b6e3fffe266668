"""The decoder against NumPy in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.mesh import MeshShape, activation_sharding, make_mesh, shardings
from jaxsearch.models.architecture import (
    Architecture,
    LocalAttention,
    RopeScaling,
)
from jaxsearch.models.families.gemma3 import gelu_tanh
from jaxsearch.models.transformer import Transformer, positions_in
from tests.segments import whole_rows

QWEN = Architecture(
    vocab_size=50,
    width=32,
    mlp_width=48,
    num_layers=2,
    num_heads=8,
    num_kv_heads=2,
    head_width=6,
    rope_theta=1000.0,
)
LLAMA = dataclasses.replace(
    QWEN, has_qkv_bias=False, has_tied_head=False, num_heads=4, num_kv_heads=1
)
# With Llama 3.1's scaling, for a context so short that it has an effect.
QWEN3 = dataclasses.replace(
    LLAMA,
    has_qk_norm=True,
    rope_scaling=RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_len=8
    ),
)
# Two layers: one with a window of three tokens, one with full attention.
GEMMA3 = dataclasses.replace(
    QWEN,
    has_qkv_bias=False,
    has_qk_norm=True,
    has_post_norms=True,
    norm_scale_offset=1.0,
    activation=gelu_tanh,
    embedding_scale=32**0.5,
    query_scale=8**-0.5,
    local_attention=LocalAttention(window=3, is_local=(True, False), rope_theta=100.0),
)


def make(architecture, seed=0, **settings):
    """A network in which every parameter is random, including biases and scales."""
    transformer = Transformer(architecture=architecture, **settings)
    leaves, tree = jax.tree.flatten(transformer.shapes)
    rng = np.random.default_rng(seed)
    values = [jnp.asarray(rng.normal(size=x.shape) / 3, jnp.float32) for x in leaves]
    return transformer, jax.tree.unflatten(tree, values)


def reference(params, architecture, tokens):
    """Final hidden states of one row, written from the papers, in float64.

    It computes one head and one position at a time and shares no code or layout.
    """
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    A, T = architecture, len(tokens)

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2) + A.norm_eps) * scale

    def rotated(x, position):
        pairs = x[: A.head_width // 2] + 1j * x[A.head_width // 2 :]
        frequencies = A.rope_theta ** (-np.arange(A.head_width // 2) * 2 / A.head_width)
        for i, frequency in enumerate(frequencies) if A.rope_scaling else ():
            s = A.rope_scaling
            waves = s.original_len * frequency / (2 * np.pi)  # in the original context
            share = (waves - s.low_freq_factor) / (s.high_freq_factor - 1)
            share = min(max(share, 0), 1)
            frequencies[i] *= share + (1 - share) / s.factor
        pairs = pairs * np.exp(1j * position * frequencies)
        return np.concatenate([pairs.real, pairs.imag])

    x = p["embedding"][tokens]
    for i in range(A.num_layers):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], p["blocks"])
        heads, mlp = layer["projections"], layer["mlp"]
        normed = [norm(row, layer["attention_norm"]["scale"]) for row in x]
        added = np.zeros_like(x)
        for n in range(A.num_heads):
            k = n * A.num_kv_heads // A.num_heads

            def of(name, head, row, heads=heads):
                bias = heads[f"{name}_bias"][head] if A.has_qkv_bias else 0
                out = heads[name][head] @ row + bias
                if A.has_qk_norm and name != "value":
                    out = norm(out, heads[f"{name}_norm"]["scale"])
                return out

            keys = [rotated(of("key", k, row), t) for t, row in enumerate(normed)]
            values = [of("value", k, row) for row in normed]
            for t in range(T):
                query = rotated(of("query", n, normed[t]), t)
                scores = np.array([query @ key for key in keys[: t + 1]])
                weights = np.exp(scores / np.sqrt(A.head_width))
                weights /= weights.sum()
                mixed = sum(w * v for w, v in zip(weights, values, strict=False))
                added[t] += heads["out"][:, n] @ mixed
        x = x + added
        for t in range(T):
            row = norm(x[t], layer["mlp_norm"]["scale"])
            gate = mlp["gate"] @ row
            x[t] += mlp["down"] @ (gate / (1 + np.exp(-gate)) * (mlp["up"] @ row))
    return np.stack([norm(row, p["norm"]["scale"]) for row in x])


def hidden(transformer, params, tokens, lengths):
    forward = jax.jit(lambda *a: transformer.hidden(*a))
    return forward(params, tokens, whole_rows(lengths, tokens.shape[1]))


@pytest.mark.parametrize(
    "architecture", [QWEN, LLAMA, QWEN3], ids=["qwen2", "llama", "qwen3"]
)
def test_equals_numpy(architecture):
    transformer, params = make(architecture)
    tokens = np.random.default_rng(1).integers(0, 50, (3, 9)).astype(np.int32)
    lengths = np.array([9, 4, 1], np.int32)
    found = hidden(transformer, params, tokens, lengths)
    for row, length, out in zip(tokens, lengths, found, strict=True):
        expected = reference(params, architecture, row[:length])
        np.testing.assert_allclose(out[:length], expected, rtol=1e-4, atol=1e-5)
    name = "embedding" if architecture.has_tied_head else "head"
    np.testing.assert_array_equal(transformer.head(params), params[name])


def test_padding_changes_nothing():
    transformer, params = make(QWEN)
    tokens = np.random.default_rng(1).integers(0, 50, (2, 6)).astype(np.int32)
    lengths = np.array([6, 3], np.int32)
    found = hidden(transformer, params, tokens, lengths)
    padded = np.full((4, 11), 49, np.int32)
    padded[:2, :6] = tokens
    padded[1, 3:] = 7
    lengths = np.array([6, 3, 0, 0], np.int32)
    wide = hidden(transformer, params, padded, lengths)
    for row, length in enumerate(lengths[:2]):
        np.testing.assert_allclose(
            wide[row, :length], found[row, :length], rtol=1e-5, atol=1e-6
        )
    for row, length in enumerate(lengths):
        assert (wide[row, length:] == 0).all()
    is_padding = np.arange(11) >= lengths[:, None]
    other = hidden(transformer, params, np.where(is_padding, 3, padded), lengths)
    np.testing.assert_array_equal(wide, other)


def test_a_token_depends_on_itself_and_on_what_is_before_it():
    """Gradients of each position's state with respect to each position's embedding."""
    transformer, params = make(QWEN)
    T = 5
    tokens = jnp.arange(T)[None]  # all different: one embedding row a position
    segments = jnp.array([[1, 1, 1, 1, 0]])

    def state(embedding, t):
        out = transformer.hidden({**params, "embedding": embedding}, tokens, segments)
        return jnp.sum(out[0, t] * jnp.arange(1.0, 33.0))

    grad = jax.jit(jax.grad(state))
    for t in range(4):
        strength = jnp.abs(grad(params["embedding"], t)).sum(axis=-1)[:T]
        assert (strength[: t + 1] > 1e-4).all()
        assert (strength[t + 1 :] == 0).all()
    assert (grad(params["embedding"], 4) == 0).all()  # padding


@pytest.mark.slow
def test_segments_of_a_row_are_rows_of_their_own():
    """States and gradients of three rows in one row, and of each row alone."""
    transformer, params = make(QWEN3)
    packed = dataclasses.replace(transformer, is_packed=True)
    lengths, row_len = (6, 3, 5), 16
    tokens = np.random.default_rng(1).integers(0, 50, (1, row_len)).astype(np.int32)
    segments = np.repeat([1, 2, 3, 0], (*lengths, 2))[None].astype(np.int32)
    alone = np.zeros((3, 6), np.int32)
    for i, length in enumerate(lengths):
        alone[i, :length] = tokens[segments == i + 1]
    is_token = whole_rows(lengths, 6) > 0

    def states(params, network, tokens, segments):
        return network.hidden(params, tokens, segments)

    found = jax.jit(states, static_argnums=1)(params, packed, tokens, segments)
    wanted = hidden(transformer, params, alone, lengths)
    np.testing.assert_allclose(
        found[segments > 0], wanted[is_token], rtol=1e-5, atol=1e-6
    )
    assert (np.asarray(found)[segments == 0] == 0).all()

    def cubes(params, network, tokens, segments):
        return jnp.sum(states(params, network, tokens, segments) ** 3)

    grad = jax.jit(jax.grad(cubes), static_argnums=1)
    got = grad(params, packed, tokens, segments)
    want = grad(params, transformer, alone, whole_rows(lengths, 6))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


def test_no_token_depends_on_another_segment():
    transformer, params = make(QWEN, is_packed=True)
    tokens = jnp.arange(6)[None]  # all different: one embedding row a position
    segments = jnp.array([[1, 1, 2, 2, 2, 0]])

    def state(embedding, t):
        out = transformer.hidden({**params, "embedding": embedding}, tokens, segments)
        return jnp.sum(out[0, t] * jnp.arange(1.0, 33.0))

    grad = jax.jit(jax.grad(state))
    for t, first in enumerate((0, 0, 2, 2, 2)):
        strength = jnp.abs(grad(params["embedding"], t)).sum(axis=-1)[:6]
        assert (strength[first : t + 1] > 1e-4).all()
        assert (strength[:first] == 0).all() and (strength[t + 1 :] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_local_layers_on_several_devices(remat):
    """Values and gradients on a mesh that shards every axis, and on one device."""
    alone, params = make(GEMMA3, remat=remat, is_packed=True)
    mesh = make_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    shared = dataclasses.replace(alone, activation_sharding=activation_sharding(mesh))
    tokens = np.random.default_rng(1).integers(0, 50, (4, 12)).astype(np.int32)
    segments = np.repeat(np.int32([1, 2, 0]), (7, 4, 1))[None].repeat(4, axis=0)
    tokens, segments = jnp.asarray(tokens), jnp.asarray(segments)

    def cubes(params, network):
        return jnp.sum(network.hidden(params, tokens, segments) ** 3)

    run = jax.jit(jax.value_and_grad(cubes), static_argnums=1)
    places = shardings(mesh, alone.logical_axes, alone.shapes)
    found, grads = run(jax.device_put(params, places), shared)
    expected, expected_grads = run(params, alone)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True
    ):
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


def test_a_token_of_a_local_layer_depends_on_its_window():
    """With all layers local, two windows of three tokens reach five tokens."""
    local = LocalAttention(window=3, is_local=(True, True), rope_theta=100.0)
    sizes = dataclasses.replace(GEMMA3, local_attention=local)
    transformer, params = make(sizes)
    tokens = jnp.arange(8)[None]  # all different: one embedding row per position

    def state(embedding):
        given = {**params, "embedding": embedding}
        return jnp.sum(transformer.hidden(given, tokens, jnp.ones_like(tokens))[0, 7])

    strength = jnp.abs(jax.jit(jax.grad(state))(params["embedding"])).sum(axis=-1)
    assert (strength[:3] == 0).all() and (strength[3:8] > 1e-4).all()


def test_positions_begin_again_in_each_segment():
    segments = jnp.array([[1, 1, 2, 2, 2, 3, 0, 0], [1] * 8, [0] * 8])
    expected = [[0, 1, 0, 1, 2, 0, 0, 1], [*range(8)], [*range(8)]]
    np.testing.assert_array_equal(positions_in(segments), expected)


def test_published_parameters_are_cast_once_but_for_norms():
    transformer, params = make(QWEN, dtype=jnp.bfloat16)
    rollout_params = transformer.for_rollouts(params)
    assert len(rollout_params["blocks"]) == QWEN.num_layers
    for path, leaf in jax.tree_util.tree_leaves_with_path(rollout_params):
        is_norm = "scale" in path[-1].key
        assert leaf.dtype == (jnp.float32 if is_norm else jnp.bfloat16), path
    second = jax.tree.map(lambda x: x[1].astype(jnp.bfloat16), params["blocks"])
    np.testing.assert_array_equal(
        rollout_params["blocks"][1]["mlp"]["fused_gate_up"][48:], second["mlp"]["up"]
    )
    groups, heads = rollout_params["blocks"][1]["projections"], second["projections"]
    groups = groups["fused_qkv"].reshape(2, 6, 6, 32)
    # Query head n reads key/value head n // (N / K): four of eight heads each.
    np.testing.assert_array_equal(groups[1, 2], heads["query"][6])
    np.testing.assert_array_equal(groups[1, -2], heads["key"][1])
    np.testing.assert_array_equal(groups[0, -1], heads["value"][0])


@pytest.mark.slow
def test_rematerialised_gradients_are_equal_and_compute_more():
    tokens = jnp.asarray(np.random.default_rng(4).integers(0, 50, (2, 6)))
    segments = jnp.asarray(whole_rows([6, 5], 6))
    grads, products, kept = [], [], []
    for remat in (False, True):
        transformer, params = make(QWEN, remat=remat)

        def loss(params, transformer=transformer):
            return jnp.sum(transformer.hidden(params, tokens, segments) ** 3)

        grads.append(jax.jit(jax.grad(loss))(params))
        products.append(
            str(jax.make_jaxpr(jax.grad(loss))(params)).count("dot_general")
        )
        _, back = jax.eval_shape(lambda p, loss=loss: jax.vjp(loss, p), params)
        stacked = [x.shape for x in jax.tree.leaves(back) if x.shape[:3] == (2, 2, 6)]
        kept.append({shape[3:] for shape in stacked if len(shape) > 3})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *grads
    )
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads[0]))
    # Seven products with weights; the last one is not needed.
    assert products[1] >= products[0] + 6
    # The inputs of layers; with products saved, also queries, keys, values, gate and
    # up.
    assert kept == [{(32,), (8, 6), (2, 6), (48,)}, {(32,)}]


def num_equations(jaxpr):
    count = 0
    for equation in jaxpr.eqns:
        count += 1
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            count += num_equations(inner) if inner is not None else 0
    return count


def test_the_program_does_not_grow_with_depth():
    counts = []
    for num_layers in (2, 6):
        deep = dataclasses.replace(QWEN, num_layers=num_layers)
        transformer, params = make(deep)
        tokens = jnp.zeros((2, 6), jnp.int32)
        jaxpr = jax.make_jaxpr(transformer.hidden)(params, tokens, tokens)
        counts.append(num_equations(jaxpr.jaxpr))
    assert counts[0] == counts[1] > 30


def test_bfloat16_is_near_float32():
    """Activations in bfloat16 have 8 bits of mantissa, through two layers."""
    transformer, params = make(QWEN)
    tokens = np.random.default_rng(1).integers(0, 50, (2, 8)).astype(np.int32)
    lengths = np.array([8, 8], np.int32)
    exact = hidden(transformer, params, tokens, lengths)
    half = dataclasses.replace(transformer, dtype=jnp.bfloat16)
    rough = hidden(half, params, tokens, lengths)
    assert rough.dtype == jnp.bfloat16 and half.head(params).dtype == jnp.bfloat16
    error = np.abs(np.asarray(rough, np.float32) - exact).mean() / np.abs(exact).mean()
    assert 0 < error < 0.05


def test_initial_states_keep_their_size():
    """The logits of a newly initialised deep network are of order 1."""
    deep = dataclasses.replace(QWEN, num_layers=12, width=64)
    transformer = Transformer(architecture=deep)
    params = jax.jit(transformer.init)(jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, 50, (4, 8)).astype(np.int32)
    out = hidden(transformer, params, tokens, np.full(4, 8, np.int32))
    logits = jnp.einsum("BTD,VD->BTV", out, transformer.head(params))
    assert 0.3 < float(jnp.std(logits)) < 3
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), transformer.shapes)


def test_every_axis_has_a_name():
    transformer, params = make(QWEN)
    axes = jax.tree.leaves(
        transformer.logical_axes, is_leaf=lambda x: isinstance(x, tuple)
    )
    leaves = jax.tree.leaves(params)
    assert [len(names) for names in axes] == [leaf.ndim for leaf in leaves]
    sizes = {}
    for names, leaf in zip(axes, leaves, strict=True):
        for name, size in zip(names, leaf.shape, strict=True):
            assert sizes.setdefault(name, size) == size
    assert sizes == {
        "layers": 2,
        "vocab": 50,
        "embed": 32,
        "mlp": 48,
        "heads": 8,
        "kv_heads": 2,
        "head": 6,
    }
