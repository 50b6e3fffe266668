"""BM25 on disk: for each term, the passages that have it, and its weight in each.

The arrays are mapped from files, so that an open index takes almost no memory of its
own. The weight of a term in a passage is BM25's in the form of Lucene,

  log(1 + (P - n + 0.5) / (n + 0.5)) * f / (f + k1 * (1 - b + b * length / mean length))

for a term that occurs f times in the passage and is in n of P passages (Robertson and
Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", without the
constant factor k1 + 1). The score of a passage is the sum over the terms of the query.

files of a folder:
  terms.npy      uint64 [V], ascending
  starts.npy     int64 [V + 1]: the postings of term v are starts[v] to starts[v + 1]
  positions.npy  int32 [N], ascending within a term
  weights.npy    float32 [N]
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, Integer, UInt64

from jaxsearch.search.array_files import map_array
from jaxsearch.search.lexical_terms import DEFAULT_LANGUAGE, Terms

_BLOCK_SIZE = 20_000  # passages whose terms are in memory at once
_DTYPES = {
    "terms": np.uint64,
    "starts": np.int64,
    "positions": np.int32,
    "weights": np.float32,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bm25Settings:
    """The settings that affect the scores of an index, apart from its corpus.

    Defaults were chosen on 998 questions for training (HotpotQA and MuSiQue).

    Attributes:
      k1: how slowly a term's weight saturates as it is repeated in a passage.
      b: how far long passages are penalized, from 0 to 1.
      language: of stemming, a name that Snowball knows, or "none".
      max_share: a term in more than this share of the passages is left out, because
        it says little and has the longest list. A query of nothing else finds nothing.
      min_common: a term in fewer passages than this is never left out.
    """

    k1: float = 1.2
    b: float = 0.75
    language: str = DEFAULT_LANGUAGE
    max_share: float = 0.25
    min_common: int = 1000

    def __post_init__(self):
        for name, low, high in (("k1", 0, 100), ("b", 0, 1), ("max_share", 0, 1)):
            value = vars(self)[name]
            if not low <= value <= high:
                raise ValueError(
                    f"BM25's {name} must be from {low} to {high}, got {value}"
                )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class _Block(NamedTuple):
    """Occurrences in consecutive passages, by term and then by position."""

    terms: UInt64[np.ndarray, " terms"]  # ascending
    counts: Int64[np.ndarray, " terms"]  # postings of each term
    positions: Int32[np.ndarray, " postings"]
    frequencies: Float32[np.ndarray, " postings"]


def write_postings(
    texts: Iterable[str],
    folder: Path,
    settings: Bm25Settings,
    report: Callable[[int], None] = lambda num_done: None,
) -> None:
    """Writes the arrays of a corpus to an existing folder.

    Texts are read once. Occurrences go to temporary files in the folder, so that the
    memory needed is that of one block, the vocabulary and 4 bytes per passage.

    Args:
      texts: the passages in order.
      folder: where to write.
      settings: of the index.
      report: called with the number of texts read so far.

    Raises:
      ValueError: if no text has a word.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".blocks-") as kept:
        blocks, lengths = [], []
        for block, block_lengths in _blocks(texts, Terms(settings.language)):
            blocks.append(Path(kept) / f"{len(blocks)}")
            _keep(block, blocks[-1])
            lengths.append(block_lengths)
            report(sum(map(len, lengths)))
        _merge(blocks, np.concatenate(lengths or [np.zeros(0)]), folder, settings)


