"""Llama 2 and 3."""

from jaxsearch.models.architecture import Architecture, RopeScaling
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
    return Architecture(**read_sizes(config), has_qkv_bias=False)


def _write(architecture: Architecture) -> HFConfig:
    return {**write_sizes(architecture), "hidden_act": "silu"}


LLAMA = Family(
    model_type="llama",
    class_name="LlamaForCausalLM",
    read=_read,
    write=_write,
    sizes={
        "meta-llama/Llama-3.1-8B-Instruct": Architecture(
            vocab_size=128_256,
            width=4096,
            mlp_width=14_336,
            num_layers=32,
            num_heads=32,
            num_kv_heads=8,
            head_width=128,
            rope_theta=500_000.0,
            rope_scaling=RopeScaling(
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_len=8192,
            ),
            norm_eps=1e-5,
            has_qkv_bias=False,
            has_tied_head=False,
            max_positions=131_072,
        ),
    },
)
