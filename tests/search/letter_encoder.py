"""A user-defined encoder: counts of letters, scaled to length 1."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from jaxsearch.search.passages import Passage


@dataclasses.dataclass(frozen=True, kw_only=True)
class LetterEncoder:
    """Implements `jaxsearch.search.encoder.Encoder` without inheriting from it."""

    letters: str = "abcdefghijklmnopqrstuvwxyz"
    name: str = "letters"

    @property
    def dims(self) -> int:
        return len(self.letters)

    @property
    def fingerprint(self) -> str:
        return f"letters-{self.letters}"

    def encode_queries(self, queries: Sequence[str]) -> Float32[np.ndarray, "n dims"]:
        counts = [[text.lower().count(x) for x in self.letters] for text in queries]
        vectors = np.array(counts, np.float32).reshape(len(queries), self.dims)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=vectors, where=lengths > 0)

    def encode_passages(
        self, passages: Sequence[Passage]
    ) -> Float32[np.ndarray, "n dims"]:
        return self.encode_queries([passage.contents for passage in passages])


LETTERS = LetterEncoder()


def letters_of(passages: Sequence[Passage]) -> LetterEncoder:
    """A factory: an encoder of the letters that occur in the corpus."""
    found = {letter for p in passages for letter in p.contents.lower()}
    return LetterEncoder(letters="".join(sorted(filter(str.isalpha, found))))
