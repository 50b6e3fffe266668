"""Search by words: BM25 over stems, without vectors."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from jaxsearch.search.bm25_postings import Bm25Settings, Postings, write_postings
from jaxsearch.search.index import Hit
from jaxsearch.search.index_folder import Corpora, StoredIndex
from jaxsearch.search.lexical_terms import Terms
from jaxsearch.search.nearest import Nearest, best, check_k, hits_of
from jaxsearch.search.passages import Passage

BM25 = "bm25"  # name of the "encoder", kind of the index and folder of its files


class Bm25Index:
    """An index that ranks passages by the stems they share with a query.

    Queries are answered one at a time, and a score is summed in a fixed order, so that
    no answer depends on a batch or a thread. Among equal scores, the passage that comes
    first in the corpus wins.
    """

    kind: ClassVar[str] = BM25
    encoder: ClassVar[None] = None

    def __init__(
        self,
        passages: Sequence[Passage],
        postings: Postings,
        settings: Bm25Settings,
        *,
        corpus_fingerprint: str,
        corpora: Corpora,
    ):
        self.passages = passages
        self.settings = settings
        self.corpus_fingerprint = corpus_fingerprint
        self.corpora = corpora
        self.reason = ""  # nothing was chosen
        self._postings = postings
        self._terms = Terms(settings.language)
        self._stemming = threading.Lock()  # a stemmer is not for several threads

    def __repr__(self) -> str:
        return f"Bm25Index({len(self.passages):,} passages)"

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first; none if no word is known."""
        return hits_of(self.nearest(queries, k), self.passages, self.corpora)

    def nearest(self, queries: Sequence[str], k: int) -> list[Nearest]:
        """Positions and scores of the best passages; reads no passage."""
        check_k(k)
        found = []
        for query in queries:
            with self._stemming:
                terms, counts = self._terms.counted(query)
            found.append(best(*self._postings.best(terms, counts, k), k))
        return found

    def num_postings(self, query: str) -> int:
        """Postings that a search for the query reads."""
        with self._stemming:
            terms, _ = self._terms.counted(query)
        return self._postings.count(terms)

    def scorer_json(self) -> dict[str, Any]:
        """Settings of the search, for the manifest."""
        return {"name": BM25, **self.settings.to_json()}


def build_bm25(
    passages: Sequence[Passage],
    folder: Path,
    settings: Bm25Settings,
    report: Callable[[int, int], None] = lambda num_done, num_passages: None,
) -> dict[str, Any]:
    """Writes the files of BM25 for an index folder, and returns its settings.

    Args:
      passages: the corpus.
      folder: of the index; the files go to bm25/ in it, in place of others.
      settings: of BM25.
      report: called with the number of passages read, and their total.

    Raises:
      ValueError: if no passage has a word.
    """
    if (folder / BM25).exists():
        shutil.rmtree(folder / BM25)  # of a build that was stopped
    (folder / BM25).mkdir()
    write_postings(
        (passage.contents for passage in passages),
        folder / BM25,
        settings,
        lambda num_done: report(num_done, len(passages)),
    )
    return {"name": BM25, **settings.to_json()}


def bm25_fingerprint(settings: Bm25Settings) -> str:
    """Hash of what turns texts into terms and weights."""
    return hashlib.sha256(json.dumps(settings.to_json()).encode()).hexdigest()[:32]


def settings_from_json(fields: dict[str, Any], where: str) -> Bm25Settings:
    """The settings that `Bm25Settings.to_json` wrote.

    Args:
      fields: of a manifest.
      where: the file that has them, for the error.

    Raises:
      ValueError: if a setting is unknown, missing or out of range.
    """
    given = {name: value for name, value in fields.items() if name != "name"}
    expected = Bm25Settings().to_json()
    for name, value in expected.items():
        kinds = (int, float) if type(value) is float else (type(value),)
        if type(given.get(name)) not in kinds:
            raise ValueError(
                f"{where}: expected BM25's {name}, a {type(value).__name__}, found "
                f"{given.get(name)!r:.60}; rebuild the index"
            )
    if given.keys() != expected.keys():
        raise ValueError(
            f"{where}: expected BM25's settings {sorted(expected)}, found "
            f"{sorted(given)!r:.200}; rebuild the index"
        )
    return Bm25Settings(**given)


def open_bm25(stored: StoredIndex) -> Bm25Index:
    """Opens an index of kind bm25.

    Raises:
      ValueError: if its files are damaged or PyStemmer is missing.
    """
    return open_postings(stored, stored.manifest.scorer)


def open_postings(stored: StoredIndex, fields: dict[str, Any]) -> Bm25Index:
    """Opens the BM25 part of an index whose settings are these fields."""
    settings = settings_from_json(fields, f"{stored.folder}/index.json")
    return Bm25Index(
        stored.passages,
        Postings(stored.folder / BM25, len(stored.passages)),
        settings,
        corpus_fingerprint=stored.manifest.corpus_fingerprint,
        corpora=stored.corpora,
    )
