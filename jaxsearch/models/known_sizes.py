"""Sizes of published models, as their own `config.json` on the Hub gives them.

So that a run of one of them can be planned without a network and without its weights.
Loading reads the file itself.
"""

import dataclasses
from collections.abc import Mapping

from jaxsearch.models.architecture import Architecture, RopeScaling


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

ARCHITECTURES: Mapping[str, Architecture] = {
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
            factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_len=8192
        ),
        norm_eps=1e-5,
        has_qkv_bias=False,
        has_tied_head=False,
        max_positions=131_072,
    ),
}
