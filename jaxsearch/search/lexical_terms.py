"""Terms of a text for BM25: stems of its words, as 64-bit hashes.

A term is the hash of a stem, so a vocabulary is one sorted array that can be mapped
from a file, however many words a corpus has. Two of ten million stems share a hash
with a probability of 3 in a million.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

DEFAULT_LANGUAGE = "english"
# One-letter words are kept: "Vitamin C", "Malcolm X".
_WORD = re.compile(r"\w+")
# Longer words are cut, because words that were seen are kept in memory.
_MAX_WORD_CHARS = 64
_MAX_KEPT_WORDS = 100_000


class Terms:
    """Turns texts into terms; not for several threads at once.

    Words are runs of letters and digits, without case and accents: "plzen" finds
    "Plzeň".

    Args:
      language: name of a Snowball stemmer, such as "english", "german" or "none" for
        words as they are.

    Raises:
      ValueError: if the language is unknown or PyStemmer is not installed.
    """

    def __init__(self, language: str = DEFAULT_LANGUAGE):
        self.language = language
        self._stemmer = None if language == "none" else _stemmer(language)
        self._hashes: dict[str, int] = {}

    def of(self, text: str) -> list[int]:
        """The terms of a text in order; a term occurs as often as in the text."""
        if len(self._hashes) > _MAX_KEPT_WORDS:
            self._hashes.clear()
        known = self._hashes
        found = []
        for word in _WORD.findall(_folded(text)):
            word = word[:_MAX_WORD_CHARS]
            term = known.get(word)
            if term is None:
                term = known[word] = self._hash(word)
            found.append(term)
        return found

    def counted(
        self, text: str
    ) -> tuple[UInt64[np.ndarray, " terms"], Int64[np.ndarray, " terms"]]:
        """The different terms of a text, ascending, and how often each occurs."""
        return np.unique(np.array(self.of(text), np.uint64), return_counts=True)

    def _hash(self, word: str) -> int:
        stem = word if self._stemmer is None else self._stemmer.stemWord(word)
        digest = hashlib.blake2b(stem.encode(errors="surrogatepass"), digest_size=8)
        return int.from_bytes(digest.digest(), "little")


def check_language(language: str) -> None:
    """Raises ValueError if there is no stemmer for the language."""
    Terms(language)


def _folded(text: str) -> str:
    """Lower-case text without accents."""
    text = text.lower()
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _stemmer(language: str) -> Any:
    try:
        import Stemmer
    except ImportError as error:
        raise ValueError(
            "PyStemmer, which BM25 uses for stemming, is not installed; "
            "`pip install 'jaxsearch[bm25]'`"
        ) from error
    known: Sequence[str] = Stemmer.algorithms()
    if language not in known:
        raise ValueError(
            f"no stemmer for the language {language!r}; expected none or one of "
            f"{', '.join(known)}"
        )
    return Stemmer.Stemmer(language)
