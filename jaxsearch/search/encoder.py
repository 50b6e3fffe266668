"""The interface of encoders, which turn texts into vectors.

Encoders of this package: `tfidf_encoder`, `bert_encoder`. A custom encoder is any
object with the members of `Encoder`, given by value (see `encoders`).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from jaxsearch.json_files import read_json_object
from jaxsearch.search.passages import Passage


@runtime_checkable  # for isinstance, and for the annotation checks of the tests
class Encoder(Protocol):
    """Turns queries and passages into vectors whose inner product ranks passages.

    Vectors have length 1 unless the model was trained otherwise. A text without any
    known content has the zero vector; as a query it finds nothing. The vector of a
    query must not depend on the other queries of the call; the vector of a passage may
    depend on the other passages by rounding only.
    """

    name: str
    dims: int

    @property
    def fingerprint(self) -> str:
        """A string that changes whenever any vector changes."""
        ...

    def encode_queries(self, queries: Sequence[str]) -> Float32[np.ndarray, "n dims"]:
        """Returns one row per query."""
        ...

    def encode_passages(
        self, passages: Sequence[Passage]
    ) -> Float32[np.ndarray, "n dims"]:
        """Returns one row per passage."""
        ...


@runtime_checkable
class SavableEncoder(Encoder, Protocol):
    """An encoder of this package, which can be saved in an index folder."""

    def describe(self) -> dict[str, Any]:
        """Settings and counts so far, as JSON values."""
        ...

    def save(self, folder: Path) -> None:
        """Writes `encoder.json`, and the files that `load` needs, to a new folder."""
        ...


EncoderFactory = Callable[[Sequence[Passage]], Encoder]
"""Makes the encoder of an index from the passages of that index."""


def encoder_source(encoder: Encoder) -> str:
    """`module:qualname` of the encoder's class."""
    return f"{type(encoder).__module__}:{type(encoder).__qualname__}"


def make_encoder_folder(folder: Path) -> None:
    """Makes the folder of a saved encoder.

    Raises:
      ValueError: if it exists and is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty; save the encoder to an empty or new folder"
        )


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Writes an encoder to a new folder, to be read by `encoders.load_encoder`.

    An encoder that cannot save itself is recorded by the name of its class and its
    fingerprint. An index with this record opens only with the encoder given by value.
    """
    if isinstance(encoder, SavableEncoder):
        encoder.save(folder)
        return
    make_encoder_folder(folder)
    record = {
        "name": encoder.name,
        "source": encoder_source(encoder),
        "dims": encoder.dims,
        "fingerprint": encoder.fingerprint,
    }
    (folder / "encoder.json").write_text(json.dumps(record, indent=2) + "\n")


def needs_given(folder: Path) -> bool:
    """Whether a saved encoder can only be given by value; False if none is there."""
    is_there = (folder / "encoder.json").is_file()
    return is_there and "source" in read_encoder_json(folder)


def read_encoder_json(folder: Path) -> dict[str, Any]:
    """Returns the content of a saved encoder's `encoder.json`.

    Raises:
      ValueError: if the file is missing or is not a JSON object.
    """
    path = folder / "encoder.json"
    try:
        return read_json_object(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected an encoder's settings ({error})") from error
