"""Damaged and hostile files of folders: one named error, no other, and no hang."""

import copy
import json
import random
import time

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from safetensors.numpy import save_file

from jaxsearch.json_files import MAX_BYTES, parse_json, read_json, read_json_object
from jaxsearch.models.hf_config import from_hf_config
from jaxsearch.models.tensor_files import open_tensors
from jaxsearch.run.config_file import read_config
from jaxsearch.run.config_record import resolved
from jaxsearch.run.folder import read_run_config
from jaxsearch.search.encoder_settings import read_settings
from jaxsearch.search.encoders import NO_OPTIONS
from jaxsearch.search.exact_index import ExactIndex
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.passages import Passage
from jaxsearch.search.scann_scorer import TreeAh
from jaxsearch.search.tfidf_encoder import TfidfEncoder

MAX_S = 5.0
JUNK = (
    None,
    True,
    0,
    -1,
    2**31,
    10**12,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    "../x",
    "\ud800",
    "\0",
    "a:b",
    "jaxsearch.run:x",
    [],
    {},
    [[]],
    {"a": 1},
    {"function": 3},
    {"object": None, "fields": 1},
    {"kind": "none"},
    "y" * 10_000,
)
BYTES = (
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'"x"',
    b"3",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"1" * 10_000,
    b"\x00" * 100,
    b"NaN",
)


def nodes(value, path=()):
    """The paths of all values inside of a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        yield from nodes(item, (*path, key))


def mutated(value, rng):
    """The value with some nodes replaced, removed or doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        path = rng.choice(list(nodes(value)))
        if not path:
            return copy.deepcopy(rng.choice(JUNK))
        place = value
        for key in path[:-1]:
            place = place[key]
        action = rng.randrange(4)
        if action == 0:
            del place[path[-1]]
        elif action == 1 and isinstance(place, dict):
            place[rng.choice(["", "x", "../y", path[-1] + "z"])] = copy.deepcopy(
                rng.choice(JUNK)
            )
        else:
            place[path[-1]] = copy.deepcopy(rng.choice(JUNK))
    return value


def damaged(content, rng):
    """The bytes with some flipped, cut out or repeated."""
    content = bytearray(content)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(content) + 1)
        action = rng.randrange(3)
        if action == 0 and at < len(content):
            content[at] = rng.randrange(256)
        elif action == 1:
            del content[at : at + rng.randrange(1, 50)]
        else:
            content[at:at] = content[at : at + rng.randrange(1, 50)]
    return bytes(content)


def variants(path, num, seed):
    """Contents that a file might have instead of its own."""
    rng = random.Random(seed)
    content = path.read_bytes()
    yield from BYTES
    for _ in range(num):
        yield damaged(content, rng)
        if path.suffix == ".json":
            text = json.dumps(mutated(json.loads(content), rng))
            yield text.encode("utf-8", errors="surrogatepass")


def fuzz(read, paths, num, seed=0):
    """Counts the refusals of `read` with each file in each variant, one at a time."""
    num_refused = 0
    for path in paths:
        whole = path.read_bytes()
        for content in variants(path, num, seed):
            path.write_bytes(content)
            started = time.monotonic()
            try:
                read()
            except ValueError as error:
                num_refused += 1
                assert len(str(error)) < 3000, str(error)[:300]
            except TypeCheckError as error:
                # The annotation checks of the tests look at a passage.
                assert "is damaged" in str(error.__context__), content[:300]
                num_refused += 1
            except Exception as error:
                raise AssertionError(f"{path.name}: {content[:300]!r}") from error
            assert time.monotonic() - started < MAX_S, (path, content[:300])
        path.write_bytes(whole)
    read()
    return num_refused


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small folders of an index of each kind, a run, and safetensors."""
    return write_folders(tmp_path_factory.mktemp("folders"))


def write_folders(root):
    passages = [Passage(id=str(n), contents=f"title {n}\nword{n}") for n in range(20)]
    encoder = TfidfEncoder.fit(passages, dims=32)
    ExactIndex(passages, encoder).save(root / "exact")
    tree = TreeAh(num_leaves=2, leaves_to_search=2)
    build_index(passages, encoder, scorer=tree).save(root / "scann")
    (root / "run").mkdir()
    record = {**resolved(read_config("quickstart")), "identity": {}, "code": {}}
    (root / "run" / "config.json").write_text(json.dumps(record))
    (root / "model").mkdir()
    tensors = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float16)}
    save_file(tensors, root / "model" / "one.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys("ab", "one.safetensors")}
    (root / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    (root / "encoder" / "1_Pooling").mkdir(parents=True)
    for name, fields in {
        "modules.json": [
            {"idx": 0, "type": "sentence_transformers.models.Transformer", "path": ""},
            {
                "idx": 1,
                "type": "sentence_transformers.models.Pooling",
                "path": "1_Pooling",
            },
        ],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "config_sentence_transformers.json": {
            "prompts": {"query": "q: ", "passage": "p: "}
        },
        "sentence_bert_config.json": {"max_seq_length": 32},
    }.items():
        (root / "encoder" / name).write_text(json.dumps(fields))
    return root


CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 300,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def readers(root):
    exact, scann = root / "exact", root / "scann"

    def settings():
        folder = root / "encoder"
        return read_settings(folder, NO_OPTIONS, max_positions=64, tokenizer_len=64)

    def hf_config():
        return from_hf_config(read_json_object(root / "hf.json"))

    (root / "hf.json").write_text(json.dumps(CONFIG))
    return {
        "exact": (
            lambda: load_index(exact).search(["word3"], 2),
            [exact / "index.json", *(exact / "encoder").glob("*.json")],
        ),
        "exact vectors": (
            lambda: list(load_index(exact).passages),
            [exact / "vectors" / "00000.npy", exact / "passages.arrayrecord"],
        ),
        "scann": (lambda: load_index(scann), [scann / "index.json"]),
        "run": (
            lambda: read_run_config(root / "run"),
            [root / "run" / "config.json"],
        ),
        "tensors": (
            lambda: open_tensors(root / "model"),
            [*(root / "model").iterdir()],
        ),
        "encoder": (settings, [*(root / "encoder").rglob("*.json")]),
        "hf": (hf_config, [root / "hf.json"]),
    }


NAMES = ("exact", "exact vectors", "scann", "run", "tensors", "encoder", "hf")


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_a_named_error(folders, name):
    read, paths = readers(folders)[name]
    assert fuzz(read, paths, 25) > 10


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files_are_named_errors(folders, name):
    read, paths = readers(folders)[name]
    fuzz(read, paths, 2000, seed=1)


def test_json_of_every_kind_of_fault_is_refused(tmp_path):
    for content in (b"[" * 10**6, b"\xff", b"1" * 10**5, b"{", b"", b"\xef\xbb\xbf"):
        with pytest.raises(ValueError, match="^the file: not JSON"):
            parse_json(content, "the file")
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "a file") == {"a": 1}
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="expected at most 100,000,000 bytes"):
        read_json(large)
    with pytest.raises(ValueError, match="found something else"):
        read_json(tmp_path)


def test_huge_sizes_of_a_model_are_refused_at_once():
    for name in ("num_hidden_layers", "vocab_size"):
        with pytest.raises(ValueError, match=f"{name} must be at most"):
            from_hf_config(CONFIG | {name: 10**12})
