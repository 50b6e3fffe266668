"""An architecture from and to Hugging Face's `config.json`."""

from typing import Any

from jaxsearch.models.architecture import Architecture, RopeScaling

_CLASSES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
}
# Options that change the network in a way that is not built here, with the value at
# which they do not.
_OFF = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "use_sliding_window": False,
    "partial_rotary_factor": 1.0,
}


def from_hf_config(config: dict[str, Any]) -> Architecture:
    """The architecture that a Hugging Face `config.json` describes.

    Files of transformers 4 and 5 are read: the former have `rope_theta` and
    `rope_scaling` side by side, the latter both in `rope_parameters`.

    Errors: ValueError names the model type or the option that is not supported, or
    the field that is missing.
    """
    kind = config.get("model_type")
    if kind not in _CLASSES:
        raise ValueError(
            f"model_type {kind!r} is not supported; known: {list(_CLASSES)}"
        )
    # Qwen2 has biases on queries, keys and values and names no option for them.
    off = _OFF if kind == "qwen2" else {**_OFF, "attention_bias": False}
    for name, value in off.items():
        if config.get(name) not in (None, value):
            raise ValueError(
                f"{name} = {config[name]!r} is not supported for {kind}; only "
                f"{value!r} is"
            )
    kinds = set(config.get("layer_types") or ()) - {"full_attention"}
    if kinds:
        raise ValueError(
            f"layer_types {sorted(kinds)} are not supported; only full attention is, "
            "no sliding-window attention"
        )
    if config.get("quantization_config"):
        raise ValueError("quantised weights are not supported; use the plain model")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    width, num_heads = (
        _field(config, "hidden_size"),
        _field(config, "num_attention_heads"),
    )
    return Architecture(
        vocab_size=_field(config, "vocab_size"),
        width=width,
        mlp_width=_field(config, "intermediate_size"),
        num_layers=_field(config, "num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=config.get("num_key_value_heads") or num_heads,
        head_width=config.get("head_dim") or width // num_heads,
        rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
        rope_scaling=_rope_scaling(rope),
        norm_eps=config.get("rms_norm_eps", 1e-6),
        has_qkv_bias=kind == "qwen2",
        has_qk_norm=kind == "qwen3",
        has_tied_head=config.get("tie_word_embeddings", False),
        max_positions=config.get("max_position_embeddings"),
    )


def to_hf_config(
    architecture: Architecture, *, max_positions: int, dtype: str
) -> dict[str, Any]:
    """The `config.json` with which transformers builds the same network.

    It is in the layout of transformers 4, which 5, vLLM and SGLang read too.

    Args:
      max_positions: written where the architecture does not say for how long contexts
        it was made.
    """
    kind = "llama"
    if architecture.has_qkv_bias:
        kind = "qwen2"
    if architecture.has_qk_norm:
        kind = "qwen3"
    scaling = architecture.rope_scaling
    return {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.width,
        "intermediate_size": architecture.mlp_width,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_dim": architecture.head_width,
        "hidden_act": "silu",
        "rope_theta": architecture.rope_theta,
        "rope_scaling": None
        if scaling is None
        else {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_len,
        },
        "rms_norm_eps": architecture.norm_eps,
        "max_position_embeddings": architecture.max_positions or max_positions,
        "tie_word_embeddings": architecture.has_tied_head,
        "torch_dtype": dtype,
    }


def _field(config: dict[str, Any], name: str) -> Any:
    if name not in config:
        raise ValueError(f"config.json has no field {name!r}")
    return config[name]


def _rope_scaling(rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(
            f"rope scaling {kind!r} is not supported; only 'llama3' and none are"
        )
    return RopeScaling(
        factor=float(_field(rope, "factor")),
        low_freq_factor=float(_field(rope, "low_freq_factor")),
        high_freq_factor=float(_field(rope, "high_freq_factor")),
        original_len=int(_field(rope, "original_max_position_embeddings")),
    )
