"""Llama 2 and 3."""

from jaxsearch.models.architecture import Architecture, RopeScaling
from jaxsearch.models.families.family import (
    Family,
    HFConfig,
    read_llama_block,
    refuse_options,
    write_llama_block,
)


def _read(config: HFConfig) -> Architecture:
    refuse_options(config, {"attention_bias": False})
    return read_llama_block(config, has_qkv_bias=False)


LLAMA = Family(
    model_type="llama",
    class_name="LlamaForCausalLM",
    read=_read,
    write=write_llama_block,
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
