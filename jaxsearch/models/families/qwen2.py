"""Qwen2 and Qwen2.5: biases on queries, keys and values."""

import dataclasses

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.families.family import (
    Family,
    HFConfig,
    read_llama_block,
    write_llama_block,
)


def _read(config: HFConfig) -> Architecture:
    # config.json has no option for Qwen2's biases.
    return read_llama_block(config, has_qkv_bias=True)


def _qwen25(
    width: int, mlp_width: int, num_layers: int, num_heads: int, num_kv_heads: int, **o
) -> Architecture:
    options = {"vocab_size": 152_064, "has_tied_head": False, "max_positions": 32_768}
    return Architecture(
        width=width,
        mlp_width=mlp_width,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_width=width // num_heads,
        rope_theta=1e6,
        has_qkv_bias=True,
        **{**options, **o},
    )


_QWEN25_05B = _qwen25(896, 4864, 24, 14, 2, vocab_size=151_936, has_tied_head=True)
_QWEN25_15B = _qwen25(1536, 8960, 28, 12, 2, vocab_size=151_936, has_tied_head=True)
_QWEN25_3B = _qwen25(2048, 11_008, 36, 16, 2, vocab_size=151_936, has_tied_head=True)
_QWEN25_7B = _qwen25(3584, 18_944, 28, 28, 4)
_QWEN25_32B = _qwen25(5120, 27_648, 64, 40, 8, max_positions=131_072)

QWEN2 = Family(
    model_type="qwen2",
    class_name="Qwen2ForCausalLM",
    read=_read,
    write=write_llama_block,
    sizes={
        "Qwen/Qwen2.5-0.5B": _QWEN25_05B,
        "Qwen/Qwen2.5-0.5B-Instruct": _QWEN25_05B,
        "Qwen/Qwen2.5-1.5B": dataclasses.replace(_QWEN25_15B, max_positions=131_072),
        "Qwen/Qwen2.5-1.5B-Instruct": _QWEN25_15B,
        "Qwen/Qwen2.5-3B": _QWEN25_3B,
        "Qwen/Qwen2.5-3B-Instruct": _QWEN25_3B,
        "Qwen/Qwen2.5-7B": dataclasses.replace(_QWEN25_7B, max_positions=131_072),
        "Qwen/Qwen2.5-7B-Instruct": _QWEN25_7B,
        "Qwen/Qwen2.5-32B": _QWEN25_32B,
        "Qwen/Qwen2.5-32B-Instruct": _QWEN25_32B,
    },
)
