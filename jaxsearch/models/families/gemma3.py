"""Gemma 3, text only: sandwich norms, GeGLU, scaled embeddings, local layers."""

from typing import Any

import jax

from jaxsearch.models.architecture import Architecture, LocalAttention
from jaxsearch.models.families.family import (
    LLAMA_LAYER_NAMES,
    Family,
    HFConfig,
    read_rope_scaling,
    read_sizes,
    refuse_options,
    required,
    write_sizes,
)

_LAYER_NAMES = {
    **LLAMA_LAYER_NAMES,
    ("post_attention_norm", "scale"): "post_attention_layernorm.weight",
    ("mlp_norm", "scale"): "pre_feedforward_layernorm.weight",
    ("post_mlp_norm", "scale"): "post_feedforward_layernorm.weight",
}
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"


def gelu_tanh(x: Any) -> Any:
    """The tanh approximation of GELU."""
    return jax.nn.gelu(x, approximate=True)


def _read(config: HFConfig) -> Architecture:
    refuse_options(
        config,
        {
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "use_bidirectional_attention": False,
        },
    )
    rope = _rope_of_kinds(config)
    if read_rope_scaling(rope[_LOCAL]) is not None:
        raise ValueError(
            f"{config['model_type']}: scaled rotary positions of {_LOCAL} layers are "
            f"not supported, found {rope[_LOCAL]!r:.80}"
        )
    sizes = read_sizes({"tie_word_embeddings": True, **config, "rope_parameters": {}})
    return Architecture(
        **sizes
        | {
            "rope_theta": float(required(rope[_GLOBAL], "rope_theta")),
            "rope_scaling": read_rope_scaling(rope[_GLOBAL]),
        },
        has_qkv_bias=False,
        has_qk_norm=True,
        has_post_norms=True,
        norm_scale_offset=1.0,
        activation=gelu_tanh,
        embedding_scale=sizes["width"] ** 0.5,
        query_scale=float(required(config, "query_pre_attn_scalar")) ** -0.5,
        local_attention=LocalAttention(
            window=required(config, "sliding_window"),
            is_local=tuple(kind == _LOCAL for kind in _layer_kinds(config)),
            rope_theta=float(required(rope[_LOCAL], "rope_theta")),
        ),
    )


def _rope_of_kinds(config: HFConfig) -> dict[str, HFConfig]:
    """Rotary settings of global and local layers (one field in transformers 5)."""
    if rope := config.get("rope_parameters"):
        return {kind: required(rope, kind) for kind in (_GLOBAL, _LOCAL)}
    scaling = config.get("rope_scaling") or {}
    return {
        _GLOBAL: {"rope_theta": config.get("rope_theta", 1e6), **scaling},
        _LOCAL: {"rope_theta": config.get("rope_local_base_freq", 1e4)},
    }


def _layer_kinds(config: HFConfig) -> list[str]:
    """The kind of each layer; older files give only the period of global layers."""
    if kinds := config.get("layer_types"):
        if unknown := [kind for kind in kinds if kind not in (_LOCAL, _GLOBAL)]:
            raise ValueError(
                f"{config['model_type']}: layers of the kind {unknown[0]!r:.80} are "
                f"not supported; only {_LOCAL} and {_GLOBAL} are"
            )
        return kinds
    period = config.get("sliding_window_pattern") or 6
    num_layers = required(config, "num_hidden_layers")
    return [_LOCAL if (i + 1) % period else _GLOBAL for i in range(num_layers)]


def _write(architecture: Architecture) -> HFConfig:
    local, scale = architecture.local_attention, architecture.query_scale
    is_local = local.is_local if local else [False] * architecture.num_layers
    return {
        **write_sizes(architecture),
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": round(scale**-2) if scale else architecture.head_width,
        "sliding_window": local.window if local else 1,
        "layer_types": [_LOCAL if one else _GLOBAL for one in is_local],
        "rope_local_base_freq": local.rope_theta if local else 1e4,
    }


GEMMA3 = Family(
    model_type="gemma3_text",
    class_name="Gemma3ForCausalLM",
    read=_read,
    write=_write,
    layer_names=_LAYER_NAMES,
)
