"""Greedy rollouts against transformers' `generate`, from the same exported folder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.bench.scripted_sampler import (
    LatentIndex,
    ScriptedProtocol,
    counting_table,
    words_tokenizer,
)
from jaxsearch.data.question import Question
from jaxsearch.models.architecture import Architecture, LocalAttention
from jaxsearch.models.families.gemma3 import gelu_tanh
from jaxsearch.models.transformer import Transformer
from jaxsearch.rollouts.budgets import Budgets
from jaxsearch.rollouts.decode import Programs
from jaxsearch.rollouts.episode import Sampler
from jaxsearch.rollouts.sampling import TopKTopP
from jaxsearch.run.export import export
from jaxsearch.run.policy import Policy, read_architecture
from tests.environments import search_environment
from tests.hf_folders import read_here

VOCAB_SIZE = 64
LIMITS = Budgets(
    num_slots=3,
    max_len=200,
    max_prompt_len=24,
    max_turn_len=64,
    max_observation_len=20,
    max_calls=2,
)

PROMPT_LENS = [1, 2, 5, 9, 16, 24]


@pytest.fixture(scope="module", params=["qwen2", "llama", "gemma3"])
def folder(request, tmp_path_factory):
    """An exported policy with large random weights, which seldom repeats itself."""
    pytest.importorskip("torch")
    is_llama = request.param == "llama"
    architecture = Architecture(
        vocab_size=VOCAB_SIZE,
        width=32,
        mlp_width=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_width=8,
        rope_theta=1000.0,
        has_qkv_bias=not is_llama,
        has_tied_head=not is_llama,
    )
    if request.param == "gemma3":
        architecture = dataclasses.replace(
            architecture,
            has_qkv_bias=False,
            has_tied_head=False,
            has_qk_norm=True,
            has_post_norms=True,
            norm_scale_offset=1.0,
            activation=gelu_tanh,
            embedding_scale=32**0.5,
            query_scale=16**-0.5,
            local_attention=LocalAttention(
                window=20, is_local=(True, False), rope_theta=100.0
            ),
        )
    transformer = Transformer(architecture=architecture)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.7, x.dtype),
        transformer.shapes,
    )
    if request.param == "gemma3":
        # Scaled by sqrt(D), embeddings would determine the next token without context.
        params["embedding"] *= 0.1
    policy = Policy(
        transformer=transformer, tokenizer=words_tokenizer(VOCAB_SIZE), params=params
    )
    folder = tmp_path_factory.mktemp("export") / request.param
    export(policy, folder, max_positions=256, dtype="float32")
    return folder


def greedy_rollouts(folder, first_turns):
    """One rollout per prompt; all turns but the last have the given lengths."""
    transformer = Transformer(architecture=read_architecture(str(folder)))
    params = read_here(folder, transformer)
    tokenizer, protocol = words_tokenizer(VOCAB_SIZE), ScriptedProtocol()
    longest = LIMITS.max_turn_len
    programs = Programs(
        transformer=transformer,
        end_ids=tokenizer.end_ids,
        max_turn_len=longest,
        truncation=TopKTopP(),
        seed=0,
    )

    def turn_state(rollout):
        turns = [*first_turns, longest + 1]  # the last turn never reaches its budget
        return longest + 1 - turns[rollout.turn]

    sampler = Sampler(
        programs,
        LIMITS,
        protocol,
        tokenizer,
        counting_table(longest + 1, VOCAB_SIZE),
        turn_state=turn_state,
    )
    environment = search_environment(
        LatentIndex(LIMITS.max_observation_len, 0.0),
        protocol,
        tokenizer,
        max_observation_len=LIMITS.max_observation_len,
    )
    rng = np.random.default_rng(1)
    texts = [
        "".join(f" w{word}" for word in rng.integers(60, size=n)) for n in PROMPT_LENS
    ]
    done, _ = sampler.run(
        jax.jit(transformer.for_rollouts)(params),
        [
            (i, Question(id=str(i), question=text, golden_answers=()))
            for i, text in enumerate(texts)
        ],
        environment,
        group_size=1,
        stage=0,
        temperature=0.0,
    )
    return done


@pytest.mark.slow
@pytest.mark.parametrize("first_turns", [[], [7, 23]], ids=["plain", "searching"])
def test_greedy_turns_are_those_of_generate(folder, first_turns):
    """Compares every turn given its history: ours cached, theirs prefilled again."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    turns = []
    for trajectory in greedy_rollouts(folder, first_turns):
        bounds = np.flatnonzero(np.diff(trajectory.is_policy, append=False)) + 1
        for start, end in bounds.reshape(-1, 2).tolist():
            history = torch.tensor(trajectory.tokens[None, :start], dtype=torch.long)
            made = model.generate(
                history,
                attention_mask=torch.ones_like(history),
                do_sample=False,
                max_new_tokens=end - start,
            )
            turns.append(trajectory.tokens[start:end].tolist())
            assert turns[-1] == made[0, start:].tolist()
    lens = [len(turn) for turn in turns]
    assert len(lens) == (1 + len(first_turns)) * len(PROMPT_LENS)
    # Turns that end early sampled the end token, as `generate` did.
    assert lens.count(64) >= 4
    assert np.mean([len(set(turn)) for turn in turns if len(turn) == 64]) > 10
