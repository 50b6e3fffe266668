"""Tests of vectors in mapped shards."""

import numpy as np
import pytest

from jaxsearch.search.vector_shards import (
    VectorShards,
    as_float16,
    as_float32,
    shard_name,
    write_shard,
)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).standard_normal((23, 8)).astype(np.float16)


@pytest.fixture
def paths(vectors, tmp_path):
    paths = []
    for number, start in enumerate(range(0, 23, 10)):
        paths.append(tmp_path / shard_name(number))
        write_shard(paths[-1], vectors[start : start + 10])
    return paths


def test_every_finite_float16_is_converted_exactly():
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 256)
    halves = np.where(np.isfinite(bits), bits, np.float16(0))
    found = as_float32(halves)
    assert (found == halves.astype(np.float32)).all()
    assert (np.signbit(found) == np.signbit(halves)).all()


@pytest.mark.parametrize("in_memory", [False, True])
def test_rows_and_ranges(vectors, paths, in_memory):
    shards = VectorShards.open(paths, in_memory=in_memory)
    assert (len(shards), shards.dims) == (23, 8)
    positions = np.array([0, 9, 10, 10, 22, 4])
    assert (shards.rows(positions) == vectors[positions]).all()
    for start, stop in ((0, 10), (3, 21), (9, 11), (20, 23)):
        assert (shards.range(start, stop) == vectors[start:stop]).all()
    blocks = list(shards.blocks(7))
    assert [start for start, _ in blocks] == [0, 7, 14, 21]
    assert (np.concatenate([block for _, block in blocks]) == vectors).all()


def test_numpy_reads_a_shard(vectors, paths):
    assert (np.load(paths[1]) == vectors[10:20]).all()
    # The temporary files are gone.
    assert sorted(paths[0].parent.iterdir()) == paths


def test_bad_vectors(paths, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((2, 9), np.float16))
    with pytest.raises(ValueError, match="expected vectors of one width"):
        VectorShards.open([*paths, tmp_path / "wide.npy"])
    np.save(tmp_path / "single.npy", np.zeros((2, 8), np.float32))
    with pytest.raises(ValueError, match="expected numbers of one type"):
        VectorShards.open([*paths, tmp_path / "single.npy"])
    with pytest.raises(ValueError, match="expected vectors, got none"):
        VectorShards.open([])
    with pytest.raises(ValueError, match=r"v: row 41 \(from 0\) has NaN, infinity or"):
        as_float16(np.array([[1.0], [7e4]], np.float32), "v", 40)
