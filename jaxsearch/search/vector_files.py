"""Vectors that exist already: .npy files, raw numbers, and FAISS's flat indexes."""

import dataclasses
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxsearch.search.array_files import map_array
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.passage_store import passages_at
from jaxsearch.search.passages import Passage

DTYPES = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
# Four letters, dims, rows, two unused numbers, a flag, the metric, and the number of
# floats that follow.
_FAISS = struct.Struct("<4sIQQQ?IQ")
_FAISS_NAME = re.compile(rb"I[A-Za-z0-9]{3}")
_FAISS_L2 = b"IxF2"
_FAISS_KINDS = (b"IxFI", _FAISS_L2)
# How far the length of vectors may be from 1 where distances are to rank as products.
_LENGTH_TOLERANCE = 1e-2
NUM_CHECKED = 64
MIN_COSINE = 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorFile:
    """A file of vectors, one for each passage of a corpus.

    Attributes:
      path: a .npy file, a flat index of FAISS (.index, .faiss), or raw numbers.
      dims: width of raw numbers.
      dtype: type of raw numbers, of DTYPES.
    """

    path: Path
    dims: int | None = None
    dtype: str | None = None

    def __post_init__(self):
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(
                f"--vectors-dtype must be one of {', '.join(DTYPES)}, got "
                f"{self.dtype!r}"
            )
        if self.dims is not None and self.dims < 1:
            raise ValueError(f"--dims must be >= 1, got {self.dims}")

    def open(self) -> Float[np.ndarray, "rows dims"]:
        """The vectors, mapped into memory.

        Raises:
          ValueError: if the file is no file of vectors, or its size does not fit.
        """
        try:
            with self.path.open("rb") as file:
                head = file.read(_FAISS.size)
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror}") from error
        if head.startswith(b"\x93NUMPY"):
            found = map_array(self.path)
        elif self.dtype is None and _FAISS_NAME.match(head):
            found = self._faiss(head)
        else:
            found = self._raw()
        if found.ndim != 2 or found.dtype not in DTYPES.values() or not found.size:
            raise ValueError(
                f"{self.path}: expected rows of float16 or float32, found "
                f"{found.dtype} {found.shape}"
            )
        if self.dims not in (None, found.shape[1]):
            raise ValueError(
                f"{self.path} has vectors of {found.shape[1]} dimensions, expected "
                f"--dims {self.dims}"
            )
        return found

    def _raw(self) -> np.ndarray:
        if self.dims is None or self.dtype is None:
            raise ValueError(
                f"{self.path} is neither a .npy file nor a flat index of FAISS; for "
                "raw numbers, such as FlashRAG's .memmap, give --dims and "
                "--vectors-dtype"
            )
        dtype, size = DTYPES[self.dtype], self.path.stat().st_size
        width = self.dims * dtype.itemsize
        if not size or size % width:
            raise ValueError(
                f"{self.path} has {size:,} bytes, which is no whole number of rows of "
                f"{self.dims} {self.dtype}: --dims or --vectors-dtype is wrong, or the "
                "file was cut"
            )
        return np.memmap(self.path, dtype, "r", shape=(size // width, self.dims)).view(
            np.ndarray
        )

    def _faiss(self, head: bytes) -> np.ndarray:
        kind = head[:4]
        if kind not in _FAISS_KINDS or len(head) < _FAISS.size:
            raise ValueError(
                f"{self.path} is an index of FAISS of the kind {kind!r}, expected a "
                "flat one, which holds the vectors themselves (IxFI, IxF2)"
            )
        _, dims, rows, _, _, _, _, _ = _FAISS.unpack(head)
        size = self.path.stat().st_size
        if not dims or size != _FAISS.size + 4 * rows * dims:
            raise ValueError(
                f"{self.path}: expected {_FAISS.size + 4 * rows * dims:,} bytes for "
                f"{rows:,} vectors of {dims} dimensions, found {size:,}; the file was "
                "cut"
            )
        found = np.memmap(self.path, "<f4", "r", _FAISS.size, (rows, dims))
        sample = found[_spread(rows, NUM_CHECKED)]
        lengths = np.linalg.norm(sample, axis=1)
        if kind == _FAISS_L2 and np.abs(lengths - 1).max() > _LENGTH_TOLERANCE:
            raise ValueError(
                f"{self.path} ranks by distance (IxF2) and its vectors are not of "
                f"length 1 ({lengths.min():.3f} to {lengths.max():.3f}), so inner "
                "products would rank otherwise; scale the vectors to length 1"
            )
        return found.view(np.ndarray)


def check_vectors(
    file: VectorFile,
    vectors: Float[np.ndarray, "rows dims"],
    num_passages: int,
    encoder: Encoder | None,
) -> None:
    """Checks number and width of vectors.

    Raises:
      ValueError: if they do not fit the corpus or the encoder.
    """
    if len(vectors) != num_passages:
        raise ValueError(
            f"{file.path} has {len(vectors):,} vectors for {num_passages:,} passages; "
            "expected one for each, in the order of the corpus"
        )
    if encoder is not None and encoder.dims != vectors.shape[1]:
        raise ValueError(
            f"{file.path} has vectors of {vectors.shape[1]} dimensions, the encoder "
            f"{encoder.name!r} makes {encoder.dims}; name the encoder that made them"
        )


def check_encoder(
    file: VectorFile,
    vectors: Float[np.ndarray, "rows dims"],
    passages: Sequence[Passage],
    encoder: Encoder,
    *,
    seed: int = 0,
) -> float:
    """Encodes some passages and compares them with their vectors.

    Returns:
      The median cosine.

    Raises:
      ValueError: if it is below MIN_COSINE.
    """
    rng = np.random.default_rng(seed)
    num = min(NUM_CHECKED, len(passages))
    positions = np.sort(rng.choice(len(passages), num, replace=False))
    expected = encoder.encode_passages(passages_at(passages, positions.tolist()))
    found = vectors[positions].astype(np.float32)
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    products = (expected * found).sum(axis=1)
    cosines = np.divide(products, lengths, out=np.zeros(num), where=lengths > 0)
    median = float(np.median(cosines))
    # Written so that NaN fails.
    if not median >= MIN_COSINE:
        raise ValueError(
            f"{file.path}: {num} passages encoded with {encoder.name!r} have a median "
            f"cosine of {median:.3f} with their vectors, not {MIN_COSINE} or more: "
            "the vectors were made with another prefix (--passage-prefix), another "
            "pooling (--pooling) or another model, or their order is not that of the "
            "corpus"
        )
    return median


def _spread(num: int, count: int) -> np.ndarray:
    """Evenly spaced rows."""
    return np.linspace(0, num - 1, min(num, count)).astype(np.int64)
