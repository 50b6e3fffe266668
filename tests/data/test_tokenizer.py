"""Tests of tokenizers: ids, their bytes, and special tokens."""

import random
from pathlib import Path

import pytest

from jaxsearch.data.pieces_tokenizer import pieces_tokenizer
from jaxsearch.data.token_bytes import sentencepiece
from jaxsearch.data.tokenizer import Tokenizer, pad_rows

FOLDER = Path(__file__).resolve().parents[3] / "shared/data/tokenizers"

TEXTS = [
    "Who wrote it?",
    " <think> a </think>\n\n<search> q </search>\n",
    "naïve café 長い 🙂 \u200d family 👩‍👩‍👧",
    "tabs\tand   spaces \r\n",
    "\x00\x01 control \x7f",
    "עברית العربية हिन्दी",
    "1234567890 + x_y-z",
    "",
]


@pytest.fixture(scope="module", params=["qwen2.5", "llama3"])
def tokenizer(request):
    if not (FOLDER / request.param).is_dir():
        pytest.skip(f"needs the tokenizers in {FOLDER}")
    if request.param == "llama3":
        pytest.importorskip("tiktoken")
    return Tokenizer.load(str(FOLDER / request.param))


def test_decode_is_the_inverse_of_encode(tokenizer):
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_of_ids_are_those_of_the_text(tokenizer):
    """The joined bytes of any ids are exactly the UTF-8 of the text."""
    for text in TEXTS:
        ids = tokenizer.encode(text)
        pieces = [tokenizer.id_bytes[i] for i in ids]
        assert b"".join(pieces) == text.encode()
        for cut in range(len(ids) + 1):
            halves = (b"".join(pieces[:cut]), b"".join(pieces[cut:]))
            assert b"".join(halves) == text.encode()
            assert tokenizer.decode(ids[:cut]) == halves[0].decode(errors="replace")


def test_only_a_byte_in_hexadecimal_is_one():
    pieces = {"<0x0A>": b"\n", "<0xe2>": b"\xe2", "<0xGG>": b"<0xGG>", "▁a": b" a"}
    assert {piece: sentencepiece(piece) for piece in pieces} == pieces


def test_every_byte_has_an_id(tokenizer):
    singles = {piece for piece in tokenizer.id_bytes if len(piece) == 1}
    assert singles == {bytes([byte]) for byte in range(256)}


def test_bytes_agree_with_the_backend_on_random_ids(tokenizer):
    rng = random.Random(0)
    for _ in range(300):
        ids = [rng.randrange(tokenizer.num_ids) for _ in range(6)]
        theirs = tokenizer.backend.decode(ids, clean_up_tokenization_spaces=False)
        assert tokenizer.decode(ids) == theirs


def test_ids_beyond_the_vocabulary_have_no_text(tokenizer):
    ids = tokenizer.encode("a b")
    assert tokenizer.decode([*ids, tokenizer.num_ids, tokenizer.num_ids + 9]) == "a b"
    assert len(tokenizer.id_bytes) == tokenizer.num_ids


def test_special_tokens(tokenizer):
    assert tokenizer.end_id in tokenizer.special_ids
    assert len(tokenizer.special_strings) >= len(tokenizer.special_ids) > 10
    for text in tokenizer.special_strings:
        (i,) = tokenizer.encode(text)
        assert tokenizer.id_bytes[i] == text.encode()
    # Added tokens such as <tool_call>, which passages may not contain either, are none.
    special = {tokenizer.encode(text)[0] for text in tokenizer.special_strings}
    assert tokenizer.special_ids <= special
    assert not set(tokenizer.encode("plain text")) & special


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(str(tmp_path))
    assert again.fingerprint == tokenizer.fingerprint
    assert again.end_id == tokenizer.end_id
    assert again.encode(TEXTS[2]) == tokenizer.encode(TEXTS[2])


WORDS = ["▁red", "▁blue", "▁b", "lue", "▁<result>"]


def test_pieces_are_cut_into_the_fewest():
    tokenizer = pieces_tokenizer(WORDS)
    assert (tokenizer.end_id, tokenizer.num_ids) == (0, 7)
    assert tokenizer.id_bytes == [
        b"</s>",
        b"<unk>",
        b" red",
        b" blue",
        b" b",
        b"lue",
        b" <result>",
    ]
    assert tokenizer.encode(" red blue") == [2, 3]
    assert tokenizer.encode(" <result> blue") == [6, 3]
    assert tokenizer.decode([4, 5, 0]) == " blue</s>"
    assert tokenizer.encode(" blue</s>") == [3, 0]
    unknown = tokenizer.encode(" red zzz")
    assert unknown[0] == 2 and set(unknown[1:]) == {tokenizer.unknown_id}
    assert tokenizer.special_ids == {0, 1}


