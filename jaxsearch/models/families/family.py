"""A model family, and the readers and writers that families share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxsearch.models.architecture import Architecture, RopeScaling

HFConfig = dict[str, Any]  # the fields of a config.json
TreePath = tuple[str, ...]

# Parameters of a block -> names of tensors after `model.layers.N.`, as in Llama files.
LLAMA_LAYER_NAMES: Mapping[TreePath, str] = {
    ("attention_norm", "scale"): "input_layernorm.weight",
    ("projections", "query"): "self_attn.q_proj.weight",
    ("projections", "query_bias"): "self_attn.q_proj.bias",
    ("projections", "query_norm", "scale"): "self_attn.q_norm.weight",
    ("projections", "key"): "self_attn.k_proj.weight",
    ("projections", "key_bias"): "self_attn.k_proj.bias",
    ("projections", "key_norm", "scale"): "self_attn.k_norm.weight",
    ("projections", "value"): "self_attn.v_proj.weight",
    ("projections", "value_bias"): "self_attn.v_proj.bias",
    ("projections", "out"): "self_attn.o_proj.weight",
    ("mlp_norm", "scale"): "post_attention_layernorm.weight",
    ("mlp", "gate"): "mlp.gate_proj.weight",
    ("mlp", "up"): "mlp.up_proj.weight",
    ("mlp", "down"): "mlp.down_proj.weight",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One Hugging Face model type.

    Attributes:
      model_type: the `model_type` of config.json.
      class_name: name of the model's class in transformers.
      read: returns the architecture that a config.json describes. It raises ValueError
        for options that change the network in a way the block does not support.
      write: the inverse of `read`; the caller adds model type, class and dtype. It may
        ignore fields of an architecture that the family does not have.
      layer_names: parameters of a block -> names of tensors after `model.layers.N.`.
        Parameters that an architecture does not have are skipped.
      sizes: published models, copied from their config.json on the Hub, so that a run
        can be planned without network access. Loading a model reads its config.json.
    """

    model_type: str
    class_name: str
    read: Callable[[HFConfig], Architecture]
    write: Callable[[Architecture], HFConfig]
    layer_names: Mapping[TreePath, str] = dataclasses.field(
        default_factory=lambda: LLAMA_LAYER_NAMES
    )
    sizes: Mapping[str, Architecture] = dataclasses.field(default_factory=dict)


def required(config: HFConfig, name: str) -> Any:
    """The value of a field.

    Raises:
      ValueError: if the field is missing or null.
    """
    if config.get(name) is None:
        raise ValueError(f"config.json has no field {name!r}")
    return config[name]


def refuse_options(config: HFConfig, supported: Mapping[str, Any]) -> None:
    """Rejects options that change the network in an unsupported way.

    Args:
      supported: the only supported value of each option; absent and null are accepted.

    Raises:
      ValueError: naming the first option with another value.
    """
    for name, value in supported.items():
        if config.get(name) not in (None, value):
            raise ValueError(
                f"{name} = {config[name]!r:.80} is not supported for "
                f"{config['model_type']}; only {value!r} is"
            )


def refuse_local_layers(config: HFConfig) -> None:
    """Raises ValueError if any layer has attention other than full attention."""
    kinds = {*map(str, config.get("layer_types") or ())} - {"full_attention"}
    if kinds:
        raise ValueError(
            f"layer_types {sorted(kinds)!s:.200} are not supported for "
            f"{config['model_type']}; only full attention is, no sliding-window "
            "attention"
        )


def read_sizes(config: HFConfig) -> dict[str, Any]:
    """Arguments of `Architecture` whose fields have the same names in every family.

    Files written by transformers 4 have separate fields `rope_theta` and
    `rope_scaling`; those of transformers 5 have both in `rope_parameters`.
    """
    width, num_heads = (
        required(config, "hidden_size"),
        required(config, "num_attention_heads"),
    )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {
        "vocab_size": required(config, "vocab_size"),
        "width": width,
        "mlp_width": required(config, "intermediate_size"),
        "num_layers": required(config, "num_hidden_layers"),
        "num_heads": num_heads,
        "num_kv_heads": config.get("num_key_value_heads") or num_heads,
        "head_width": config.get("head_dim") or width // num_heads,
        "rope_theta": _rope_theta(rope, config),
        "rope_scaling": read_rope_scaling(rope),
        "norm_eps": float(config.get("rms_norm_eps") or 1e-6),
        "has_tied_head": _flag(config, "tie_word_embeddings"),
        "max_positions": config.get("max_position_embeddings"),
    }


def _rope_theta(*places: HFConfig) -> float:
    """The first rotary base that is not null, or the default of transformers."""
    found = (place.get("rope_theta") for place in places)
    return float(next((theta for theta in found if theta is not None), 10_000.0))


def _flag(config: HFConfig, name: str) -> bool:
    value = config.get(name) or False
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r:.80}")
    return value


def write_sizes(architecture: Architecture) -> HFConfig:
    """The inverse of `read_sizes`, in the layout of transformers 4."""
    return {
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.width,
        "intermediate_size": architecture.mlp_width,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "num_key_value_heads": architecture.num_kv_heads,
        "head_dim": architecture.head_width,
        "rope_theta": architecture.rope_theta,
        "rope_scaling": write_rope_scaling(architecture.rope_scaling),
        "rms_norm_eps": architecture.norm_eps,
        "max_position_embeddings": architecture.max_positions,
        "tie_word_embeddings": architecture.has_tied_head,
    }


def read_llama_block(config: HFConfig, **options: bool) -> Architecture:
    """The architecture of a family whose block is Llama's, with these options of it.

    Raises:
      ValueError: for options that the block does not have.
    """
    refuse_options(
        config,
        {
            "hidden_act": "silu",
            "mlp_bias": False,
            "partial_rotary_factor": 1.0,
            "use_sliding_window": False,
        },
    )
    refuse_local_layers(config)
    return Architecture(**read_sizes(config), **options)


def write_llama_block(architecture: Architecture) -> HFConfig:
    """The inverse of `read_llama_block`."""
    return {**write_sizes(architecture), "hidden_act": "silu"}


def read_rope_scaling(rope: HFConfig) -> RopeScaling | None:
    """The scaling that `rope_scaling` or `rope_parameters` describes.

    Raises:
      ValueError: if the scaling is neither Llama 3's nor none.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(
            f"rope scaling {kind!r:.80} is not supported; only 'llama3' and none are"
        )
    return RopeScaling(
        factor=float(required(rope, "factor")),
        low_freq_factor=float(required(rope, "low_freq_factor")),
        high_freq_factor=float(required(rope, "high_freq_factor")),
        original_len=int(required(rope, "original_max_position_embeddings")),
    )


def write_rope_scaling(scaling: RopeScaling | None) -> HFConfig | None:
    """The inverse of `read_rope_scaling`."""
    if scaling is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_len,
    }
