"""Qwen3: queries and keys are normalised, and there are no biases."""

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.family import (
    Family,
    HFConfig,
    read_llama_block,
    refuse_options,
    write_llama_block,
)


def _read(config: HFConfig) -> Architecture:
    refuse_options(config, {"attention_bias": False})
    return read_llama_block(config, has_qkv_bias=False, has_qk_norm=True)


QWEN3 = Family(
    model_type="qwen3",
    class_name="Qwen3ForCausalLM",
    read=_read,
    write=write_llama_block,
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
