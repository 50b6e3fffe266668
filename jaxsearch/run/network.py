"""The network of a config, without its parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxsearch import mesh as meshes
from jaxsearch.config import ModelConfig
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.decode_kernels import decode_kernel
from jaxsearch.models.kernels import Target
from jaxsearch.models.row_kernels import row_attention
from jaxsearch.models.transformer import Transformer
from jaxsearch.run.policy import padded_vocab, read_architecture
from jaxsearch.run.warm_start import origin_tokenizer, weights_model


def run_architecture(model: ModelConfig, tokenizer: Tokenizer) -> Architecture:
    """The architecture of a config's network.

    Raises:
      ValueError: for inconsistent sizes, or a tokenizer with more ids than the model
        has embeddings.
    """
    if not model.path:
        return sized_architecture(model, padded_vocab(tokenizer))
    weights = weights_model(model)
    if weights.path:
        architecture = read_architecture(weights.path)
    else:
        architecture = origin_architecture(model)
    if tokenizer.num_ids > architecture.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.num_ids} ids, but model {model.path} "
            f"has only {architecture.vocab_size}; use the tokenizer of that model"
        )
    return architecture


def origin_architecture(model: ModelConfig) -> Architecture:
    """The architecture of the run in a model's path, which had random weights."""
    weights = weights_model(model)
    # It has an embedding for its own tokenizer.
    theirs = origin_tokenizer(model) or Tokenizer.load(weights.tokenizer)
    return sized_architecture(weights, padded_vocab(theirs))


def sized_architecture(model: ModelConfig, vocab_size: int) -> Architecture:
    """The architecture of a config without a model folder, from its sizes."""
    return Architecture(
        vocab_size=vocab_size,
        width=model.width,
        mlp_width=model.mlp_width,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        head_width=model.head_width,
        rope_theta=model.rope_theta,
        has_qkv_bias=model.has_qkv_bias,
        has_qk_norm=model.has_qk_norm,
        has_tied_head=model.has_tied_head,
    )


def make_transformer(
    model: ModelConfig, architecture: Architecture, mesh: jax.sharding.Mesh
) -> Transformer:
    """The network of a config for training on this mesh, without parameters.

    Raises:
      ValueError: for an attention kernel that the devices cannot run.
    """
    target = Target(
        platform=meshes.platform(mesh),
        dtype=model.dtype,
        head_width=architecture.head_width,
        compute_capability=meshes.compute_capability(mesh),
        has_segments=model.pack_sequences,
        has_windows=architecture.local_attention is not None,
    )
    return Transformer(
        architecture=architecture,
        dtype=jnp.dtype(model.dtype),
        remat=model.remat,
        attention=row_attention(
            model.attention, target, meshes.attention_sharding(mesh)
        ),
        decode_kernel=decode_kernel(model.decode_attention, target),
        is_packed=model.pack_sequences,
        lora=model.lora,
        activation_sharding=meshes.activation_sharding(mesh),
    )


def param_shardings(
    transformer: Transformer, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> Any:
    """The sharding of each parameter in training."""
    return meshes.shardings(mesh, transformer.logical_axes, transformer.shapes)
