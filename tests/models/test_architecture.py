"""Sizes, and their Hugging Face names."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest

from jaxsearch.models.architecture import (
    Architecture,
    from_hf_config,
    to_hf_config,
)
from jaxsearch.models.transformer import Transformer

CONFIGS = Path(__file__).resolve().parents[3] / "shared/data/hf_configs"

TINY = Architecture(
    vocab_size=11,
    width=8,
    mlp_width=12,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_width=6,
    rope_theta=5e5,
    norm_eps=1e-5,
)
LLAMA = dataclasses.replace(TINY, has_qkv_bias=False, has_tied_head=False)


def config_of(name):
    if not CONFIGS.is_dir():
        pytest.skip(f"needs the configurations in {CONFIGS}")
    return json.loads((CONFIGS / f"{name}.config.json").read_text())


@pytest.mark.parametrize("architecture", [TINY, LLAMA])
def test_num_parameters_is_exact(architecture):
    leaves = jax.tree.leaves(Transformer(architecture=architecture).shapes)
    assert architecture.num_parameters == sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize("architecture", [TINY, LLAMA])
def test_hf_round_trip(architecture):
    config = to_hf_config(architecture, max_positions=64, dtype="float32")
    assert from_hf_config(json.loads(json.dumps(config))) == architecture


@pytest.mark.parametrize("architecture", [TINY, LLAMA])
def test_transformers_reads_and_rewrites_the_same(architecture):
    from transformers import AutoConfig

    config = to_hf_config(architecture, max_positions=64, dtype="float32")
    theirs = AutoConfig.for_model(**config)
    assert theirs.head_dim == architecture.head_width
    assert from_hf_config(json.loads(theirs.to_json_string())) == architecture


# Sizes that the models' cards state, in parameters.
@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen2-1.5B-Instruct", 1_543_714_304),
        ("Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen2.5-32B-Instruct", 32_763_876_352),
    ],
)
def test_published_qwen_configs(name, num_parameters):
    architecture = from_hf_config(config_of(name))
    assert architecture.has_qkv_bias
    assert architecture.rope_theta == 1e6 and architecture.norm_eps == 1e-6
    assert architecture.num_parameters == num_parameters
    config = to_hf_config(architecture, max_positions=64, dtype="bfloat16")
    assert from_hf_config(config) == architecture


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Llama-3.1-8B-Instruct", "rope scaling 'llama3' is not supported"),
        ("Llama-3.2-1B", "rope scaling 'llama3' is not supported"),
        ("Qwen3-8B", "model_type 'qwen3' is not supported"),
    ],
)
def test_published_configs_that_are_refused(name, told):
    with pytest.raises(ValueError, match=told):
        from_hf_config(config_of(name))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope scaling 'linear'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope scaling 'yarn'"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_size": ...}, "no field 'hidden_size'"),
        ({"num_hidden_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_key_value_heads": 3}, "multiple of num_kv_heads, got 4 and 3"),
        ({"head_dim": 5}, "head_width must be even"),
    ],
)
def test_what_is_not_supported_is_named(change, told):
    config = {**to_hf_config(LLAMA, max_positions=8, dtype="float32"), **change}
    config = {name: value for name, value in config.items() if value is not ...}
    with pytest.raises(ValueError, match=told):
        from_hf_config(config)


def test_settings_of_both_transformers_versions():
    config = to_hf_config(TINY, max_positions=8, dtype="float32")
    del config["rope_theta"]
    new = {**config, "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}
    assert from_hf_config(new).rope_theta == 7.0
    assert from_hf_config({**config, "rope_theta": 7, "rope_scaling": None}) == (
        from_hf_config(new)
    )
    del config["head_dim"], config["num_key_value_heads"]
    assert from_hf_config(config).head_width == 2
    assert from_hf_config(config).num_kv_heads == 4
