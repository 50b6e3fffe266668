"""Embedding rows without a token are never sampled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.rl.head import policy_logprobs
from jaxsearch.rollouts.sampling import TopKTopP, sample, without_missing_ids
from jaxsearch.run.build import open_run
from tests.segments import whole_rows
from tests.tiny import tiny_config
from tests.tokenizer_folders import NUM_IDS, write_tokenizer

MISSING = 15  # of the sixteen rows of the kit's policy
RANGES = ((0, MISSING),)


def is_clearly_cut(logits, top_p):
    """Whether rounding in float32 cannot change what top-p keeps of each row."""
    probs = np.exp(-np.sort(-logits.astype(np.float64), axis=-1))
    sums = np.cumsum(probs / probs.sum(axis=-1, keepdims=True), axis=-1)[:, :-1]
    return np.abs(sums - top_p).min(axis=-1) > 1e-6


@pytest.mark.parametrize("id_ranges", [((0, 200),), ((0, 7), (9, 130), (140, 299))])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "truncation", [TopKTopP(), TopKTopP(top_k=5), TopKTopP(top_p=0.9)]
)
def test_samples_are_those_of_a_vocabulary_without_the_rows(
    id_ranges, temperature, truncation
):
    ids = np.concatenate([np.arange(*pair) for pair in id_ranges])
    logits = np.random.default_rng(0).normal(size=(500, 300)).astype(np.float32)
    logits[:, np.setdiff1d(np.arange(300), ids)] += 50.0
    uniforms = jax.random.uniform(jax.random.key(1), (500,))

    @jax.jit
    def draw(logits):
        return sample(logits, uniforms, jnp.float32(temperature), truncation)

    found = draw(without_missing_ids(jnp.asarray(logits), id_ranges))
    expected = draw(jnp.asarray(logits[:, ids]))
    assert np.isin(found[0], ids).all()
    # Sums in another order may move a sample to a neighbour, or the end of top-p.
    is_same = np.asarray(found[0]) == ids[np.asarray(expected[0])]
    is_same &= is_clearly_cut(logits[:, ids], truncation.top_p or 1.0)
    assert is_same.mean() > 0.98
    for got, want in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(got[is_same], want[is_same], rtol=1e-4, atol=1e-5)


def with_likely_row(kit, params):
    """Parameters whose head prefers the row without a token."""
    head = kit.transformer.head_name
    row = params[head].mean(axis=0) * 20.0
    return {**params, head: params[head].at[MISSING].set(row)}


@pytest.mark.slow
def test_rollouts_have_no_missing_id_and_the_trainers_logprobs(kit, questions):
    assert kit.tokenizer.id_ranges == RANGES
    params = with_likely_row(kit, kit.params)

    def run(sampler):
        options = dict(group_size=4, stage=2, temperature=0.8)
        return sampler.run(params, questions, kit.environment(), **options)[0]

    assert any(MISSING in t.tokens for t in run(kit.sampler(16)))
    done = run(kit.sampler(16, id_ranges=RANGES))
    assert not any(MISSING in t.tokens for t in done)

    tokens = np.zeros((len(done), 96), np.int32)
    is_policy = np.zeros(tokens.shape, bool)
    for i, trajectory in enumerate(done):
        tokens[i, : len(trajectory.tokens)] = trajectory.tokens
        is_policy[i, : len(trajectory.tokens)] = trajectory.is_policy
    segments = whole_rows([len(t.tokens) for t in done], tokens.shape[1])

    @jax.jit
    def logprobs(params):
        hidden = kit.transformer.hidden(
            params, jnp.asarray(tokens), jnp.asarray(segments)
        )
        head = kit.transformer.head(params)
        mask, temperature = jnp.asarray(is_policy), jnp.float32(0.8)
        return policy_logprobs(
            hidden, head, jnp.asarray(tokens), mask, temperature, id_ranges=RANGES
        )[0]

    trained = np.asarray(logprobs(with_likely_row(kit, kit.trainer_params)))
    for trajectory, row in zip(done, trained, strict=True):
        where = trajectory.is_policy
        np.testing.assert_allclose(
            trajectory.logprobs[where], row[: len(where)][where], rtol=1e-4, atol=1e-5
        )


def test_a_run_masks_the_rows_that_its_tokenizer_lacks(tmp_path):
    config = tiny_config(tmp_path / "run")
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, tokenizer=tokenizer),
        rollout=dataclasses.replace(
            config.rollout, max_len=600, max_prompt_len=300, max_observation_len=200
        ),
    )
    run = open_run(config)
    assert run.transformer.architecture.vocab_size > NUM_IDS
    assert run.id_ranges == ((0, NUM_IDS),)
    stage = config.stages[-1]
    updater = run.updater(stage, stage.objective, 1.0, {})
    assert updater.gradient.id_ranges == run.id_ranges


def test_ids_that_a_vocabulary_skips_are_missing(tmp_path):
    assert Tokenizer.load(write_tokenizer(tmp_path)).id_ranges == ((0, NUM_IDS),)
    words = Backend(models.WordLevel({"a": 0, "b": 1, "</s>": 4, "c": 9}, "a"))
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    assert Tokenizer(fast).id_ranges == ((0, 2), (4, 5), (9, 10))
