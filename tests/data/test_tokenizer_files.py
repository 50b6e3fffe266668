"""A tokenizer's folder is read as transformers and tokenizers read it."""

import pytest
from transformers import GenerationConfig, PreTrainedTokenizerFast

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.protocol import R1_SEARCHER, RESEARCH, SEARCH_R1
from tests.tokenizer_folders import BEGIN_ID, END_ID, NUM_IDS, write_tokenizer

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


@pytest.mark.parametrize("post", ["$A", "<s> $A", "<s> $A </s>", "$A </s>", "<s> <s> $A"])
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
