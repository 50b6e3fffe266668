"""Folders of safetensors: read in parts into shards, and written again."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsearch.mesh import MeshShape
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.convert import to_hf
from jaxsearch.models.hf_config import to_hf_config
from jaxsearch.models.load import load
from jaxsearch.models.save import save_tensors
from jaxsearch.models.tensor_files import INDEX_NAME, open_tensors, read_part
from jaxsearch.models.transformer import Transformer
from jaxsearch.run.policy import read_params
from tests.hf_folders import on_devices, read_here, write_folder

ARCHITECTURE = Architecture(
    vocab_size=48,
    width=16,
    mlp_width=24,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_width=6,
    has_tied_head=False,
)
TRANSFORMER = Transformer(architecture=ARCHITECTURE)


def random_params(transformer=TRANSFORMER, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), dtype), transformer.shapes
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with one file, as transformers would write it."""
    tensors = dict(to_hf(random_params(), ARCHITECTURE))
    return write_folder(tmp_path / "model", ARCHITECTURE, tensors)


def split(folder, max_file_bytes=3000):
    """The same folder with several files and an index."""
    params = read_here(folder, TRANSFORMER)
    (folder / "model.safetensors").unlink()
    save_tensors(folder, params, ARCHITECTURE, "float32", max_file_bytes)
    return folder


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_one_file_and_several_read_the_same(folder):
    assert_equal(read_here(folder, TRANSFORMER), random_params())
    split(folder)
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors" and len(names) > 3
    index = json.loads((folder / INDEX_NAME).read_text())
    assert index["metadata"]["total_size"] == 4 * ARCHITECTURE.num_parameters
    assert_equal(read_here(folder, TRANSFORMER), random_params())


def test_names_in_an_index_may_have_a_folder_or_a_dot(folder):
    split(folder)
    index = json.loads((folder / INDEX_NAME).read_text())
    first, second, *_ = sorted(path.name for path in folder.glob("*.safetensors"))
    (folder / "sub").mkdir()
    (folder / first).rename(folder / "sub" / first)
    spelled = {first: f"sub/{first}", second: f"./{second}"}
    index["weight_map"] = {
        name: spelled.get(file, file) for name, file in index["weight_map"].items()
    }
    (folder / INDEX_NAME).write_text(json.dumps(index))
    assert_equal(read_here(folder, TRANSFORMER), random_params())


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_written_again_is_the_same_file(family, dtype, tmp_path):
    architecture = dataclasses.replace(
        ARCHITECTURE,
        has_qkv_bias=family == "qwen2",
        has_qk_norm=family == "qwen3",
        has_tied_head=family == "llama",
    )
    transformer = Transformer(architecture=architecture)
    params = random_params(transformer, dtype)
    tensors = dict(to_hf(params, architecture))
    assert sum(a.size for a in tensors.values()) == architecture.num_parameters
    assert tensors["model.layers.1.self_attn.q_proj.weight"].shape == (24, 16)
    assert tensors["model.layers.1.self_attn.o_proj.weight"].shape == (16, 24)
    first = write_folder(tmp_path / "first", architecture, tensors, dtype)
    read = read_params(
        str(first), transformer, on_devices(transformer), jnp.dtype(dtype)
    )
    assert_equal(read, params)
    save_tensors(tmp_path, read, architecture, dtype)
    again = open_tensors(tmp_path)
    assert again.keys() == tensors.keys()
    for name, tensor in open_tensors(first).items():
        whole = [slice(None)] * len(tensor.shape)
        assert again[name].dtype == jnp.dtype(dtype)
        assert (
            read_part(tensor, tensor.shape, whole).tobytes()
            == read_part(again[name], tensor.shape, whole).tobytes()
        )


def test_files_of_one_dtype_into_parameters_of_another(folder):
    read = read_params(str(folder), TRANSFORMER, on_devices(TRANSFORMER), jnp.bfloat16)
    assert_equal(read, jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_params()))


@pytest.mark.parametrize(
    "shape", [MeshShape(fsdp=8), MeshShape(data=2, fsdp=2, tensor=2), MeshShape(data=8)]
)
def test_every_device_gets_its_part(folder, shape):
    shardings = on_devices(TRANSFORMER, shape, 8)
    read = read_params(str(folder), TRANSFORMER, shardings)
    assert_equal(read, random_params())
    assert jax.tree.all(
        jax.tree.map(
            lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), read, shardings
        )
    )


def test_only_the_part_that_is_asked_for_is_read(folder):
    tensor = open_tensors(folder)["model.layers.1.self_attn.q_proj.weight"]
    file = tensor.file
    expected = np.asarray(random_params()["blocks"]["projections"]["query"][1])
    # All bytes of the file except those of heads 1 and 2 become NaN.
    raw = bytearray(file.read_bytes())
    row_bytes = 6 * 16 * 4
    kept = slice(tensor.offset + row_bytes, tensor.offset + 3 * row_bytes)
    held = bytes(raw[kept])
    raw[:] = b"\xff" * len(raw)
    raw[kept] = held
    file.write_bytes(raw)
    part = read_part(tensor, (4, 6, 16), [slice(1, 3), slice(None), slice(None)])
    np.testing.assert_array_equal(part, expected[1:3])
    part = read_part(tensor, (4, 6, 16), [slice(1, 3), slice(2, 4), slice(3, 9)])
    np.testing.assert_array_equal(part, expected[1:3, 2:4, 3:9])


