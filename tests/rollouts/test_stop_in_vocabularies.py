"""The stop automaton against a substring search, on vocabularies of real models."""

import functools
import itertools
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.rewards.tasks import TASKS
from jaxsearch.rollouts.stop import stop_table

FOLDER = Path(__file__).resolve().parents[3] / "shared/data/tokenizers"

# Rows of the embedding, more than there are ids.
VOCAB_SIZES = {"qwen2.5": 152_064, "llama3": 128_512}

# The tags of every task, two tags with a common prefix, and two so short that single
# ids of a real vocabulary contain them ("'</"), even more than once ("\n\n\n\n").
TAGS = sorted({task.protocol.stop_tags for task in TASKS.values()})
TAGS += [("</search>", "<|end_of_query|>"), ("</", "\n\n")]

# Made-up ids: a tag inside an id, at its ends, or twice in it, and a tag that begins
# inside the false start of another.
MADE = ("x*y", "*", "* ", " *", "**", "*x*", "<*", "</sea*", "*</sea")


@pytest.fixture(scope="module", params=list(VOCAB_SIZES))
def vocabulary(request):
    """A real tokenizer, and spellings that it would not produce itself."""
    name = request.param
    if not (FOLDER / name).is_dir():
        pytest.skip(f"needs the tokenizers in {FOLDER}")
    if name == "llama3":
        pytest.importorskip("tiktoken")
    tokenizer = Tokenizer.load(str(FOLDER / name))
    id_of = {piece: i for i, piece in enumerate(tokenizer.id_bytes) if piece}
    longest = max(map(len, id_of))

    @functools.cache
    def beginnings(text):
        """Ids whose bytes are a prefix of the text."""
        cuts = range(1, min(len(text), longest) + 1)
        return [id_of[text[:cut]] for cut in cuts if text[:cut] in id_of]

    def spelling(rng, text):
        """A random spelling of the text, drawing each id among those that fit."""
        ids = []
        while text:
            ids.append(rng.choice(beginnings(text)))
            text = text[len(tokenizer.id_bytes[ids[-1]]) :]
        return ids

    def spellings(text):
        """All spellings of the text."""
        if not text:
            return [[]]
        return [
            [first, *rest]
            for first in beginnings(text)
            for rest in spellings(text[len(tokenizer.id_bytes[first]) :])
        ]

    return SimpleNamespace(
        tokenizer=tokenizer,
        vocab_size=VOCAB_SIZES[name],
        spelling=spelling,
        spellings=spellings,
    )


def whole_tags(vocabulary, tags):
    """Every spelling of a tag in ids that end where it ends."""
    return [s for tag in tags for s in vocabulary.spellings(tag.encode())]


