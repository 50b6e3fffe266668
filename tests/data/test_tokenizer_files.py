"""A tokenizer's folder is read as transformers and tokenizers read it."""

import json

import pytest
from tokenizers import Tokenizer as Backend
from transformers import GenerationConfig, PreTrainedTokenizerFast

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol import R1_SEARCHER, RESEARCH, SEARCH_R1
from tests.tokenizer_folders import (
    BEGIN_ID,
    END_ID,
    NUM_IDS,
    PATTERN,
    write_json,
    write_tokenizer,
)

QWEN2 = {"model_type": "qwen2"}


# -------------------------------------------------------------------------- end tokens


def end_ids_of_transformers(folder, config):
    """`eos_token_id` of the generation config that transformers makes for a model."""
    try:
        ids = GenerationConfig.from_pretrained(folder).eos_token_id
    except OSError:
        ids = GenerationConfig.from_model_config(dict(config)).eos_token_id
    return [] if ids is None else ids if isinstance(ids, list) else [ids]


@pytest.mark.parametrize(
    ("config", "generation"),
    [
        ({"eos_token_id": 7}, None),
        ({"eos_token_id": [7, END_ID, 9]}, None),
        ({"text_config": {"eos_token_id": 7}}, None),
        ({"eos_token_id": 7}, {"eos_token_id": [8, 9]}),
        ({"eos_token_id": 7}, {"temperature": 0.6, "do_sample": True}),
        ({"eos_token_id": None}, None),
        ({}, {"eos_token_id": 9}),
    ],
)
def test_end_tokens_are_those_of_transformers(tmp_path, config, generation):
    config = QWEN2 | config
    folder = write_tokenizer(tmp_path, config=config, generation=generation)
    theirs = end_ids_of_transformers(folder, config)
    assert Tokenizer.load(folder).end_ids == tuple(dict.fromkeys([END_ID, *theirs]))


def test_a_models_end_tokens_count_with_a_tokenizer_of_another_folder(tmp_path):
    folder = write_tokenizer(tmp_path / "tokenizer")
    model = write_tokenizer(tmp_path / "model", config={**QWEN2, "eos_token_id": 7})
    assert Tokenizer.load(folder).end_ids == (END_ID,)
    assert Tokenizer.load(folder, model=model).end_ids == (END_ID, 7)
    chosen = Tokenizer.load(folder, model=model, end_token="<s>")
    assert chosen.end_ids == (BEGIN_ID,)


def test_a_tokenizer_without_an_end_token_has_the_models(tmp_path):
    folder = write_tokenizer(tmp_path, config={"eos_token_id": [7, 8]}, eos_token=None)
    assert Tokenizer.load(folder).end_ids == (7, 8)


@pytest.mark.parametrize(
    "value",
    ["</s>", ["</s>"], [END_ID, "7"], True, 1.5, -1, NUM_IDS, [END_ID, 99_999]],
)
@pytest.mark.parametrize("name", ["config", "generation"])
def test_what_is_no_id_of_the_tokenizer_is_no_end_token(tmp_path, name, value):
    folder = write_tokenizer(tmp_path, **{name: {"eos_token_id": value}})
    with pytest.raises(ValueError, match=rf"{name}\S*json: eos_token_id .*end_token"):
        Tokenizer.load(folder)
    # A named token replaces the list.
    assert Tokenizer.load(folder, end_token="</s>").end_ids == (END_ID,)


# ------------------------------------------------------------------------ begin tokens


@pytest.mark.parametrize("post", ["$A", "<s> $A", "<s> $A </s>", "$A </s>"])
@pytest.mark.parametrize("text", ["Who? 12", "<s>Who? 12", "", " 12"])
def test_a_base_prompt_begins_as_the_tokenizer_does(tmp_path, post, text):
    folder = write_tokenizer(tmp_path, post=post)
    tokenizer = Tokenizer.load(folder, prompt="base")
    ids = PreTrainedTokenizerFast.from_pretrained(folder)(text.removeprefix("<s>"))
    theirs = ids["input_ids"]
    if post.endswith("</s>"):
        # The prompt is to be continued.
        theirs = theirs[:-1]
    if text.startswith("<s>") and "<s>" not in post:
        theirs = [BEGIN_ID, *theirs]
    assert tokenizer.encode_prompt(text, []) == theirs


