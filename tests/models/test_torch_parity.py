"""The decoder against transformers, on folders written by either of them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.models.architecture import (
    Architecture,
    LocalAttention,
    RopeScaling,
)
from jaxsearch.models.attention import attend
from jaxsearch.models.convert import to_hf
from jaxsearch.models.families.gemma3 import gelu_tanh
from jaxsearch.models.rotary import rotary_frequencies
from jaxsearch.models.transformer import Transformer
from jaxsearch.run.policy import read_architecture
from tests.hf_folders import read_here
from tests.segments import whole_rows

torch = pytest.importorskip("torch", reason="PyTorch is the oracle (parity extra)")

VOCAB_SIZE = 97
QWEN2 = Architecture(
    vocab_size=VOCAB_SIZE,
    width=64,
    mlp_width=96,
    num_layers=3,
    num_heads=4,
    num_kv_heads=1,
    head_width=16,
    rope_theta=1e6,
    max_positions=32,
)
LLAMA = dataclasses.replace(
    QWEN2, has_qkv_bias=False, has_tied_head=False, rope_theta=5e5, norm_eps=1e-5
)


def scaled(factor):
    """Llama 3.1's kind of scaling, for a context short enough for a test to exceed."""
    return RopeScaling(
        factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_len=32
    )


FAMILIES = {
    "qwen2_tied_4to1": QWEN2,
    "qwen2_7to1": dataclasses.replace(
        QWEN2, has_tied_head=False, num_heads=14, num_kv_heads=2, head_width=8
    ),
    "qwen3_2to1": dataclasses.replace(
        QWEN2,
        has_qkv_bias=False,
        has_qk_norm=True,
        num_kv_heads=2,
        head_width=24,
        has_tied_head=False,
    ),
    "qwen3_tied_1to1": dataclasses.replace(
        QWEN2, has_qkv_bias=False, has_qk_norm=True, num_kv_heads=4
    ),
    "llama_1to1": dataclasses.replace(LLAMA, num_kv_heads=4),
    "llama_scaled_8": dataclasses.replace(
        LLAMA, rope_scaling=scaled(8.0), max_positions=256
    ),
    "llama_tied_scaled_32": dataclasses.replace(
        LLAMA,
        rope_scaling=scaled(32.0),
        max_positions=1024,
        has_tied_head=True,
        num_kv_heads=2,
    ),
    # Every other layer has a window of seven tokens; the tests' context is up to 200.
    "gemma3": dataclasses.replace(
        QWEN2,
        num_layers=4,
        num_kv_heads=2,
        has_qkv_bias=False,
        has_qk_norm=True,
        has_post_norms=True,
        norm_scale_offset=1.0,
        activation=gelu_tanh,
        embedding_scale=8.0,
        query_scale=24.0**-0.5,
        local_attention=LocalAttention(
            window=7, is_local=(True, True, False, True), rope_theta=1e4
        ),
    ),
}


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def pair(request, tmp_path_factory):
    """Their model, and ours read from the folder that theirs wrote."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from jaxsearch.models.hf_config import to_hf_config

    architecture = FAMILIES[request.param]
    config = to_hf_config(architecture, max_positions=0, dtype="float32")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and scales start as 0 and 1
                parameter += 0.3 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    assert read_architecture(str(folder)) == architecture
    transformer = Transformer(architecture=architecture)
    return model, transformer, read_here(folder, transformer)


def rows(batch_size, length):
    rng = np.random.default_rng(1)
    return rng.integers(0, VOCAB_SIZE, (batch_size, length)).astype(np.int32)


def our_logits(transformer, params, tokens, lengths):
    segments = whole_rows(lengths, tokens.shape[1])
    hidden = transformer.hidden(params, jnp.asarray(tokens), jnp.asarray(segments))
    return jnp.einsum("BTD,VD->BTV", hidden, transformer.head(params))


def assert_same_logits(ours, theirs):
    theirs = theirs.detach().numpy()
    assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max()
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


def test_logits_beyond_the_original_context(pair):
    model, transformer, params = pair
    tokens = rows(2, 200)
    with torch.no_grad():
        theirs = model(torch.tensor(tokens, dtype=torch.long)).logits
    assert_same_logits(our_logits(transformer, params, tokens, [200, 200]), theirs)


def test_logits_of_padded_rows(pair):
    model, transformer, params = pair
    tokens, lengths = rows(3, 24), [24, 5, 13]
    is_token = torch.arange(24)[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        theirs = model(
            torch.tensor(tokens, dtype=torch.long), attention_mask=is_token.long()
        ).logits
    ours = our_logits(transformer, params, tokens, lengths)
    for row, length in enumerate(lengths):
        assert_same_logits(ours[row, :length], theirs[row, :length])


def test_logits_of_rows_packed_into_one(pair):
    model, transformer, params = pair
    tokens, lengths = rows(1, 30), (11, 19)
    segments = np.repeat([0, 1], lengths)[None]
    positions = np.concatenate([np.arange(n) for n in lengths])[None]
    age = np.arange(30)[:, None] - np.arange(30)

    def attention(state, shared, window, query, key, value):
        is_visible = (age >= 0) & (age < (window or 30))
        heads = attend(
            query,
            key.transpose(0, 2, 3, 1),
            value.transpose(0, 2, 1, 3),
            jnp.asarray((segments[:, :, None] == segments[:, None]) & is_visible),
        )
        return heads, None

    hidden, _ = transformer.hidden_with(
        transformer.for_rollouts(params),
        jnp.asarray(tokens),
        jnp.asarray(positions, jnp.int32),
        attention,
        [None] * transformer.architecture.num_layers,
        None,
    )
    ours = jnp.einsum("BTD,VD->BTV", hidden, transformer.head(params))
    for segment in (0, 1):
        alone = tokens[segments == segment][None]
        with torch.no_grad():
            theirs = model(torch.tensor(alone, dtype=torch.long)).logits
        assert_same_logits(ours[:, segments[0] == segment], theirs)


def test_gradients(pair):
    model, transformer, params = pair
    tokens = rows(2, 40)

    def loss(params):
        logits = our_logits(transformer, params, tokens, [40, 40])
        logprobs = jax.nn.log_softmax(logits[:, :-1])
        return -jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=2).mean()

    ours = dict(to_hf(jax.grad(loss)(params), transformer.architecture))
    long = torch.tensor(tokens, dtype=torch.long)
    model.zero_grad()
    model(long, labels=long).loss.backward()
    theirs = {n: p.grad.numpy() for n, p in model.named_parameters()}
    assert theirs.keys() == ours.keys()
    for name, gradient in theirs.items():
        off = np.linalg.norm(ours[name] - gradient) / np.linalg.norm(gradient)
        assert off <= 1e-4, name


@pytest.mark.parametrize("scaling", [None, scaled(8.0), scaled(32.0)])
def test_frequencies_are_theirs_but_for_rounding(scaling):
    from transformers import AutoConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from jaxsearch.models.hf_config import to_hf_config

    if scaling is not None:
        scaling = dataclasses.replace(scaling, original_len=8192)
    for theta, H in ((1e4, 64), (5e5, 128), (1e6, 128), (1e6, 80)):
        architecture = dataclasses.replace(
            LLAMA, rope_theta=theta, head_width=H, rope_scaling=scaling
        )
        architecture = dataclasses.replace(architecture, max_positions=131_072)
        config = to_hf_config(architecture, max_positions=0, dtype="float32")
        theirs = LlamaRotaryEmbedding(AutoConfig.for_model(**config)).inv_freq.numpy()
        # Theirs are rounded after every operation, one of which is a difference.
        np.testing.assert_allclose(rotary_frequencies(architecture), theirs, rtol=2e-6)


def test_they_read_what_we_write(pair, tmp_path):
    from transformers import AutoModelForCausalLM

    from jaxsearch.models.hf_config import to_hf_config
    from jaxsearch.models.save import save_tensors

    model, transformer, params = pair
    architecture = transformer.architecture
    config = to_hf_config(architecture, max_positions=0, dtype="float32")
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_tensors(tmp_path, params, architecture, "float32", max_file_bytes=30_000)
    assert len(list(tmp_path.glob("model-0*-of-0*.safetensors"))) > 2
    again, info = AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    for (name, new), (_, old) in zip(
        again.named_parameters(), model.named_parameters(), strict=True
    ):
        assert torch.equal(new, old), name
