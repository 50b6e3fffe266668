"""Architectures and their Hugging Face configs."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import pytest

from jaxsearch.models.architecture import (
    Architecture,
    LocalAttention,
    RopeScaling,
)
from jaxsearch.models.convert import entries
from jaxsearch.models.families.gemma3 import gelu_tanh
from jaxsearch.models.hf_config import from_hf_config, to_hf_config
from jaxsearch.models.transformer import Transformer
from jaxsearch.run.policy import read_architecture

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
    max_positions=64,
)
LLAMA = dataclasses.replace(TINY, has_qkv_bias=False, has_tied_head=False)
QWEN3 = dataclasses.replace(TINY, has_qkv_bias=False, has_qk_norm=True)
SCALED = dataclasses.replace(
    LLAMA,
    rope_scaling=RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_len=16
    ),
)
GEMMA3 = dataclasses.replace(
    QWEN3,
    has_post_norms=True,
    norm_scale_offset=1.0,
    activation=gelu_tanh,
    embedding_scale=8**0.5,
    query_scale=168**-0.5,
    local_attention=LocalAttention(
        window=5, is_local=(True, False, True), rope_theta=1e4
    ),
)
ALL = [TINY, LLAMA, QWEN3, SCALED, GEMMA3]


def config_of(name):
    if not CONFIGS.is_dir():
        pytest.skip(f"needs the configurations in {CONFIGS}")
    return json.loads((CONFIGS / f"{name}.config.json").read_text())


@pytest.mark.parametrize("architecture", ALL)
def test_num_parameters_is_exact(architecture):
    leaves = jax.tree.leaves(Transformer(architecture=architecture).shapes)
    assert architecture.num_parameters == sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize("architecture", ALL)
def test_hf_round_trip(architecture):
    config = to_hf_config(architecture, max_positions=64, dtype="float32")
    assert from_hf_config(json.loads(json.dumps(config))) == architecture


@pytest.mark.parametrize("architecture", ALL)
def test_transformers_reads_and_rewrites_the_same(architecture):
    from transformers import AutoConfig

    config = to_hf_config(architecture, max_positions=64, dtype="float32")
    theirs = AutoConfig.for_model(**config)
    assert theirs.head_dim == architecture.head_width
    assert from_hf_config(json.loads(theirs.to_json_string())) == architecture


@pytest.mark.parametrize("architecture", ALL)
def test_every_parameter_has_a_tensor(architecture):
    shapes = Transformer(architecture=architecture).shapes
    found = {entry.path for entry in entries(architecture, shapes)}
    paths = jax.tree_util.tree_leaves_with_path(shapes)
    assert found == {tuple(key.key for key in path) for path, _ in paths}


@pytest.mark.parametrize(
    "change",
    [
        {"has_post_norms": False},
        {"norm_scale_offset": 0.5},
        {"embedding_scale": 1.0},
        {"activation": jax.nn.relu},
        {"local_attention": None},
    ],
)
def test_a_network_of_no_family_is_not_exported_as_another(change):
    architecture = dataclasses.replace(GEMMA3, **change)
    with pytest.raises(ValueError, match="no known model family .*'?gemma3_text"):
        to_hf_config(architecture, max_positions=8, dtype="float32")


def test_layers_of_both_layouts_of_gemma():
    """A list of layer kinds, or the period of the global layers."""
    config = to_hf_config(GEMMA3, max_positions=8, dtype="float32")
    del config["layer_types"]
    config |= {"sliding_window_pattern": 2, "num_hidden_layers": 5}
    found = from_hf_config(config).local_attention.is_local
    assert found == (True, False, True, False, True)
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 7.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5.0},
    }
    found = from_hf_config({**config, "rope_parameters": rope})
    assert (found.rope_theta, found.local_attention.rope_theta) == (7.0, 5.0)
    rope["sliding_attention"] |= {"rope_type": "linear", "factor": 2.0}
    with pytest.raises(ValueError, match="rope scaling 'linear' is not supported"):
        from_hf_config({**config, "rope_parameters": rope})
    kinds = ["chunked_attention"] * 5
    with pytest.raises(ValueError, match="kind 'chunked_attention' are not supported"):
        from_hf_config({**config, "layer_types": kinds})
    with pytest.raises(ValueError, match="final_logit_softcapping = 30.0 is not supp"):
        from_hf_config({**config, "final_logit_softcapping": 30.0})
    with pytest.raises(ValueError, match="one value per layer: got 3 for 2 layers"):
        dataclasses.replace(GEMMA3, num_layers=2)


# Numbers of parameters as in the index of the published weights.
@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen2-1.5B-Instruct", 1_543_714_304),
        ("Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen2.5-32B-Instruct", 32_763_876_352),
        ("Qwen3-8B", 8_190_735_360),
        ("Llama-3.1-8B-Instruct", 8_030_261_248),
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-3.2-1B-Instruct", 1_235_814_400),
        ("Llama-3.2-3B", 3_212_749_824),
        ("Llama-3.2-3B-Instruct", 3_212_749_824),
    ],
)
def test_published_configs(name, num_parameters):
    config = config_of(name)
    architecture = from_hf_config(config)
    assert architecture.num_parameters == num_parameters
    # Abstract shapes, so nothing is allocated.
    leaves = jax.tree.leaves(Transformer(architecture=architecture).shapes)
    assert sum(leaf.size for leaf in leaves) == num_parameters
    written = to_hf_config(architecture, max_positions=1, dtype="bfloat16")
    assert from_hf_config(written) == architecture
    for field in (
        *("model_type", "architectures", "max_position_embeddings", "rope_theta"),
        *("vocab_size", "tie_word_embeddings", "rms_norm_eps", "torch_dtype"),
    ):
        if field != "torch_dtype" or config[field] == "bfloat16":
            assert written[field] == config[field]


def test_scaling_of_published_llamas():
    scaling = from_hf_config(config_of("Llama-3.1-8B-Instruct")).rope_scaling
    assert scaling == RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_len=8192
    )
    scaling = from_hf_config(config_of("Llama-3.2-1B")).rope_scaling
    assert scaling.factor == 32.0


def test_a_stretch_must_lie_between_two_wavelengths():
    with pytest.raises(ValueError, match="less than high_freq_factor, got 4.0 and 1"):
        RopeScaling(
            factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0, original_len=16
        )
    with pytest.raises(ValueError, match="factor must be positive and finite, got 0"):
        RopeScaling(
            factor=0.0, low_freq_factor=1.0, high_freq_factor=4.0, original_len=16
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope scaling 'linear'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope scaling 'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "no field 'factor'"),
        ({"use_sliding_window": True}, "use_sliding_window = True is not supported"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"attention_bias": True}, "attention_bias"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
        ({"model_type": "qwen3", "attention_bias": True}, "attention_bias"),
        ({"hidden_size": ...}, "no field 'hidden_size'"),
        (
            {"num_hidden_layers": 0},
            "num_hidden_layers must be a positive integer, got 0",
        ),
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "model_type None is not supported"),
        ({"hidden_size": None}, "has no field 'hidden_size'"),
        ({"hidden_size": "8"}, "hidden_size must be a positive integer, got '8'"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a positive integer"),
        ({"head_dim": [6]}, "head_dim must be a positive integer"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps must be a number"),
        ({"rope_scaling": "linear"}, "rope_scaling must be an object"),
        ({"rope_parameters": {"rope_theta": []}}, "rope_theta must be a number"),
        ({"rope_parameters": {"rope_theta": -1}}, "rope_theta must be positive and f"),
        ({"layer_types": 3}, "layer_types must be a list"),
    ],
)
def test_a_config_that_is_malformed_is_named(tmp_path, text, told):
    if isinstance(text, dict):
        config = to_hf_config(LLAMA, max_positions=64, dtype="float32")
        text = json.dumps({**config, **text})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=told) as raised:
        read_architecture(str(tmp_path))
    assert str(raised.value).startswith(f"{tmp_path}/config.json: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "value", [0, -8.0, math.nan, math.inf, pytest.param(10**400, id="no_float")]
)
@pytest.mark.parametrize(
    "name",
    ["rope_theta", "rope_local_base_freq", "rms_norm_eps", "query_pre_attn_scalar"],
)
def test_a_number_of_a_config_is_positive_and_finite(name, value):
    config = to_hf_config(GEMMA3, max_positions=64, dtype="float32")
    with pytest.raises(ValueError, match=f"^{name} must be positive and finite, got"):
        from_hf_config({**config, name: value})


def test_a_number_of_random_weights_is_positive_and_finite():
    for name in ("rope_theta", "norm_eps"):
        with pytest.raises(ValueError, match=f"model {name} must be positive and fin"):
            dataclasses.replace(TINY, **{name: math.nan})
    with pytest.raises(ValueError, match="local attention rope_theta must be positive"):
        dataclasses.replace(GEMMA3.local_attention, rope_theta=-1.0)


@pytest.mark.parametrize(
    "rope", [{"full_attention": {"rope_theta": 1e6}}, {"full_attention": {}}]
)
def test_a_gemma_without_one_of_its_ropes_is_refused(rope):
    config = to_hf_config(GEMMA3, max_positions=64, dtype="float32")
    with pytest.raises(ValueError, match="has no field"):
        from_hf_config({**config, "rope_parameters": rope})
