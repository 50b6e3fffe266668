"""All tags are removed, however they were hidden."""

import random
import time

import pytest

from jaxsearch.env.sanitize import strip_all, strip_tags

TAGS = ("<search>", "</search>", "<|im_end|>", "<answer>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain < text >", ("plain < text >", 0)),
        ("a<search>b</search>c", ("abc", 2)),
        ("<sea<search>rch>", ("", 2)),
        ("<<search>search>", ("", 2)),
        ("<se<|im_<answer>end|>arch>x", ("x", 3)),
        ("<Search>", ("<Search>", 0)),
        ("<search<search>", ("<search", 1)),
        ("", ("", 0)),
    ],
)
def test_examples(text, expected):
    assert strip_tags(text, TAGS) == expected


def _first_to_end_deleted_until_none(text, tags):
    """A slow implementation that defines `strip_tags`."""
    num_deleted = 0
    while True:
        found = [(text.find(tag) + len(tag), -len(tag)) for tag in tags if tag in text]
        if not found:
            return text, num_deleted
        end, negative_len = min(found)
        text = text[: end + negative_len] + text[end:]
        num_deleted += 1


@pytest.mark.parametrize(
    "tags",
    [
        ("<s>", "</s>", "<e>"),
        ("aab", "ab", "bba"),
        ("abab", "bab", "a/b", "b"),
        ("aaa", "aba"),
    ],
)
def test_equals_the_slow_way_on_adversarial_joins(tags):
    rng = random.Random(0)
    alphabet = sorted(set("".join(tags)))
    for _ in range(1500):
        text = "".join(rng.choices(alphabet, k=rng.randrange(12)))
        for _ in range(rng.randrange(6)):
            cut = rng.randrange(len(text) + 1)
            text = text[:cut] + rng.choice(tags) + text[cut:]
        stripped, num_deleted = strip_tags(text, tags)
        assert not any(tag in stripped for tag in tags)
        assert (stripped, num_deleted) == _first_to_end_deleted_until_none(text, tags)


@pytest.mark.parametrize(
    ("text", "num_deleted"),
    [
        ("<search" * 100_000 + ">" * 300_000, 100_000),
        ("<sea" * 125_000 + "rch>" * 125_000, 125_000),
        ("<search>" * 125_000, 125_000),
        ("<" * 1_000_000 + "<search>", 1),
        ("<search" * 143_000 + "<search>", 1),
    ],
)
def test_a_megabyte_takes_linear_time(text, num_deleted):
    started = time.perf_counter()
    stripped, found = strip_tags(text, TAGS)
    assert time.perf_counter() - started < 4.0  # about 0.4 s; quadratic: minutes
    assert found == num_deleted
    assert not any(tag in stripped for tag in TAGS)


def test_texts_are_cleaned_and_the_join_needs_it_again():
    cleaned, num_deleted = strip_all(["one<sea", "rch>two<answer>"], TAGS)
    assert cleaned == ["one<sea", "rch>two"] and num_deleted == 1
    assert strip_tags("".join(cleaned), TAGS) == ("onetwo", 1)


@pytest.mark.parametrize("tags", ["<search>", ("<search>", "")])
def test_bad_tags_are_refused(tags):
    with pytest.raises(ValueError, match="non-empty strings"):
        strip_tags("text", tags)


def test_no_tags_delete_nothing():
    assert strip_tags("<search>", ()) == ("<search>", 0)