def overlapping_ends(vocabulary, tags, rng, count):
    """Tags whose first id starts before them and whose last id ends after them."""
    pieces = list(enumerate(vocabulary.tokenizer.id_bytes))
    for tag in map(str.encode, tags):
        cuts = range(1, len(tag))
        before = {n: [i for i, p in pieces if p.endswith(tag[:n])] for n in cuts}
        past = {n: [i for i, p in pieces if p.startswith(tag[n:])] for n in cuts}
        starts = [n for n in cuts if before[n]]
        for _ in range(count // len(tags)):
            start = rng.choice(starts)
            end = rng.choice([n for n in cuts if n >= start and past[n]])
            first, last = rng.choice(before[start]), rng.choice(past[end])
            yield [first, *vocabulary.spelling(rng, tag[start:end]), last]


def mixtures(vocabulary, tags, rng, count):
    """Tags, parts of tags and near misses next to each other, in random spellings."""
    parts = [
        "<",
        "/",
        ">",
        "<<",
        "</",
        "</</",
        "search",
        "<search>",
        ">\n\n",
        "é",
        "長",
    ]
    for tag in tags:
        cut = rng.randrange(1, len(tag))
        parts += [tag, tag[:cut] + tag, tag[:cut], tag[cut:], "<" + tag, tag.upper()]
        parts += [tag + tag, tag[:-1] + " " + tag[-1], tag[:cut] + tag + tag[cut:]]
    for _ in range(count):
        text = "".join(rng.choices(parts, k=rng.randrange(1, 7)))
        yield vocabulary.spelling(rng, text.encode())


def as_it_encodes(vocabulary, tags, rng, count):
    """The tokenizer's own spelling of tags in running text."""
    words = ["", " a", "\n", "\n\n", ".", "x", " <search> who", "?", " ", "</", ">"]
    for _ in range(count):
        around = rng.choices(words, k=4)
        text = around[0] + around[1] + rng.choice(tags) + around[2] + around[3]
        yield vocabulary.tokenizer.encode(text)


def interrupted(vocabulary, tags, rng, count):
    """A special token inside a tag, possibly followed by the tag again."""
    special = sorted(vocabulary.tokenizer.special_ids)
    for _ in range(count):
        tag = rng.choice(tags).encode()
        ids = vocabulary.spelling(rng, tag)
        ids.insert(rng.randrange(len(ids) + 1), rng.choice(special))
        again = vocabulary.spelling(rng, tag) if rng.random() < 0.5 else []
        yield [*ids, *again]


def byte_by_byte(vocabulary, tags, rng, count):
    """Ids of one byte: tags, split characters and bytes that are not UTF-8."""
    id_of = {p: i for i, p in enumerate(vocabulary.tokenizer.id_bytes) if len(p) == 1}
    for _ in range(count):
        tag = rng.choice(tags).encode()
        parts = ["é".encode()[:1], "長".encode()[:2], rng.randbytes(3), tag, tag[:-1]]
        text = b"".join(rng.choices(parts, k=4))
        yield [id_of[bytes([byte])] for byte in text]


def drawn(vocabulary, tags, rng, count):
    """Random ids: arbitrary ones, and ids that start or end with a byte of a tag."""
    tokenizer = vocabulary.tokenizer
    bounds = set("".join(tags).encode())
    near = [i for i, p in enumerate(tokenizer.id_bytes) if p and {p[0], p[-1]} & bounds]
    near = [i for i in near if len(tokenizer.id_bytes[i]) < 4]
    for n in range(count):
        pool = near if n % 2 else range(tokenizer.num_ids)
        yield rng.choices(pool, k=rng.randrange(1, 25))


def sequences(vocabulary, tags, *, count, seed):
    """At least `count` sequences of all kinds, some inside longer ones."""
    rng = random.Random(seed)
    found = whole_tags(vocabulary, tags)
    kinds = (overlapping_ends, mixtures, as_it_encodes, interrupted, byte_by_byte)
    for kind in (*kinds, drawn):
        found += kind(vocabulary, tags, rng, count // 6 + 1)
    for ids in found:
        if rng.random() < 0.3:
            filler = rng.choices(range(vocabulary.tokenizer.num_ids), k=3)
            ids = [*filler, *ids, *filler]
        yield ids


def steps_to_stop(table, rows):
    """Number of ids of each row up to the first complete tag; 0 if there is none."""
    # The last column is for an id without bytes, which does not change the state.
    padding = table.shape[1] - 1
    columns = itertools.zip_longest(*rows, fillvalue=padding)
    state = np.zeros(len(rows), np.int32)
    steps = np.zeros(len(rows), int)
    for count, ids in enumerate(columns, start=1):
        state = table[state, np.array(ids)]
        steps = np.where((steps == 0) & (state == len(table) - 1), count, steps)
    return steps


def steps_by_find(id_bytes, tags, ids):
    """The same by searching for each tag in the concatenated bytes."""
    pieces = [id_bytes[i] for i in ids]
    text = b"".join(pieces)
    found = ((text.find(tag), len(tag)) for tag in map(str.encode, tags))
    ends = [start + tag_len for start, tag_len in found if start >= 0]
    if not ends:
        return 0
    # The first id whose end is at or after the end of the first tag.
    return int(np.searchsorted(np.cumsum([len(p) for p in pieces]), min(ends))) + 1


@pytest.mark.parametrize("tags", TAGS, ids=" ".join)
def test_stops_where_a_search_in_the_bytes_does(vocabulary, tags):
    id_bytes = vocabulary.tokenizer.id_bytes
    table = stop_table(id_bytes, tags, vocabulary.vocab_size)
    rows = list(sequences(vocabulary, tags, count=10_000, seed=0))
    assert len(rows) >= 10_000
    steps = steps_to_stop(table, rows)
    expected = np.array([steps_by_find(id_bytes, tags, ids) for ids in rows])
    wrong = np.flatnonzero(steps != expected)
    assert not wrong.size, [id_bytes[i] for i in rows[wrong[0]]]
    # The tokenizer's decoded text gives the same result as our bytes.
    backend = vocabulary.tokenizer.backend
    texts = backend.batch_decode(rows, clean_up_tokenization_spaces=False)
    has_tag = [any(tag in text for tag in tags) for text in texts]
    np.testing.assert_array_equal(steps > 0, has_tag)
    # The cases include many spellings, ids that continue after a tag, and rows without
    # one.
    stopped = np.flatnonzero(steps)
    spellings = {tuple(rows[row][: steps[row]]) for row in stopped}
    last = [id_bytes[rows[row][steps[row] - 1]] for row in stopped]
    is_past = [
        not any(p.endswith(tag[-1:]) for tag in map(str.encode, tags)) for p in last
    ]
    assert len(spellings) > 3000 and sum(is_past) > 50
    assert (steps == 0).sum() > 1000


@pytest.mark.parametrize("tags", TAGS, ids=" ".join)
def test_tags_within_one_id(vocabulary, tags):
    """Ids that contain whole tags, added to a real vocabulary."""
    known = vocabulary.tokenizer.id_bytes
    made = [form.replace("*", tag).encode() for form in MADE for tag in tags]
    made.append("".join(tags).encode())
    id_bytes = [*known, *made]
    table = stop_table(id_bytes, tags, len(id_bytes) + 1)
    rng = random.Random(1)
    rows = []
    for ids in sequences(vocabulary, tags, count=10_000, seed=1):
        cut = rng.randrange(len(ids) + 1)
        rows.append([*ids[:cut], len(known) + rng.randrange(len(made)), *ids[cut:]])
    steps = steps_to_stop(table, rows)
    expected = [steps_by_find(id_bytes, tags, ids) for ids in rows]
    np.testing.assert_array_equal(steps, expected)
    # From every state the id completes a tag.
    assert (table[:, len(known) : -1] == len(table) - 1).all()
