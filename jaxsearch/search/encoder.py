"""Texts to vectors: what an encoder is, and the one that needs no model.

`TfidfEncoder` projects TF-IDF vectors to `dims` dimensions. Each word is given
`NONZEROS` random dimensions with random signs, one in each of as many equal blocks
(a sparse Johnson-Lindenstrauss transform: Kane and Nelson 2014, "Sparser
Johnson-Lindenstrauss transforms", block construction), so inner products stay what
they were up to noise of about 1 / sqrt(dims).

Measured on 31,442 Wikipedia passages, share of supporting titles in the top five
for 898 HotpotQA questions / for the titles themselves, exact search:

  exact sparse TF-IDF            0.727 / 0.970
  this projection, 2048          0.711 / 0.969 (mean of two seeds, as below)
  this projection, 1024          0.696 / 0.969
  this projection, 512           0.669 / 0.960
  scikit-learn's SparseRandomProjection at its own density, 1024   0.638 / 0.910
  one dimension per word (CountSketch), 1024                       0.602 / 0.823
  TruncatedSVD, 512                                                0.384 / 0.655

SVD drops the rare words, which are the names that questions ask about; the other two
let two words of a query share their only dimensions with a wrong passage's.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int8, Int32

from jaxsearch.search.encoder_options import QueryDevice, Report, no_report
from jaxsearch.search.passages import Passage

DEFAULT_DIMS = 1024
NONZEROS = 16
# One-letter words count: "Vitamin C", "Malcolm X".
TOKEN_PATTERN = r"(?u)\w+"
# Passages in memory as dense rows at once, beside the result.
BATCH_SIZE = 4096


@runtime_checkable  # for the checks of annotations in tests
class Encoder(Protocol):
    """Turns queries and passages into vectors whose inner product ranks passages.

    Vectors have length 1, unless a model is made for others, or are zero where
    nothing of the text is known. What a query becomes does not depend on the queries
    beside it; what a passage becomes neither, but for rounding.
    """

    name: str
    dims: int

    @property
    def fingerprint(self) -> str:
        """Changes with anything that changes a vector."""
        ...

    def encode_queries(self, queries: Sequence[str]) -> Float32[np.ndarray, "n dims"]:
        """One row per query."""
        ...

    def encode_passages(
        self, passages: Sequence[Passage]
    ) -> Float32[np.ndarray, "n dims"]:
        """One row per passage."""
        ...

    def describe(self) -> dict[str, Any]:
        """Its settings, and what became of texts so far, to be printed as JSON."""
        ...

    def save(self, folder: Path) -> None:
        """Writes an `encoder.json` with its name, and whatever else it needs."""
        ...


class TfidfEncoder:
    """TF-IDF of words, randomly projected; see the module for what is lost."""

    name: ClassVar[str] = "tfidf"

    def __init__(
        self,
        *,
        words: Sequence[str],
        idf: Float32[np.ndarray, " words"],
        buckets: Int32[np.ndarray, "words nonzeros"],
        signs: Int8[np.ndarray, "words nonzeros"],
        dims: int,
    ):
        """Puts the parts together; `fit` and `load` make them."""
        import scipy.sparse
        from sklearn.feature_extraction.text import TfidfVectorizer

        num_words, nonzeros = buckets.shape
        if not (len(words) == len(idf) == num_words and signs.shape == buckets.shape):
            raise ValueError(
                f"expected one idf and one row of the projection per word, got "
                f"{len(words)} words, idf {idf.shape}, buckets {buckets.shape}, "
                f"signs {signs.shape}"
            )
        if num_words and not 0 <= buckets.min() <= buckets.max() < dims:
            raise ValueError(
                f"projection buckets must lie in [0, {dims}), got "
                f"[{buckets.min()}, {buckets.max()}]"
            )
        self.dims = dims
        self._words, self._idf = list(words), idf
        self._buckets, self._signs = buckets, signs
        self._vectorizer = TfidfVectorizer(
            vocabulary={word: column for column, word in enumerate(words)},
            token_pattern=TOKEN_PATTERN,
            sublinear_tf=True,
            dtype=np.float32,
        )
        # Also after `fit`: the same words and weights must give the same bits,
        # however the encoder came to be.
        self._vectorizer.idf_ = idf
        self._projection = scipy.sparse.csr_matrix(
            (
                signs.astype(np.float32).ravel(),
                buckets.ravel(),
                np.arange(num_words + 1) * nonzeros,
            ),
            shape=(num_words, dims),
        )
        self._fingerprint = self._compute_fingerprint()

    @classmethod
    def fit(
        cls, passages: Sequence[Passage], *, dims: int = DEFAULT_DIMS, seed: int = 0
    ) -> "TfidfEncoder":
        """Counts the words of the passages, and draws each one's dimensions.

        Args:
          dims: a multiple of NONZEROS; noise in a score is about 1 / sqrt(dims).
          seed: of the projection.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        if dims < NONZEROS or dims % NONZEROS:
            raise ValueError(
                f"dims must be a positive multiple of {NONZEROS}, got {dims}"
            )
        # A vectorizer without a vocabulary is no more than a way to split words.
        split = TfidfVectorizer(token_pattern=TOKEN_PATTERN).build_analyzer()
        if not any(split(passage.contents) for passage in passages):
            raise ValueError(
                f"none of the {len(passages)} passages holds a word; expected text"
            )
        vectorizer = TfidfVectorizer(
            token_pattern=TOKEN_PATTERN, sublinear_tf=True, dtype=np.float32
        )
        vectorizer.fit([passage.contents for passage in passages])
        words = vectorizer.get_feature_names_out().tolist()
        rng = np.random.default_rng(seed)
        width = dims // NONZEROS
        shape = (len(words), NONZEROS)
        buckets = rng.integers(0, width, shape) + np.arange(NONZEROS)[None] * width
        return cls(
            words=words,
            idf=vectorizer.idf_.astype(np.float32),
            buckets=buckets.astype(np.int32),
            signs=rng.choice(np.array([-1, 1], np.int8), shape),
            dims=dims,
        )

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def encode_queries(self, queries: Sequence[str]) -> Float32[np.ndarray, "n dims"]:
        return self._encode(list(queries))

    def encode_passages(
        self, passages: Sequence[Passage]
    ) -> Float32[np.ndarray, "n dims"]:
        return self._encode([passage.contents for passage in passages])

    def describe(self) -> dict[str, Any]:
        return {"num_words": len(self._words)}

    def save(self, folder: Path) -> None:
        """Writes JSON and .npy files, no pickle, into a new or empty folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; save an encoder elsewhere")
        settings = {
            "name": self.name,
            "dims": self.dims,
            "num_words": len(self._words),
            "fingerprint": self.fingerprint,
        }
        (folder / "encoder.json").write_text(json.dumps(settings, indent=2) + "\n")
        (folder / "words.json").write_text(json.dumps(self._words), encoding="utf-8")
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> "TfidfEncoder":
        """Reads what `save` wrote; its vectors are the same bit for bit."""
        settings = read_encoder_json(folder)
        try:
            words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
            idf, buckets, signs = (
                np.load(folder / f"{name}.npy", allow_pickle=False)
                for name in ("idf", "buckets", "signs")
            )
            encoder = cls(
                words=words,
                idf=idf,
                buckets=buckets,
                signs=signs,
                dims=settings["dims"],
            )
            expected = settings["fingerprint"]
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise ValueError(
                f"{folder} holds no readable tfidf encoder ({error}); rebuild the index"
            ) from error
        if encoder.fingerprint != expected:
            raise ValueError(
                f"{folder} was changed after it was saved: expected encoder "
                f"fingerprint {expected}, found {encoder.fingerprint}; rebuild the "
                "index"
            )
        return encoder

    def _encode(self, texts: list[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dims), np.float32)
        for start in range(0, len(texts), BATCH_SIZE):
            batch = texts[start : start + BATCH_SIZE]
            rows = self._vectorizer.transform(batch) @ self._projection
            rows.toarray(out=vectors[start : start + len(batch)])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=vectors, where=lengths > 0)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"idf": self._idf, "buckets": self._buckets, "signs": self._signs}

    def _compute_fingerprint(self) -> str:
        settings = [self.name, self.dims, TOKEN_PATTERN, self._words]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for name, array in self._arrays().items():
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:32]


def load_encoder(
    folder: Path, *, query_device: QueryDevice = "host", report: Report = no_report
) -> Encoder:
    """Reads a saved encoder, of the kind that its `encoder.json` names.

    Args:
      query_device, report: of a neural encoder; TF-IDF has neither.
    """
    name = read_encoder_json(folder).get("name")
    if name == TfidfEncoder.name:
        return TfidfEncoder.load(folder)
    # That module needs this one, and jax.
    from jaxsearch.search.neural_encoder import NeuralEncoder

    if name == NeuralEncoder.name:
        return NeuralEncoder.load(folder, query_device=query_device, report=report)
    raise ValueError(
        f"{folder}/encoder.json names the encoder {name!r}; this function knows "
        f"{TfidfEncoder.name!r} and {NeuralEncoder.name!r} only: load another yourself "
        "and pass it on"
    )


def read_encoder_json(folder: Path) -> dict:
    """What an encoder's `save` wrote about it."""
    path = folder / "encoder.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected an encoder's settings ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: expected a JSON object, got {settings!r:.60}")
    return settings
