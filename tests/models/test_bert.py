"""BERT against NumPy in float64, and against transformers with random weights."""

import json
import math
import shutil
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.models.bert import POOLINGS, Bert
from jaxsearch.models.bert_architecture import (
    BertArchitecture,
    bert_from_hf_config,
    bert_to_hf_config,
)
from jaxsearch.models.bert_files import (
    read_bert_architecture,
    read_bert_params,
    write_bert,
)

SMALL = BertArchitecture(
    vocab_size=40,
    width=24,
    mlp_width=36,
    num_layers=2,
    num_heads=4,
    max_positions=20,
    num_token_types=2,
)
# One head, layer and token type; and many heads with an MLP narrower than the stream.
SHAPES = {
    "small": SMALL,
    "one": BertArchitecture(
        vocab_size=9,
        width=8,
        mlp_width=64,
        num_layers=1,
        num_heads=1,
        max_positions=20,
        num_token_types=1,
        norm_eps=1e-5,
    ),
    "deep": BertArchitecture(
        vocab_size=70,
        width=48,
        mlp_width=32,
        num_layers=12,
        num_heads=12,
        max_positions=20,
        num_token_types=2,
    ),
}


def make(architecture=SMALL, seed=0, pooling="mean", **settings):
    """A network in which every parameter is random, including biases and scales."""
    bert = Bert(
        architecture=architecture,
        pooling=POOLINGS[pooling],
        is_normalised=settings.pop("is_normalised", True),
        **settings,
    )
    leaves, tree = jax.tree.flatten(bert.shapes)
    rng = np.random.default_rng(seed)
    values = [jnp.asarray(rng.normal(size=x.shape) / 3, jnp.float32) for x in leaves]
    return bert, jax.tree.unflatten(tree, values)


def rows(architecture, lengths, row_len, seed=1):
    """Random ids, including those of padding."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(architecture.vocab_size, size=(len(lengths), row_len))
    return jnp.asarray(ids, jnp.int32), jnp.asarray(lengths, jnp.int32)


def reference(params, architecture, tokens):
    """Final hidden states of one row, in float64, one head and position at a time."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    H = architecture.head_width

    def norm(row, weights):
        row = (row - np.mean(row)) / np.sqrt(np.var(row) + architecture.norm_eps)
        return row * weights["scale"] + weights["bias"]

    def linear(row, weights):
        return weights["weight"] @ row + weights["bias"]

    def gelu(value):
        return value * 0.5 * (1 + math.erf(value / math.sqrt(2)))

    x = [
        norm(p["words"][t] + p["positions"][i] + p["token_types"][0], p["norm"])
        for i, t in enumerate(tokens)
    ]
    for number in range(architecture.num_layers):
        block = p["blocks"][number]
        qkv = [linear(row, block["qkv"]).reshape(3, -1, H) for row in x]
        attended = []
        for i in range(len(x)):
            heads = []
            for n in range(architecture.num_heads):
                scores = [qkv[i][0, n] @ other[1, n] / math.sqrt(H) for other in qkv]
                weights = np.exp(scores - np.max(scores))
                weights /= weights.sum()
                heads.append(
                    sum(w * o[2, n] for w, o in zip(weights, qkv, strict=True))
                )
            attended.append(np.concatenate(heads))
        x = [
            norm(row + linear(heads, block["out"]), block["attention_norm"])
            for row, heads in zip(x, attended, strict=True)
        ]
        wide = [[gelu(v) for v in linear(row, block["up"])] for row in x]
        x = [
            norm(row + linear(np.array(h), block["down"]), block["mlp_norm"])
            for row, h in zip(x, wide, strict=True)
        ]
    return np.array(x)