@pytest.mark.parametrize("protocol", [RESEARCH, R1_SEARCHER, SEARCH_R1])
def test_every_protocols_base_prompt_has_one_begin_token(tmp_path, protocol):
    folder = write_tokenizer(tmp_path, post="<s> $A")
    tokenizer = Tokenizer.load(folder, prompt="base")
    ids = tokenizer.encode_prompt(protocol.prompt("Who?"), protocol.messages("Who?"))
    assert ids[0] == BEGIN_ID and ids.count(BEGIN_ID) == 1


@pytest.mark.parametrize("written", ["{{ bos_token }}", "", "{{ bos_token * 2 }}"])
def test_a_chat_prompt_has_the_begin_token_of_its_template(tmp_path, written):
    template = written + "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    folder = write_tokenizer(tmp_path, post="<s> $A", chat_template=template)
    messages = [{"role": "user", "content": "Who? 12"}]
    theirs = PreTrainedTokenizerFast.from_pretrained(folder).apply_chat_template(
        messages, return_dict=False
    )
    if theirs.count(BEGIN_ID) == 2:
        theirs = theirs[1:]
    assert Tokenizer.load(folder).encode_prompt("", messages) == theirs


# ------------------------------------------------------------------------- the ids

TEXTS = ["12 121 Who?", "naïve\n\n  12,345 é", "Ünter 12A's DON'T", "</s>12<s>"]


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "qwen3", ""])
@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "LlamaTokenizerFast", "Own", None])
@pytest.mark.parametrize("pattern", [PATTERN, r"\s+", r"[A-Z]+|\p{N}+"])
def test_the_folders_own_tokenizer_json_is_used(tmp_path, model_type, name, pattern):
    """transformers replaces the pre-tokenizer for some model types and classes."""
    named = {} if name is None else {"tokenizer_class": name}
    config = {"model_type": model_type} if model_type else None
    folder = write_tokenizer(tmp_path, config=config, pattern=pattern, **named)
    own = Backend.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(folder)
    for text in TEXTS:
        assert tokenizer.encode(text) == own.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode("12") == [256]
    tokenizer.save(tmp_path / "again")
    again = Tokenizer.load(str(tmp_path / "again"))
    assert [again.encode(t) for t in TEXTS] == [tokenizer.encode(t) for t in TEXTS]


def test_the_folders_own_normaliser_is_used(tmp_path):
    """A Qwen2Tokenizer would normalise to NFC, and keep capitals."""
    folder = write_tokenizer(tmp_path, config=QWEN2, tokenizer_class="Qwen2Tokenizer")
    file = tmp_path / "tokenizer.json"
    fields = json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}
    write_json(file, fields)
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.decode(tokenizer.encode("WHO e\u0301")) == "who e\u0301"


def without_model(file):
    fields = json.loads(file.read_text())
    del fields["model"]
    write_json(file, fields)


def for_pairs_alone(file):
    """Read without an error, but every text is a panic of the library."""
    fields = json.loads(file.read_text())
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    parts = {"single": pair, "pair": pair, "special_tokens": {}}
    fields["post_processor"] = {"type": "TemplateProcessing", **parts}
    write_json(file, fields)


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_text("{"),
        lambda file: file.write_text(""),
        lambda file: file.write_text(file.read_text()[:-100]),
        lambda file: file.write_bytes(b"\xff\xfe"),
        lambda file: write_json(file, []),
        without_model,
        for_pairs_alone,
    ],
)
def test_a_tokenizer_json_that_the_library_refuses_is_one_line(tmp_path, harm):
    folder = write_tokenizer(tmp_path, config=QWEN2)
    harm(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match="cannot read .*: tokenizer.json: .") as raised:
        Tokenizer.load(folder)
    assert "\n" not in str(raised.value) and folder in str(raised.value)


def test_a_piece_without_bytes_is_named(tmp_path):
    folder = write_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    fields = json.loads(file.read_text())
    vocab = fields["model"]["vocab"]
    vocab["ka▁x"] = vocab.pop("12")
    fields["model"]["merges"] = []
    write_json(file, fields)
    tokenizer = Tokenizer.load(folder)
    with pytest.raises(ValueError, match=r"the piece 'ka▁x' .* has '▁'") as raised:
        tokenizer.decode([0])
    assert folder in str(raised.value)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_a_config_that_is_no_object_is_named(tmp_path, name, text):
    folder = write_tokenizer(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}: (not JSON|expected a JSON object)"):
        Tokenizer.load(folder)
