"""Qwen3: queries and keys are normalised, and there are no biases."""

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.family import (
    Family,
    HFConfig,
    read_sizes,
    refuse_local_layers,
    refuse_options,
    write_sizes,
)


def _read(config: HFConfig) -> Architecture:
    supported = {"hidden_act": "silu", "mlp_bias": False, "attention_bias": False}
    refuse_options(config, {**supported, "partial_rotary_factor": 1.0})
    refuse_options(config, {"use_sliding_window": False})
    refuse_local_layers(config)
    return Architecture(**read_sizes(config), has_qkv_bias=False, has_qk_norm=True)


def _write(architecture: Architecture) -> HFConfig:
    return {**write_sizes(architecture), "hidden_act": "silu"}


QWEN3 = Family(
    model_type="qwen3",
    class_name="Qwen3ForCausalLM",
    read=_read,
    write=_write,
    sizes={
        "Qwen/Qwen3-8B": Architecture(
            vocab_size=151_936,
            width=4096,
            mlp_width=12_288,
            num_layers=36,
            num_heads=32,
            num_kv_heads=8,
            head_width=128,
            rope_theta=1e6,
            has_qkv_bias=False,
            has_qk_norm=True,
            has_tied_head=False,
            max_positions=40_960,
        ),
    },
)