@pytest.mark.slow
def test_hidden_states_equal_those_of_numpy():
    bert, params = make()
    tokens, lengths = rows(SMALL, [7, 3, 9], 9)
    hidden = bert.hidden(params, tokens, lengths)
    for row, ids, length in zip(hidden, tokens, lengths, strict=True):
        expected = reference(params, SMALL, ids[:length])
        np.testing.assert_allclose(row[:length], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_poolings_and_norm_by_hand():
    hidden = jnp.array([[[3.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    one, two = jnp.array([1]), jnp.array([2])
    assert POOLINGS["mean"](hidden, two).tolist() == [[1.5, 1.0]]
    assert POOLINGS["mean"](hidden, one).tolist() == [[3.0, 0.0]]
    assert POOLINGS["mean"](hidden, jnp.array([0])).tolist() == [[0.0, 0.0]]
    assert POOLINGS["cls"](hidden, two).tolist() == [[3.0, 0.0]]
    bert, params = make()
    raw, _ = make(is_normalised=False)
    tokens, lengths = rows(SMALL, [5, 2], 6)
    vectors = bert.embed(params, tokens, lengths)
    plain = raw.embed(params, tokens, lengths)
    np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    norms = np.linalg.norm(plain, axis=1, keepdims=True)
    assert (np.abs(norms - 1) > 0.01).all()  # the test can fail
    np.testing.assert_allclose(vectors, plain / norms, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_and_other_rows_change_nothing(pooling):
    bert, params = make(pooling=pooling)
    tokens, lengths = rows(SMALL, [6, 2, 8], 8)
    vectors = bert.embed(params, tokens, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = bert.embed(params, tokens[i : i + 1, :length], lengths[i : i + 1])
        np.testing.assert_allclose(alone[0], vectors[i], atol=1e-6)
        longer = jnp.pad(tokens, ((0, 0), (0, 7)), constant_values=i)
        np.testing.assert_allclose(
            bert.embed(params, longer, lengths)[i], vectors[i], atol=1e-6
        )


@pytest.mark.slow
def test_every_token_sees_every_other():
    bert, params = make(pooling="cls")
    tokens, lengths = rows(SMALL, [6], 8)

    def total(words):
        return bert.embed({**params, "words": words}, tokens, lengths).sum()

    gradient = np.abs(jax.grad(total)(params["words"])).sum(axis=1)
    seen = set(tokens[0, :6].tolist())
    assert set(np.flatnonzero(gradient)) == seen
    assert len(seen) > 1


@pytest.mark.slow
def test_bfloat16_is_near_and_its_weights_are_cast_once():
    bert, params = make(dtype=jnp.bfloat16)
    cast = bert.for_encoding(params)
    assert cast["blocks"][0]["qkv"]["weight"].dtype == jnp.bfloat16
    assert cast["blocks"][0]["mlp_norm"]["scale"].dtype == jnp.float32
    assert cast["words"].dtype == jnp.float32
    tokens, lengths = rows(SMALL, [6, 9], 9)
    vectors = bert.embed(cast, tokens, lengths)
    assert vectors.dtype == jnp.float32
    exact = make()[0].embed(params, tokens, lengths)
    difference = np.abs(vectors - exact).max()
    assert 1e-5 < difference < 3e-2


@pytest.mark.slow
def test_random_weights_are_as_many_as_promised():
    for architecture in SHAPES.values():
        bert = Bert(
            architecture=architecture, pooling=POOLINGS["cls"], is_normalised=True
        )
        params = bert.init(jax.random.key(0))
        assert jax.tree.structure(params) == jax.tree.structure(bert.shapes)
        num = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert num == architecture.num_parameters
    # MiniLM-L6-H384-uncased and bert-base-uncased, without their poolers.
    minilm = bert_from_hf_config(hf_config(384, 1536, 6, 12))
    assert minilm.num_parameters == 22_713_216 - (384 * 384 + 384)
    base = bert_from_hf_config(hf_config(768, 3072, 12, 12))
    assert base.num_parameters == 109_482_240 - (768 * 768 + 768)


def hf_config(width, mlp_width, num_layers, num_heads):
    return {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": width,
        "intermediate_size": mlp_width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta' is not supported"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new' is not .* expected 'gelu'"),
        (
            {"position_embedding_type": "relative_key"},
            "'relative_key' is not supported",
        ),
        ({"is_decoder": True}, "is_decoder True"),
        ({"quantization_config": {"bits": 8}}, "quantization_config"),
        ({"num_attention_heads": 5}, "multiple of num_heads, got 24 and 5"),
        ({"hidden_size": "24"}, "hidden_size must be a positive integer, got '24'"),
        (
            {"type_vocab_size": None},
            "type_vocab_size must be .* got None",
        ),
        (
            {"num_hidden_layers": 0},
            "num_hidden_layers must be .* got 0",
        ),
        ({"layer_norm_eps": 0}, "layer_norm_eps must be positive and finite, got 0"),
    ],
)
def test_an_unsupported_config_names_the_option(changes, message):
    config = bert_to_hf_config(SMALL)
    with pytest.raises(ValueError, match=message):
        bert_from_hf_config(config | changes)
    with pytest.raises(ValueError, match="hidden_size must be .* got nothing"):
        bert_from_hf_config({k: v for k, v in config.items() if k != "hidden_size"})


@pytest.fixture
def folder(tmp_path):
    _, params = make()
    write_bert(tmp_path, SMALL, params)
    return tmp_path


def test_written_and_read_again_is_the_same(folder):
    bert, params = make()
    assert read_bert_architecture(folder) == SMALL
    found = read_bert_params(folder, bert.shapes)
    jax.tree.map(np.testing.assert_array_equal, found, params)


def rewrite(folder, change):
    """The folder's tensors, changed: a function of their dict."""
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)


def test_old_names_prefixes_and_what_embeddings_do_not_use(folder):
    bert, params = make()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(name):
        for new, before in old.items():
            name = name.replace(new, before)
        return f"bert.{name}"

    extra = {
        "bert.pooler.dense.weight": np.ones((24, 24), np.float32),
        "bert.embeddings.position_ids": np.arange(20),
        "cls.predictions.bias": np.ones(40, np.float32),
    }
    rewrite(folder, lambda t: {renamed(k): v for k, v in t.items()} | extra)
    found = read_bert_params(folder, bert.shapes)
    jax.tree.map(np.testing.assert_array_equal, found, params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_files_are_cast(folder, dtype):
    bert, params = make()
    rewrite(folder, lambda t: {k: v.astype(jnp.dtype(dtype)) for k, v in t.items()})
    found = read_bert_params(folder, bert.shapes)

    def check(found, exact):
        assert found.dtype == np.float32
        expected = exact.astype(jnp.dtype(dtype)).astype(np.float32)
        np.testing.assert_array_equal(found, expected)

    jax.tree.map(check, found, params)


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_bert_params(folder, make()[0].shapes)
    assert "\n" not in str(caught.value)
    assert "model.safetensors" in str(caught.value)


def test_tensors_that_do_not_fit_are_named_with_their_file(folder):
    key = "encoder.layer.1.attention.self.key.weight"
    intact = (folder / "model.safetensors").read_bytes()
    rewrite(folder, lambda t: {k: v for k, v in t.items() if k != key})
    with pytest.raises(ValueError, match=f"{folder}: no tensor {key} in its"):
        read_bert_params(folder, make()[0].shapes)
    (folder / "model.safetensors").write_bytes(intact)
    rewrite(folder, lambda t: t | {key: np.ones((24, 23), np.float32)})
    refused(folder, rf"tensor {key} has shape \(24, 23\), config.json .* \(24, 24\)")
    (folder / "model.safetensors").write_bytes(intact)
    up = "encoder.layer.0.intermediate.dense.weight"
    rewrite(folder, lambda t: t | {up: t[up].T.copy()})
    refused(folder, rf"tensor {up} has shape \(24, 36\), config.json .* \(36, 24\)")
    (folder / "model.safetensors").write_bytes(intact)
    rewrite(folder, lambda t: t | {key: np.ones((24, 24), np.int64)})
    refused(folder, f"tensor {key} is int64, expected floats")
    (folder / "model.safetensors").write_bytes(intact)
    layer = "encoder.layer.2.output.dense.bias"  # there are two layers
    rewrite(folder, lambda t: t | {layer: np.ones(24, np.float32)})
    refused(folder, f"unexpected tensor {layer}, which config.json does not describe")


def test_a_damaged_file_is_named(folder):
    file = folder / "model.safetensors"
    intact = file.read_bytes()
    file.write_bytes(intact[:-10])
    refused(folder, "is truncated: tensor encoder")
    file.write_bytes(struct.pack("<Q", 10**15) + intact[8:])
    refused(folder, "is truncated or not a safetensors file")
    file.write_bytes(b"")
    refused(folder, "is truncated or not a safetensors file")
    file.unlink()
    with pytest.raises(ValueError, match=r"has no \*.safetensors"):
        read_bert_params(folder, make()[0].shapes)


def test_a_damaged_config_is_named(folder):
    path = folder / "config.json"
    path.write_text('{"model_type": "bert"')
    with pytest.raises(ValueError, match="config.json: not JSON"):
        read_bert_architecture(folder)
    path.write_text("[]")
    with pytest.raises(ValueError, match="config.json: expected a JSON object"):
        read_bert_architecture(folder)
    path.write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ValueError, match="config.json: model_type 't5'"):
        read_bert_architecture(folder)
    path.unlink()
    with pytest.raises(ValueError, match="has no config.json"):
        read_bert_architecture(folder)


@pytest.mark.parametrize("is_prefixed", [False, True], ids=["plain", "prefixed"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", SHAPES)
def test_embeddings_equal_those_of_transformers(tmp_path, name, pooling, is_prefixed):
    torch = pytest.importorskip("torch", reason="needs PyTorch: the parity extra")
    from transformers import BertConfig, BertForMaskedLM, BertModel

    architecture = SHAPES[name]
    fields = bert_to_hf_config(architecture)
    config = BertConfig(**{k: v for k, v in fields.items() if k != "architectures"})
    torch.manual_seed(0)
    # A full language model writes names with the prefix `bert.`.
    whole = (BertForMaskedLM if is_prefixed else BertModel)(config).eval()
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    whole.save_pretrained(tmp_path)
    model = whole.bert if is_prefixed else whole

    assert read_bert_architecture(tmp_path) == architecture
    bert, _ = make(architecture, pooling=pooling)
    params = read_bert_params(tmp_path, bert.shapes)
    tokens, lengths = rows(architecture, [11, 4, 17, 1], 17)
    is_token = np.arange(17)[None] < np.asarray(lengths)[:, None]
    with torch.no_grad():
        hidden = model(
            torch.tensor(np.asarray(tokens), dtype=torch.long),
            attention_mask=torch.tensor(is_token),
        ).last_hidden_state
    if pooling == "cls":
        pooled = hidden[:, 0]
    else:
        weights = torch.tensor(is_token)[..., None]
        pooled = (hidden * weights).sum(1) / weights.sum(1)
    expected = torch.nn.functional.normalize(pooled).numpy()
    vectors = jax.jit(bert.embed)(params, tokens, lengths)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    # Our files of the same weights can be read back.
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    write_bert(tmp_path, architecture, params)
    loaded = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
