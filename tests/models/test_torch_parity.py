"""The decoder against transformers' own, with the same random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.models.architecture import Architecture, to_hf_config
from jaxsearch.models.convert import from_hf, to_hf
from jaxsearch.models.transformer import Transformer


def random_params(transformer):
    """Every parameter random, biases and scales too."""
    leaves, tree = jax.tree.flatten(transformer.shapes)
    rng = np.random.default_rng(0)
    values = [jnp.asarray(rng.normal(size=x.shape) / 3, jnp.float32) for x in leaves]
    return jax.tree.unflatten(tree, values)


@pytest.mark.parametrize("is_llama", [False, True], ids=["qwen2", "llama"])
def test_logits_equal_those_of_transformers(is_llama):
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    architecture = Architecture(
        vocab_size=40,
        width=32,
        mlp_width=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=1,
        head_width=8,
        rope_theta=1000.0,
        has_qkv_bias=not is_llama,
        has_tied_head=not is_llama,
    )
    transformer = Transformer(architecture=architecture)
    params = random_params(transformer)

    config = to_hf_config(architecture, max_positions=64, dtype="float32")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    tensors = {n: torch.tensor(a) for n, a in to_hf(params, architecture)}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    tokens = np.random.default_rng(1).integers(0, 40, (2, 12)).astype(np.int32)
    with torch.no_grad():
        expected = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    lengths = jnp.array([12, 12])
    hidden = transformer.hidden(params, jnp.asarray(tokens), lengths)
    logits = jnp.einsum("BTD,VD->BTV", hidden, transformer.head(params))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("has_bias", [True, False])
def test_conversion_round_trip(has_bias):
    architecture = Architecture(
        vocab_size=10,
        width=8,
        mlp_width=12,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_width=6,
        has_qkv_bias=has_bias,
        has_tied_head=has_bias,
    )
    transformer = Transformer(architecture=architecture)
    params = random_params(transformer)
    tensors = dict(to_hf(params, architecture))
    assert tensors["model.layers.1.self_attn.q_proj.weight"].shape == (24, 8)
    assert tensors["model.layers.1.self_attn.o_proj.weight"].shape == (8, 24)
    assert sum(a.size for a in tensors.values()) == architecture.num_parameters
    back = from_hf(tensors.__getitem__, transformer.shapes, architecture)
    jax.tree.map(np.testing.assert_array_equal, params, back)