@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
def test_pieces_survive_saving_beside_a_model(tmp_path, model_type):
    """AutoTokenizer would choose the class by the model type and lose all pieces."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    tokenizer = pieces_tokenizer(WORDS)
    tokenizer.save(tmp_path)
    again = Tokenizer.load(str(tmp_path))
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(" red blue</s>") == tokenizer.encode(" red blue</s>")


def test_the_fingerprint_tells_vocabularies_ends_and_templates_apart():
    made = [pieces_tokenizer(WORDS), pieces_tokenizer(WORDS[::-1])]
    made.append(pieces_tokenizer(WORDS, end="<end>"))
    made.append(pieces_tokenizer(WORDS))
    made[-1].backend.chat_template = "{{ messages[0]['content'] }}"
    assert len({tokenizer.fingerprint for tokenizer in made}) == 4
    assert pieces_tokenizer(WORDS).fingerprint == made[0].fingerprint


def test_prompts_use_the_chat_template_where_there_is_one():
    tokenizer = pieces_tokenizer(WORDS)
    messages = [{"role": "user", "content": " blue"}]
    assert tokenizer.encode_prompt(" red", messages) == [2]
    tokenizer.backend.chat_template = (
        "{{ messages[0]['content'] }}{% if add_generation_prompt %} <result>{% endif %}"
    )
    assert tokenizer.encode_prompt(" red", messages) == [3, 6]


def with_template():
    backend = pieces_tokenizer(WORDS).backend
    backend.chat_template = "{{ messages[0]['content'] }} <result>"
    return backend


def test_prompts_are_what_is_asked_for(tmp_path):
    messages = [{"role": "user", "content": " blue"}]
    plain = Tokenizer(with_template(), prompt="base")
    assert plain.encode_prompt(" red", messages) == [2]
    chat = Tokenizer(with_template(), prompt="chat")
    assert chat.encode_prompt(" red", messages) == [3, 6]
    assert plain.fingerprint != chat.fingerprint
    chat.save(tmp_path)
    loaded = Tokenizer.load(str(tmp_path), prompt="base")
    assert loaded.fingerprint == plain.fingerprint
    with pytest.raises(ValueError, match="here has no chat template; use model.prompt"):
        Tokenizer(pieces_tokenizer(WORDS).backend, "here", prompt="chat")


def test_rows_end_as_the_folder_or_the_caller_says(tmp_path):
    tokenizer = pieces_tokenizer(WORDS)
    assert tokenizer.end_ids == (0,)
    tokenizer.save(tmp_path)
    generation = tmp_path / "generation_config.json"
    generation.write_text('{"eos_token_id": [3, 0, 2]}')
    loaded = Tokenizer.load(str(tmp_path))
    assert loaded.end_id == 0 and loaded.end_ids == (0, 3, 2)
    assert loaded.special_ids == {0, 1, 2, 3}
    assert loaded.special_config["eos_token_id"] == (0, 3, 2)
    assert loaded.fingerprint != tokenizer.fingerprint
    loaded.save(tmp_path / "again")
    assert Tokenizer.load(str(tmp_path / "again")).end_ids == loaded.end_ids
    chosen = Tokenizer.load(str(tmp_path), end_token="▁blue")
    assert chosen.end_ids == (3,)
    with pytest.raises(
        ValueError, match="no token 'stop' .*its own end token is '</s>'"
    ):
        Tokenizer.load(str(tmp_path), end_token="stop")
    generation.write_text("{")
    with pytest.raises(ValueError, match="generation_config.json: not JSON"):
        Tokenizer.load(str(tmp_path))


def test_no_end_token_is_an_error():
    backend = pieces_tokenizer(WORDS).backend
    backend.eos_token = None
    with pytest.raises(ValueError, match="tokenizer here has no end token"):
        Tokenizer(backend, "here")


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        Tokenizer.load(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="^model folder .*nowhere does not exist$"):
        Tokenizer.load(str(tmp_path / "nowhere"), model=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="^tokenizer folder .*an owner: OWNER/Qwen3$"):
        Tokenizer.load("Qwen3", model="Qwen3-8B")
    with pytest.raises(ValueError, match="^model folder a/b/c does not exist$"):
        Tokenizer.load("a/b/c", model="a/b/c")
    with pytest.raises(ValueError, match=f"cannot read a tokenizer from {tmp_path}"):
        Tokenizer.load(str(tmp_path))


def test_pad_rows():
    assert pad_rows([[1, 2], []], 3, 9).tolist() == [[1, 2, 9], [9, 9, 9]]
