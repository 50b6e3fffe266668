"""The stop table against `bytes.find` on the decoded bytes."""

import random
from pathlib import Path

import numpy as np
import pytest

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.rollouts.stop import num_stop_states, stop_states, stop_table

QWEN = Path(__file__).resolve().parents[3] / "shared/data/tokenizers/qwen2.5"


def steps_to_stop(table, ids):
    """Number of ids up to the first complete tag; None if there is none."""
    state = 0
    for count, i in enumerate(ids, start=1):
        state = table[state, i]
        if state == len(table) - 1:
            return count
    return None


def steps_by_find(id_bytes, tags, ids):
    text = b""
    for count, i in enumerate(ids, start=1):
        text += id_bytes[i]
        if any(text.find(tag.encode()) >= 0 for tag in tags):
            return count
    return None


# Every way to split "</s>", bytes before and after it, two tags in one piece, and
# pieces of tags with common prefixes or inside each other.
MADE = [
    piece.encode()
    for piece in (
        *("", "<", "/", "s", ">", "</", "/s", "s>", "</s", "/s>", "</s>", "x"),
        *("x<", "><", "</s></s>", "</s>x", "x</s>x", "<<", "a", "b", "</a", "ab"),
        *("</ab", "aab", "aa", "é", "<é"),
    )
]
MADE += [b"\xc3", b"\xa9"]  # a character in two tokens


@pytest.mark.parametrize(
    "tags",
    [
        ("</s>",),
        ("</s>", "</ab"),
        ("</a", "</ab"),
        ("ab", "</abx>"),  # one tag inside the other
        ("aab",),
        ("aabaa", "abaab", "<<s"),
        ("é",),
        ("x",),
    ],
)
def test_equals_find_on_adversarial_pieces(tags):
    rng = random.Random(0)
    table = stop_table(MADE, tags, len(MADE) + 3)
    relevant = [
        i for i, piece in enumerate(MADE) if set(piece) & set("".join(tags).encode())
    ]
    num_stopped = 0
    for _ in range(3000):
        pool = relevant if rng.random() < 0.7 else range(len(MADE))
        ids = [rng.choice(pool) for _ in range(rng.randrange(1, 14))]
        expected = steps_by_find(MADE, tags, ids)
        assert steps_to_stop(table, ids) == expected, [MADE[i] for i in ids]
        num_stopped += expected is not None
    assert num_stopped > 100


@pytest.fixture(scope="module")
def qwen_bytes():
    if not QWEN.is_dir():
        pytest.skip(f"needs the tokenizer in {QWEN}")
    return Tokenizer.load(str(QWEN)).id_bytes


def test_equals_find_on_the_tokens_of_qwen(qwen_bytes):
    """Random splits of texts full of tags, and ids with parts of tags."""
    tags = ("</search>", "<|end_of_query|>")
    vocab_size = 151_936  # rows of the embedding, more than there are ids
    table = stop_table(qwen_bytes, tags, vocab_size)
    assert table.shape[1] == vocab_size
    id_of = {piece: i for i, piece in enumerate(qwen_bytes)}
    rng = random.Random(1)
    bits = [*tags, "</sea", "rch>", "search", "<", ">", " <|end", "_of_", "</", "|>\n"]
    near = [
        i
        for i, piece in enumerate(qwen_bytes)
        if piece and any(piece in tag.encode() for tag in tags)
    ]
    near += [i for i, piece in enumerate(qwen_bytes) if b">" in piece or b"</" in piece]
    num_stopped, spellings = 0, set()
    for _ in range(3000):
        if rng.random() < 0.3:
            ids = [rng.choice(near) for _ in range(20)]
        else:
            text = "".join(rng.choice(bits) for _ in range(5)).encode()
            ids = []
            while text:
                cuts = [n for n in range(1, 12) if text[:n] in id_of]
                cut = rng.choice(cuts)
                ids.append(id_of[text[:cut]])
                text = text[cut:]
        expected = steps_by_find(qwen_bytes, tags, ids)
        assert steps_to_stop(table, ids) == expected, [qwen_bytes[i] for i in ids]
        if expected is not None:
            num_stopped += 1
            spellings.add(tuple(ids[:expected]))
    assert num_stopped > 1000 and len(spellings) > 500


def test_a_token_may_end_a_tag_and_go_on(qwen_bytes):
    table = stop_table(qwen_bytes, ("</search>",), len(qwen_bytes))
    past = [i for i, piece in enumerate(qwen_bytes) if piece.startswith(b">\n")]
    state = 0
    for byte in b"</search":
        state = table[state, qwen_bytes.index(bytes([byte]))]
    assert len(past) > 3
    assert (table[state, past] == len(table) - 1).all()


def test_ids_without_bytes_change_nothing():
    table = stop_table([b"a", b"", b"b"], ("ab",), 5)
    for column in (1, 3, 4):
        np.testing.assert_array_equal(table[:, column], np.arange(len(table)))
    assert steps_to_stop(table, [0, 1, 4, 2]) == 4


def test_bad_arguments():
    for tags in ((), ("",), ("a", "")):
        with pytest.raises(ValueError, match="non-empty"):
            stop_table([b"a"], tags, 1)
    with pytest.raises(ValueError, match="has 2 ids, but the model has only 1"):
        stop_table([b"a", b"b"], ("a",), 1)


def test_states_are_the_starts_of_tags():
    tags = ["</search>", "</stop>"]
    states = stop_states(tags)
    assert len(states) + 1 == num_stop_states(tags)
    table = stop_table([bytes([i]) for i in range(128)], tags, 128)
    for number, text in enumerate(states):
        state = 0
        for byte in text.encode():
            state = table[state, byte]
        assert state == number
