"""Samples against softmax, and truncation against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.rollouts.sampling import TopKTopP, sample

TOP = np.nextafter(np.float32(1), np.float32(0))


@functools.partial(jax.jit, static_argnames=("cut",))
def draw(logits, uniforms, temperature, cut=TopKTopP()):  # noqa: B008 (frozen)
    return sample(logits, uniforms, temperature, cut)


def rows(logits, num_rows):
    return jnp.broadcast_to(
        jnp.asarray(logits, jnp.float32)[None], (num_rows, len(logits))
    )


def chi_square(tokens, probs):
    """Chi-square of the counts, and its expectation (degrees of freedom)."""
    expected = probs * len(tokens)
    counts = np.bincount(tokens, minlength=len(probs))
    assert (counts[probs == 0] == 0).all()
    is_possible = probs > 0
    terms = (counts - expected)[is_possible] ** 2 / expected[is_possible]
    return terms.sum(), is_possible.sum() - 1


# Sizes below, at and above the block of the two-level search.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("V", "temperature", "cut"),
    [
        (5, 1.0, TopKTopP()),
        (128, 0.7, TopKTopP()),
        (300, 1.0, TopKTopP()),
        (300, 1.0, TopKTopP(top_k=20)),
        (300, 1.5, TopKTopP(top_p=0.6)),
    ],
)
def test_frequencies_are_those_of_softmax(V, temperature, cut):
    """Chi-square within five standard deviations, sqrt(2 df) each, of its mean."""
    n = 20_000
    logits = np.random.default_rng(0).normal(size=V).astype(np.float32)
    uniforms = jax.random.uniform(jax.random.key(1), (n,))
    tokens, _, truncated_logprobs = draw(rows(logits, n), uniforms, temperature, cut)
    probs = numpy_cut(logits / temperature, cut)
    statistic, freedom = chi_square(np.asarray(tokens), probs)
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)
    np.testing.assert_allclose(
        np.exp(truncated_logprobs), probs[tokens], rtol=1e-4, atol=1e-7
    )


def numpy_cut(scaled, cut):
    """Probabilities after top-k, then top-p of the rest; for distinct logits."""
    order = np.argsort(-scaled)
    if cut.top_k is not None:
        order = order[: cut.top_k]
    probs = np.exp(scaled[order].astype(np.float64) - scaled.max())
    probs /= probs.sum()
    if cut.top_p is not None:
        # the fewest of the likeliest whose probabilities reach top_p
        num_kept = int(np.searchsorted(np.cumsum(probs), cut.top_p)) + 1
        order, probs = order[:num_kept], probs[:num_kept] / probs[:num_kept].sum()
    out = np.zeros(len(scaled))
    out[order] = probs
    return out


@pytest.mark.parametrize(
    "cut",
    [
        TopKTopP(),
        TopKTopP(top_k=1),
        TopKTopP(top_k=7),
        TopKTopP(top_p=0.3),
        TopKTopP(top_k=9, top_p=0.8),
    ]
    + [
        TopKTopP(top_k=1000),
        TopKTopP(top_p=1.0),
        TopKTopP(top_p=0.999),
        TopKTopP(top_p=1e-6),
    ],
)
def test_cuts_and_their_logprobs(cut):
    n = 512
    logits = 2 * np.random.default_rng(2).normal(size=200).astype(np.float32)
    uniforms = (jnp.arange(n) + 0.5) / n
    tokens, logprobs, truncated_logprobs = map(
        np.asarray, draw(rows(logits, n), uniforms, 0.8, cut)
    )
    probs = numpy_cut(logits / np.float32(0.8), cut)
    assert (probs[tokens] > 0).all()
    whole = np.asarray(jax.nn.log_softmax(jnp.asarray(logits) / 0.8))
    np.testing.assert_allclose(logprobs, whole[tokens], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        truncated_logprobs, np.log(probs[tokens]), rtol=1e-4, atol=1e-5
    )
    if cut.is_whole:
        np.testing.assert_array_equal(logprobs, truncated_logprobs)


def test_temperature_zero_takes_the_largest_and_reports_temperature_one():
    logits = np.random.default_rng(3).normal(size=(64, 300)).astype(np.float32)
    uniforms = jax.random.uniform(jax.random.key(0), (64,))
    tokens, logprobs, _ = draw(jnp.asarray(logits), uniforms, 0.0)
    np.testing.assert_array_equal(tokens, logits.argmax(axis=-1))
    whole = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))
    np.testing.assert_allclose(
        logprobs, np.take_along_axis(whole, np.asarray(tokens)[:, None], 1)[:, 0],
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("V", [3, 128, 129, 1000])
def test_an_entry_without_probability_is_never_drawn(V):
    """At both ends of the uniform numbers, for impossible entries at any position."""
    rng = np.random.default_rng(V)
    logits = rng.normal(size=(256, V)).astype(np.float32)
    logits[rng.random((256, V)) < 0.7] = -np.inf
    logits[np.arange(256), rng.integers(0, V, 256)] = 0.0
    half = V // 2
    logits[:64, :half] = -np.inf
    logits[:64, half] = 0.0
    logits[64:128, half + 1 :] = -np.inf
    logits[64:128, half] = 0.0
    for uniform in (0.0, 1e-7, 0.5, TOP):
        tokens, logprobs, _ = draw(jnp.asarray(logits), jnp.full(256, uniform), 1.0)
        assert np.isfinite(logits[np.arange(256), np.asarray(tokens)]).all()
        assert np.isfinite(logprobs).all()


def test_the_ends_of_the_uniforms_are_the_first_and_last_possible_entries():
    logits = jnp.asarray([[-np.inf, 0.0, 1.0, -np.inf, 2.0, -np.inf]] * 2)
    tokens, _, _ = draw(logits, jnp.asarray([0.0, TOP]), 1.0)
    assert tokens.tolist() == [1, 4]


def test_bad_cuts():
    for settings in ({"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            TopKTopP(**settings)