def _blocks(
    texts: Iterable[str], terms: Terms
) -> Iterator[tuple[_Block, Float32[np.ndarray, " block"]]]:
    """Occurrences and lengths of the texts, a block at a time."""
    found: list[int] = []
    lengths: list[int] = []
    start = 0

    def block() -> tuple[_Block, np.ndarray]:
        hashes = np.array(found, np.uint64)
        distinct, numbers = np.unique(hashes, return_inverse=True)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        pairs, frequencies = np.unique(
            numbers.astype(np.int64) * len(lengths) + rows, return_counts=True
        )
        counts = np.bincount(pairs // len(lengths), minlength=len(distinct))
        positions = (start + pairs % len(lengths)).astype(np.int32)
        return (
            _Block(distinct, counts, positions, frequencies.astype(np.float32)),
            np.array(lengths, np.float32),
        )

    for text in texts:
        of_text = terms.of(text)
        found += of_text
        lengths.append(len(of_text))
        if len(lengths) == _BLOCK_SIZE:
            yield block()
            start += len(lengths)
            found, lengths = [], []
    if lengths:
        yield block()


def _keep(block: _Block, path: Path) -> None:
    for name, array in block._asdict().items():
        np.save(path.with_name(f"{path.name}.{name}.npy"), array)


def _kept(path: Path) -> _Block:
    return _Block(
        *(np.load(path.with_name(f"{path.name}.{name}.npy")) for name in _Block._fields)
    )


def _merge(
    blocks: list[Path],
    lengths: Float32[np.ndarray, " P"] | Float64[np.ndarray, " P"],
    folder: Path,
    settings: Bm25Settings,
) -> None:
    """Writes the postings of all blocks, those of each term together."""
    terms = np.zeros(0, np.uint64)
    for path in blocks:
        terms = np.union1d(terms, _kept(path).terms)
    totals = np.zeros(len(terms), np.int64)
    for path in blocks:
        block = _kept(path)
        totals[np.searchsorted(terms, block.terms)] += block.counts
    if not len(terms):
        raise ValueError(
            f"none of the {len(lengths)} passages has a word; expected text"
        )
    num_passages = len(lengths)
    is_common = totals > max(settings.max_share * num_passages, settings.min_common)
    kept_totals = np.where(is_common, 0, totals)
    idf = np.log1p((num_passages - totals + 0.5) / (totals + 0.5))
    damping = settings.k1 * (1 - settings.b + settings.b * lengths / lengths.mean())
    starts = np.concatenate([[0], np.cumsum(kept_totals)])
    np.save(folder / "terms.npy", terms)
    np.save(folder / "starts.npy", starts.astype(np.int64))
    positions, weights = (
        np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", _DTYPES[name], (int(starts[-1]),)
        )
        for name in ("positions", "weights")
    )
    next_free = starts[:-1].copy()
    for path in blocks:
        block = _kept(path)
        numbers = np.searchsorted(terms, block.terms)
        is_kept = np.repeat(~is_common[numbers], block.counts)
        of_posting = np.repeat(numbers, block.counts)[is_kept]
        first = np.repeat(np.cumsum(block.counts) - block.counts, block.counts)
        within = (np.arange(len(block.positions)) - first)[is_kept]
        where = next_free[of_posting] + within
        at, often = block.positions[is_kept], block.frequencies[is_kept]
        positions[where] = at
        weights[where] = idf[of_posting] * often / (often + damping[at])
        next_free[numbers] += np.where(is_common[numbers], 0, block.counts)
    positions.flush()
    weights.flush()


class Postings:
    """The arrays of a folder, mapped."""

    def __init__(self, folder: Path, num_passages: int):
        """Opens the files; nothing is unpickled.

        Raises:
          ValueError: if a file is missing, damaged or does not fit the others.
        """
        arrays = {name: _mapped(folder / f"{name}.npy", name) for name in _DTYPES}
        self._terms, self._starts = arrays["terms"], arrays["starts"]
        self._positions, self._weights = arrays["positions"], arrays["weights"]
        self.num_passages = num_passages
        fits = (
            len(self._starts) == len(self._terms) + 1
            and self._starts[0] == 0
            and self._starts[-1] == len(self._positions) == len(self._weights)
        )
        if not fits:
            raise ValueError(
                f"{folder} is damaged: {len(self._terms)} terms, {len(self._starts)} "
                f"starts, {len(self._positions)} positions and {len(self._weights)} "
                "weights do not fit; rebuild the index"
            )

    @property
    def num_terms(self) -> int:
        return len(self._terms)

    def count(self, terms: UInt64[np.ndarray, " terms"]) -> int:
        """Number of postings of these terms."""
        numbers = np.searchsorted(self._terms, terms)
        return sum(
            int(self._starts[number + 1] - self._starts[number])
            for number, term in zip(numbers, terms, strict=True)
            if number < len(self._terms) and self._terms[number] == term
        )

    def best(
        self,
        terms: UInt64[np.ndarray, " terms"],
        counts: Integer[np.ndarray, " terms"],
        k: int,
    ) -> tuple[Int64[np.ndarray, " hits"], Float32[np.ndarray, " hits"]]:
        """Positions and scores of passages that have a term, at least the k best.

        All passages that tie at rank k are among them, in no particular order.

        Args:
          terms: different terms of a query, ascending.
          counts: how often each occurs in the query.
          k: how many are wanted.
        """
        scores = np.zeros(self.num_passages, np.float32)
        numbers = np.searchsorted(self._terms, terms)
        for number, term, count in zip(numbers, terms, counts, strict=True):
            if number < len(self._terms) and self._terms[number] == term:
                start, end = int(self._starts[number]), int(self._starts[number + 1])
                positions = self._positions[start:end]
                if len(positions):
                    self._check(positions)
                # A passage occurs once per term, so that no sum is lost.
                scores[positions] += np.float32(count) * self._weights[start:end]
        found = np.flatnonzero(scores)
        if k < len(found):
            of_found = scores[found]
            found = found[of_found >= np.partition(of_found, -k)[-k]]
        return found, scores[found]

    def _check(self, positions: np.ndarray) -> None:
        first, last = int(positions.min()), int(positions.max())
        if first < 0 or last >= self.num_passages:
            raise ValueError(
                "BM25's postings are damaged, or of another corpus: passages "
                f"{first} to {last} of {self.num_passages}; rebuild the index"
            )


def _mapped(path: Path, name: str) -> np.ndarray:
    try:
        array = map_array(path)
        if array.ndim != 1 or array.dtype != _DTYPES[name]:
            raise ValueError(
                f"{path} is damaged: expected a row of {_DTYPES[name].__name__}, found "
                f"{array.dtype} in the shape {array.shape}"
            )
    except ValueError as error:
        raise ValueError(f"{error}; rebuild the index") from error
    return array
