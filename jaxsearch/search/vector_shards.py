"""Vectors of passages in .npy files that are mapped into memory, not read.

The files are shards: consecutive rows of float16, or of float32 for an index that was
made in memory. The operating system reads the parts that are used, and gives their
memory to others when it is needed.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Integer

from jaxsearch.search.array_files import map_array

DTYPES = (np.dtype("<f2"), np.dtype("<f4"))


class VectorShards:
    """Vectors of all passages, as arrays of consecutive rows.

    Args:
      arrays: float16 or float32, each [rows, dims], mapped or in memory.
    """

    def __init__(self, arrays: Sequence[Float[np.ndarray, "rows dims"]]):
        if not arrays:
            raise ValueError("expected vectors, got none")
        widths = sorted({array.shape[1:] for array in arrays})
        if len(widths) != 1 or len(widths[0]) != 1:
            raise ValueError(f"expected vectors of one width, got {widths}")
        types = {array.dtype for array in arrays}
        if len(types) != 1:
            raise ValueError(f"expected numbers of one type, got {types}")
        self._arrays = list(arrays)
        # Position of the first row of each array, and the number of rows.
        self._starts = np.cumsum([0, *(len(array) for array in arrays)])
        self.dims = widths[0][0]

    @classmethod
    def open(cls, paths: Sequence[Path], *, in_memory: bool = False) -> "VectorShards":
        """Maps the shards of a folder.

        Args:
          paths: files in the order of their rows.
          in_memory: reads them instead, for a machine whose disk is slow.

        Raises:
          ValueError: if a file is damaged or has another type of number.
        """
        arrays = []
        for path in paths:
            array = map_array(path)
            if array.dtype not in DTYPES or array.ndim != 2:
                raise ValueError(
                    f"{path}: expected rows of float16 or float32, found "
                    f"{array.dtype} {array.shape}"
                )
            arrays.append(np.array(array) if in_memory else array)
        return cls(arrays)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def arrays(self) -> list[Float[np.ndarray, "rows dims"]]:
        return list(self._arrays)

    def rows(
        self, positions: Integer[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n dims"]:
        """Vectors at these positions, which must ascend for a good speed."""
        if len(self._arrays) == 1:
            return as_float32(self._arrays[0][positions])
        found = np.empty((len(positions), self.dims), self._arrays[0].dtype)
        shards = np.searchsorted(self._starts, positions, side="right") - 1
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            found[here] = self._arrays[shard][positions[here] - self._starts[shard]]
        return as_float32(found)

    def range(self, start: int, stop: int) -> Float[np.ndarray, "n dims"]:
        """Consecutive rows: a view if they lie in one shard, else a copy."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        for shard in range(first, len(self._arrays)):
            offset = int(self._starts[shard])
            if offset >= stop:
                break
            parts.append(self._arrays[shard][max(start - offset, 0) : stop - offset])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def blocks(self, size: int) -> Iterator[tuple[int, Float[np.ndarray, "n dims"]]]:
        """Consecutive rows and the position of their first, `size` at a time."""
        for start in range(0, len(self), size):
            yield start, self.range(start, min(start + size, len(self)))


def as_float32(
    vectors: Float[np.ndarray, "rows dims"],
) -> Float32[np.ndarray, "rows dims"]:
    """The vectors as float32, without a copy if they are.

    Finite float16 is converted by shifting its bits to where float32 has them, and
    correcting the exponent, which takes a third of the time that NumPy needs.
    """
    if vectors.dtype != np.float16:
        return vectors
    bits = np.ascontiguousarray(vectors).view(np.int16).astype(np.int32)
    bits <<= 13
    # The sign was shifted in as several bits, of which the first one is kept.
    bits &= np.int32(~0x70000000)
    floats = bits.view(np.float32)
    # Exponents of float16 are biased by 15, those of float32 by 127.
    floats *= np.float32(2.0**112)
    return floats


def write_shard(path: Path, vectors: Float[np.ndarray, "rows dims"]) -> None:
    """Writes a .npy file completely or not at all, and waits for the disk."""
    temporary = path.with_name(f".{path.name}")
    vectors = np.ascontiguousarray(vectors)
    with temporary.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(vectors)
        np.lib.format.write_array_header_1_0(file, header)
        # NumPy's own way of writing does not notice a disk that becomes full.
        file.write(vectors.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"{number:05}.npy"


def as_float16(
    vectors: Float[np.ndarray, "rows dims"], where: str, first: int = 0
) -> Float[np.ndarray, "rows dims"]:
    """The vectors as float16.

    Args:
      vectors: rows of numbers.
      where: what they are, for the error.
      first: number of the first row, for the error.

    Raises:
      ValueError: if a number is NaN or infinite, or too large.
    """
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(vectors, np.float16)
    if not np.isfinite(halves).all():
        row = first + int(np.flatnonzero(~np.isfinite(halves).all(axis=1))[0])
        raise ValueError(
            f"{where}: row {row:,} (from 0) has NaN, infinity or a number above "
            "65,504, the largest of float16; correct the vectors"
        )
    return halves
