"""Top-k and top-p without a sort, against NumPy in float64 and exact integers."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rollouts.layout import by_vocabulary, replica_meshes
from jaxsearch.rollouts.sampling import TopKTopP, sample
from jaxsearch.rollouts.threshold import lowest_kept
from jaxsearch.rollouts.vocabulary_shards import VocabularyShards
from tests.programs import compile_to_read
from tests.rollouts.test_tensor import collectives

V = 20_000  # 157 blocks, of which 64 are searched entry by entry
SLACK = 1e-5  # of a float32 sum of probabilities


@functools.partial(jax.jit, static_argnames=("cut", "mesh"))
def draw(logits, uniforms, temperature, cut, mesh=None):
    return sample(logits, uniforms, temperature, cut, mesh)


def example_rows(rng, size=V):
    """Logits of a row of each kind."""
    normal = rng.normal(size=size)
    peaked = 2 * normal
    peaked[rng.integers(size, size=5)] += [18, 17, 16, 15, 14]
    spike = np.where(np.arange(size) == size // 3, 60.0, normal)
    few = np.full(size, -np.inf)
    few[rng.integers(size, size=7)] = rng.normal(size=7)
    two_values = np.where(rng.random(size) < 0.3, 1.5, -0.5)
    ranks = rng.permutation(-1.3 * np.log(np.arange(1, size + 1)))
    masked = np.where(rng.random(size) < 0.6, -np.inf, 3 * normal)
    rows = {
        "normal": normal,
        "nearly flat": 0.01 * normal,
        "peaked": peaked,
        "spike": spike,
        "few": few,
        "two values": two_values,
        "ranks": ranks,
        "masked": masked,
        "rounded": np.round(4 * normal) / 2,
        "equal": np.full(size, 0.7),
        "large": 1000 + 30 * normal,
    }
    return np.stack(list(rows.values())).astype(np.float32)


def larger_mass(logits, is_left):
    """The probability of all strictly larger logits, among those that are left."""
    probs = np.where(is_left, np.exp(logits.astype(np.float64) - logits.max()), 0.0)
    values, places = np.unique(logits, return_inverse=True)
    by_value = np.bincount(places, probs) / probs.sum()
    return (np.cumsum(by_value[::-1])[::-1] - by_value)[places], probs / probs.sum()


def top_k_of(logits, k):
    return logits >= np.sort(logits)[-k] if k else np.ones(logits.shape, bool)


@pytest.mark.parametrize(
    ("cut", "temperature"),
    [
        (TopKTopP(top_p=0.95), 1.0),
        (TopKTopP(top_p=0.5), 0.7),
        (TopKTopP(top_p=0.9999), 1.3),
        (TopKTopP(top_p=1e-6), 1.0),
        (TopKTopP(top_k=40, top_p=0.8), 1.0),
        (TopKTopP(top_k=3000, top_p=0.95), 2.0),
        (TopKTopP(top_k=40), 1.0),
    ],
)
def test_the_mass_that_is_kept_is_that_of_a_float64_reference(cut, temperature):
    """The two log-probs differ by the log of the kept mass, which names the set.

    A row is drawn alone, as the search continues for all rows until the last is done.
    """
    rng = np.random.default_rng(7)
    logits = np.concatenate([example_rows(rng) for _ in range(2)])
    for row in logits:
        uniform = rng.random(1).astype(np.float32)
        token, logp, cut_logp = (
            float(x[0]) for x in draw(row[None], uniform, jnp.float32(temperature), cut)
        )
        token, kept_mass = int(token), np.exp(logp - cut_logp)
        row = row / np.float32(temperature)
        is_left = top_k_of(row, cut.top_k)
        _, probs = larger_mass(row, np.ones_like(is_left))
        before, _ = larger_mass(row, is_left)
        p = cut.top_p or 1.0
        least = probs[is_left & (before < p - SLACK)].sum()
        most = probs[is_left & (before < p + SLACK)].sum()
        assert least * (1 - SLACK) <= kept_mass <= most * (1 + SLACK)
        assert is_left[token] and before[token] < p + SLACK


@pytest.mark.parametrize("size", [5, 128, 129, 1000, V])
@pytest.mark.parametrize("part", [0.125, 0.5, 0.9375, 0.9990234375, None])
def test_the_lowest_kept_mass_is_exact_where_sums_are(size, part):
    """Masses are multiples of 2**-9, so that float32 sums of them are exact.

    With None, the entries from the median on weigh the target exactly.
    """
    rng = np.random.default_rng(size)
    units = np.stack(
        [
            rng.integers(1, 513, size),
            rng.integers(0, 4, size),
            np.full(size, 3),
            np.where(rng.random(size) < 0.01, 400, 1),
            rng.integers(0, 2, size),
        ]
    )
    units[:, size // 2] = 512
    width = -(-size // 128) * 128
    masses = np.pad(units, ((0, 0), (0, width - size))) / np.float32(512)
    if part is None:
        medians = np.median(units, axis=1, keepdims=True)
        target = np.where(units >= np.maximum(medians, 1), units, 0).sum(axis=1) / 512
    else:
        target = units.sum(axis=1) * part / 512
    lowest, by_block = jax.jit(
        lambda masses, target: lowest_kept(
            masses, lambda x: x, target, jnp.zeros_like(target), VocabularyShards()
        )
    )(masses.reshape(len(units), -1, 128).astype(np.float32), target.astype(np.float32))
    for row, low, kept, goal in zip(units, lowest, by_block, target, strict=True):
        expected = max(u for u in np.unique(row) if row[row >= u].sum() >= 512 * goal)
        np.testing.assert_array_equal(row >= 512 * float(low), row >= expected)
        assert kept.sum() * 512 == row[row >= expected].sum()


def kept_tokens(logits, cut):
    uniforms = (np.arange(512, dtype=np.float32) + 0.5) / 512
    rows = np.tile(np.float32(logits), (512, 1))
    return set(np.asarray(draw(rows, uniforms, jnp.float32(1), cut)[0]).tolist())


@pytest.mark.slow
def test_equal_logits_are_kept_or_cut_together():
    equal = [0.0] * 9
    assert kept_tokens(equal, TopKTopP(top_p=0.01)) == set(range(9))
    assert kept_tokens(equal, TopKTopP(top_k=1)) == set(range(9))
    # Masses e, 1, 1, 1 / e: the sum of the larger ones is 0, 0.53, 0.53, 0.93.
    steps = [0.0, 1.0, -1.0, 0.0]
    assert kept_tokens(steps, TopKTopP(top_p=0.52)) == {1}
    assert kept_tokens(steps, TopKTopP(top_p=0.55)) == {0, 1, 3}
    assert kept_tokens(steps, TopKTopP(top_p=0.92)) == {0, 1, 3}
    assert kept_tokens(steps, TopKTopP(top_p=0.94)) == {0, 1, 2, 3}
    assert kept_tokens(steps, TopKTopP(top_k=2)) == {0, 1, 3}
    # Top-k keeps two tokens; the larger has a probability of 0.73.
    other = [0.0, 1.0, -1.0, -2.0]
    assert kept_tokens(other, TopKTopP(top_k=2, top_p=0.72)) == {1}
    assert kept_tokens(other, TopKTopP(top_k=2, top_p=0.74)) == {0, 1}


@pytest.mark.slow
def test_whole_rows_are_read_few_times():
    """Bisection would read 151,936 normal logits 13 times, and a sort takes longer."""
    rows = example_rows(np.random.default_rng(0), 151_936)[:, None]
    names = ("normal", "nearly flat", "peaked", "spike")
    for name, logits in zip(names, rows, strict=False):
        masses = np.exp(logits - logits.max()).reshape(1, -1, 128)
        sizes = []

        def weigh(masses, sizes=sizes):
            sizes.append(masses.size)
            return masses

        total = jnp.asarray(masses.sum(axis=(1, 2)))
        floor = jnp.maximum(masses.min(), 0.05 / logits.size * total)
        with jax.disable_jit():
            lowest_kept(
                jnp.asarray(masses), weigh, 0.95 * total, floor, VocabularyShards()
            )
        assert sum(size == logits.size for size in sizes) <= 10, name


@pytest.mark.parametrize("cut", [TopKTopP(top_p=0.95), TopKTopP(top_k=9, top_p=0.5)])
def test_only_64_entries_of_a_row_are_sorted(cut):
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, V), (4,), ()))
    program = str(jax.make_jaxpr(functools.partial(draw, cut=cut))(*shapes))
    for name in ("sort", "top_k"):
        results = re.findall(rf":f32(\[[\d,]+\])[^=\n]* = {name}\[", program)
        assert results and set(results) == {"[4,64]"}


# ---------------------------------------------------------- shared by devices


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [2, 8])
@pytest.mark.parametrize(
    "cut", [TopKTopP(), TopKTopP(top_p=0.95), TopKTopP(top_k=300, top_p=0.9)]
)
def test_devices_that_share_the_vocabulary_draw_the_same_and_send_no_logits(
    cut, num_devices
):
    """The shards of 8 devices, 2,500 entries, end within a block."""
    [mesh] = replica_meshes(jax.devices()[:num_devices], num_devices)
    rng = np.random.default_rng(3)
    uniforms = np.float32([0.0, 0.31, 0.77, np.nextafter(np.float32(1), np.float32(0))])
    B = len(uniforms)
    # One kind at a time, as the search continues for all rows until the last is done.
    for logits in example_rows(rng):
        logits = np.tile(logits, (B, 1))
        shared = jax.device_put(logits, by_vocabulary(mesh))
        for temperature in (jnp.float32(0.8), jnp.float32(0)):
            one = draw(logits, uniforms, temperature, cut)
            each = draw(shared, uniforms, temperature, cut, mesh.abstract_mesh)
            # A running sum over shards is rounded differently, so a draw at the
            # boundary of two tokens may fall on the other side.
            for row, first, last in zip(
                logits, *np.sort([one[0], each[0]], axis=0), strict=True
            ):
                _, probs = larger_mass(row / np.float32(temperature or 1), row == row)
                assert first == last or probs[first + 1 : last].sum() < SLACK
            is_same = np.asarray(one[0] == each[0])
            assert is_same.sum() >= 2
            for a, b in zip(one[1:], each[1:], strict=True):
                np.testing.assert_allclose(
                    np.asarray(a)[is_same], np.asarray(b)[is_same], rtol=1e-4, atol=1e-5
                )
    program = compile_to_read(
        draw.lower(shared, uniforms, temperature, cut, mesh.abstract_mesh)
    )
    sent = collectives(program.as_text())
    assert sent
    for shape, _ in sent:
        assert math.prod(int(d) for d in shape.split(",")) <= B * num_devices * 64
