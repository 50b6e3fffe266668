"""`AutoTokenizer` makes the same tokenizer of a folder that we have written."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, Qwen2Tokenizer, dynamic_module_utils

from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.data.tokenizer import Tokenizer
from tests.tokenizer_folders import write_json, write_tokenizer

REAL = Path(__file__).resolve().parents[3] / "shared/data/tokenizers"
MODEL_TYPES = ["qwen2", "qwen3", "llama", "gemma3_text"]
TEXTS = [
    "What is the birthplace of the mayor of Vasdib?",
    "12 121 Who's there?  A. B ,\n\n c",
    "naïve e\u0301 \u212b",
    "12</s>12",
    "<|endoftext|> <s>",
    "",
]


def words(folder):
    return Tokenizer.load("jaxsearch:quickstart")


def characters(folder):
    return pieces_tokenizer([chr(i) for i in range(33, 127)] + ["▁", "▁the", "▁Wh"])


def tiny_bpe(folder):
    return Tokenizer.load(write_tokenizer(folder, post="<s> $A"))


def tiny_qwen2(folder):
    """One whose files name a class with another pre-tokenizer."""
    folder = write_tokenizer(
        folder, config={"model_type": "qwen2"}, tokenizer_class="Qwen2Tokenizer"
    )
    return Tokenizer.load(folder)


def lower_case(folder):
    path = write_tokenizer(folder, tokenizer_class="LlamaTokenizerFast")
    fields = json.loads((folder / "tokenizer.json").read_text())
    write_json(
        folder / "tokenizer.json", fields | {"normalizer": {"type": "Lowercase"}}
    )
    return Tokenizer.load(path)


def assert_same(theirs, ours):
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.encode(text) == ours.backend.encode(text)
        assert theirs.decode(ids) == ours.decode(ids)
    assert theirs.get_vocab() == ours.backend.get_vocab()
    assert theirs.eos_token_id == ours.end_id
    assert theirs.unk_token_id == ours.unknown_id
    assert set(theirs.all_special_ids) == set(ours.backend.all_special_ids)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("make", [words, characters, tiny_bpe, tiny_qwen2, lower_case])
def test_others_read_the_same_tokenizer(tmp_path, monkeypatch, make, model_type):
    ours, folder = make(tmp_path / "theirs"), tmp_path / "folder"
    folder.mkdir()
    write_json(folder / "config.json", {"model_type": model_type})
    ours.save(folder)
    assert_same(AutoTokenizer.from_pretrained(folder), ours)
    # With the code that the folder may bring along.
    modules = str(tmp_path / "modules")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", modules)
    assert_same(AutoTokenizer.from_pretrained(folder, trust_remote_code=True), ours)
    # Written again, for example after more training.
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(folder / "config.json", again)
    Tokenizer.load(str(folder)).save(again)
    assert_same(AutoTokenizer.from_pretrained(again), ours)
    assert sorted(p.name for p in again.iterdir()) == sorted(
        p.name for p in folder.iterdir()
    )


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_no_code_where_the_files_are_enough(tmp_path, model_type):
    write_json(tmp_path / "config.json", {"model_type": model_type})
    words(tmp_path).save(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    fields = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "auto_map" not in fields


def test_code_that_is_not_copied_is_not_named(tmp_path):
    own = {"AutoTokenizer": ["own.Own", None]}
    folder = write_tokenizer(tmp_path / "own", auto_map=own)
    Tokenizer.load(folder).save(tmp_path)
    assert "auto_map" not in (tmp_path / "tokenizer_config.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model_type"), [("qwen2.5", "qwen2"), ("llama3", "llama")]
)
def test_real_tokenizers_need_no_code(tmp_path, name, model_type):
    if not (REAL / name).is_dir():
        pytest.skip(f"needs the tokenizers in {REAL}")
    ours = Tokenizer.load(str(REAL / name))
    write_json(tmp_path / "config.json", {"model_type": model_type})
    ours.save(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert_same(AutoTokenizer.from_pretrained(tmp_path), ours)


def test_a_qwen2_tokenizer_needs_no_code(tmp_path):
    """Published files differ from the class in options that have no effect."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "<|endoftext|>"]
    made = Qwen2Tokenizer({p: i for i, p in enumerate(pieces)}, [("1", "2")])
    made.save_pretrained(tmp_path / "published")
    file = tmp_path / "published" / "tokenizer.json"
    fields = json.loads(file.read_text())
    no_effect = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    assert fields["decoder"] != {"type": "ByteLevel", **no_effect}
    fields["decoder"] = {"type": "ByteLevel", **no_effect}
    assert fields["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"]
    fields["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = False
    write_json(file, fields)
    ours = Tokenizer.load(str(tmp_path / "published"))
    write_json(tmp_path / "config.json", {"model_type": "qwen2"})
    ours.save(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert_same(AutoTokenizer.from_pretrained(tmp_path), ours)