def test_progress_adds_up(folder):
    tensors, told = open_tensors(folder), []
    shapes = TRANSFORMER.shapes
    shardings = on_devices(TRANSFORMER)
    load(tensors, ARCHITECTURE, shapes, shardings, on_bytes=told.append)
    assert sum(told) == 4 * ARCHITECTURE.num_parameters
    assert len(told) == len(tensors)


def test_a_tensor_without_a_place_is_named(folder, capsys):
    tensors = dict(to_hf(random_params(), ARCHITECTURE))
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)
    tensors["model.visual.weight"] = np.ones(3, np.float32)
    write_folder(folder, ARCHITECTURE, tensors)
    assert_equal(read_here(folder, TRANSFORMER), random_params())
    assert capsys.readouterr().err == f"{folder}: not used: model.visual.weight\n"


def cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def cut_in_the_header(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:20])


def emptied(folder):
    (folder / "model.safetensors").write_bytes(b"")


def damaged_header(folder):
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[8:12] = b"\xff\xfe{{"
    file.write_bytes(raw)


def damaged_shape(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"shape":[48,16]', b'"shape":[48,17]'))


def longer_than_its_tensors(folder):
    with open(folder / "model.safetensors", "ab") as file:
        file.write(b"more")


def integers(folder):
    tensors = dict(to_hf(random_params(), ARCHITECTURE))
    tensors["lm_head.weight"] = tensors["lm_head.weight"].astype(np.int8)
    write_folder(folder, ARCHITECTURE, tensors)


def two_missing(folder):
    tensors = dict(to_hf(random_params(), ARCHITECTURE))
    del tensors["model.norm.weight"], tensors["model.layers.2.mlp.up_proj.weight"]
    write_folder(folder, ARCHITECTURE, tensors)


def wider_than_told(folder):
    config = to_hf_config(ARCHITECTURE, max_positions=8, dtype="float32")
    config["intermediate_size"] = 32
    (folder / "config.json").write_text(json.dumps(config))


def no_files(folder):
    (folder / "model.safetensors").unlink()


def shard_gone(folder):
    split(folder)
    sorted(folder.glob("*.safetensors"))[1].unlink()


def shard_without_its_tensor(folder):
    split(folder)
    index = json.loads((folder / INDEX_NAME).read_text())
    other = sorted(folder.glob("*.safetensors"))[2].name
    assert index["weight_map"]["model.norm.weight"] != other
    index["weight_map"]["model.norm.weight"] = other
    (folder / INDEX_NAME).write_text(json.dumps(index))


def damaged_index(folder):
    (folder / INDEX_NAME).write_text('{"weight_map": ')


def index_of(weight_map):
    def write(folder):
        (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))

    return write


def header_of(header):
    def write(folder):
        raw = json.dumps(header).encode()
        file = folder / "model.safetensors"
        file.write_bytes(len(raw).to_bytes(8, "little") + raw)

    return write


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (index_of([]), "index.json: expected a JSON object whose weight_map names"),
        (
            index_of({"model.norm.weight": 3}),
            "index.json names the file 3, which is not in that folder",
        ),
        (index_of({"model.norm.weight": "no"}), "no does not exist; .*.json says that"),
        (index_of({"model.norm.weight": "sub/no"}), "sub/no does not exist; .* holds"),
        (header_of([]), "model.safetensors: damaged header, not a JSON object"),
        (header_of({"a": []}), "model.safetensors: damaged header of tensor a"),
        (
            header_of({"a": {"dtype": [], "shape": [], "data_offsets": [0, 0]}}),
            r"model.safetensors: tensor a has dtype \[\]",
        ),
        (
            header_of({"a": {"dtype": "F32", "shape": [1e999], "data_offsets": []}}),
            "model.safetensors: damaged header of tensor a",
        ),
        (cut_short, r"model.safetensors is truncated: tensor \S+ ends at byte"),
        (cut_in_the_header, "truncated or not a safetensors file"),
        (emptied, "truncated or not a safetensors file"),
        (damaged_header, "damaged header"),
        (damaged_shape, "damaged header of tensor .*are 3264 bytes, not 3072"),
        (longer_than_its_tensors, "model.safetensors is damaged: its tensors end at"),
        (integers, "model.safetensors: tensor lm_head.weight has dtype I8"),
        (
            two_missing,
            r"2 of \d+ tensors missing: model.norm.weight, model.layers.2.mlp.up_proj",
        ),
        (
            wider_than_told,
            r"model.layers.0.mlp.gate_proj.weight is \[24, 16\] in model.safetensors, "
            r"expected \[32, 16\]",
        ),
        (no_files, "has no \\*.safetensors"),
        (shard_gone, r"model-00002-of-\d+.safetensors does not exist; .* it holds"),
        (
            shard_without_its_tensor,
            r"model-00003-of-\d+.safetensors has no tensor model.norm.weight",
        ),
        (
            damaged_index,
            "model.safetensors.index.json: expected a JSON object whose weight_map",
        ),
    ],
)
def test_bad_folders(folder, harm, told):
    harm(folder)
    transformer = TRANSFORMER
    if harm is wider_than_told:
        transformer = Transformer(
            architecture=dataclasses.replace(ARCHITECTURE, mlp_width=32)
        )
    with pytest.raises(ValueError, match=told) as error:
        read_here(folder, transformer)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
