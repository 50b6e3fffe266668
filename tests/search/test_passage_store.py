"""Tests of passages on disk, and of finding duplicate ids without keeping ids."""

import concurrent.futures
import random

import pytest

from jaxsearch.search import duplicate_ids
from jaxsearch.search.duplicate_ids import DuplicateIds, Place
from jaxsearch.search.memory_use import memory_use
from jaxsearch.search.passage_store import StoredPassages, blocks_of, write_store
from jaxsearch.search.passages import Passage


@pytest.fixture(scope="module")
def stored(passages, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "p.arrayrecord"
    write_store(passages, path)
    return StoredPassages(path)


def test_passages_are_found_by_position(stored, passages):
    assert len(stored) == 600
    assert list(stored) == passages
    assert stored[417] == passages[417] and stored[-1] == passages[-1]
    assert stored[5:60:7] == passages[5:60:7]
    assert stored.read([9, 3, 9]) == [passages[9], passages[3], passages[9]]
    assert stored.read([]) == [] and stored[600:] == []
    for position in (600, -601):
        with pytest.raises(IndexError):
            stored[position]
    assert [len(block) for block in blocks_of(stored, 256)] == [256, 256, 88]


def test_any_text_is_kept(tmp_path):
    texts = ["", "\0", "a" * 10_000_000, "Alû 東京 \U0001f600", "\u2028\n\r\n"]
    passages = [Passage(id=text[:50], contents=text) for text in texts]
    write_store(passages, tmp_path / "p")
    assert list(StoredPassages(tmp_path / "p")) == passages
    write_store(passages, tmp_path / "again")
    assert (tmp_path / "p").read_bytes() == (tmp_path / "again").read_bytes()


def test_threads_may_read_at_once(stored, passages):
    rng = random.Random(0)
    wanted = [rng.sample(range(600), 20) for _ in range(200)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for positions, found in zip(wanted, threads.map(stored.read, wanted)):  # noqa: B905
            assert found == [passages[position] for position in positions]


@pytest.mark.slow
def test_the_memory_of_a_passage(tmp_path):
    if memory_use() is None:
        pytest.skip("the system does not tell")
    num = 100_000
    write_store(
        (Passage(id=str(n), contents=f"text {n}") for n in range(num)), tmp_path / "p"
    )
    StoredPassages(tmp_path / "p")[0]
    before = memory_use().anonymous
    held = [StoredPassages(tmp_path / "p") for _ in range(4)]
    assert (memory_use().anonymous - before) / (4 * num) < 16
    assert len(held[0]) == num


@pytest.mark.parametrize("buffered", [1000, 7], ids=["in memory", "on disk"])
def test_duplicate_ids(tmp_path, monkeypatch, buffered):
    monkeypatch.setattr(duplicate_ids, "_BUFFERED", buffered)
    ids = [f"id{n}" for n in range(100)]
    ids[30] = ids[90] = ids[5]
    ids[99] = ids[98]
    found = DuplicateIds(tmp_path / "ids")
    for position, id_ in enumerate(ids):
        found.add(id_, Place(position, position // 50, position % 50))
    assert sorted(found.pairs()) == [
        (Place(5, 0, 5), Place(30, 0, 30)),
        (Place(5, 0, 5), Place(90, 1, 40)),
        (Place(98, 1, 48), Place(99, 1, 49)),
    ]
    found.close()
    assert not (tmp_path / "ids").exists()
