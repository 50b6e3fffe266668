"""Loading a retriever from passages, a file, a folder, an address or an object."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxsearch.hub_files import is_hub_file
from jaxsearch.key_addresses import allow_keys
from jaxsearch.processes import say_once
from jaxsearch.remote.address import is_url
from jaxsearch.remote.open_url import open_url
from jaxsearch.run.loading import is_run
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.encoders import encoder_given, encoder_named
from jaxsearch.search.index import Retriever
from jaxsearch.search.indexes import build_index, load_index
from jaxsearch.search.passages import Passage, read_passages

Source = str | os.PathLike[str] | Sequence[str | Passage] | Retriever
"""Anything that `load_retriever` can turn into a retriever."""


def load_retriever(source: Source, *, encoder: str | Encoder = "tfidf") -> Retriever:
    """Makes a retriever; an index of passages is built in memory.

    Args:
      source: a list of texts or passages; a corpus file, as `read_passages` reads it;
        the folder of an index; the address of a search server, http://HOST:PORT, or
        several with commas between them; or an object with `search(queries, k)`, which
        is returned as it is. The first line of a text is its title; a text of one line
        has none.
      encoder: encoder of passages and queries, if an index is built or is in Milvus:
        tfidf, the folder or Hub id of a BERT encoder, or an encoder.

    Raises:
      ValueError: if the source does not exist, is empty or damaged, or is of another
        kind.

    Example:
      >>> index = jaxsearch.load_retriever(["Vasdib is led by Parruk.", "A film."])
      >>> [[hit]] = index.search(["Parruk"], k=1)
      >>> hit.passage.text
      'Vasdib is led by Parruk.'
    """
    if isinstance(source, Retriever) and not isinstance(source, type):
        return source
    if isinstance(source, str | os.PathLike):
        if isinstance(source, str) and is_url(source):
            allow_keys(source)
            return open_url(source, encoder=encoder, note=say_once)
        path = Path(source)
        if path.is_dir():
            _check_is_index(path)
            return load_index(
                path, encoder=None if isinstance(encoder, str) else encoder
            )
        if not path.is_file() and not is_hub_file(source):
            raise ValueError(
                f"retriever {str(source)!r:.80} is neither a corpus file nor an index "
                "folder; give a single text as a list, [text]"
            )
        passages = read_passages(source)
    elif isinstance(source, Iterable):
        passages = _as_passages(source)
    else:
        raise ValueError(
            "expected texts, a path, an address or an object with search(queries, k) "
            f"as retriever, got {source!r:.80}"
        )
    if isinstance(encoder, str):
        return build_index(passages, encoder_named(encoder, passages))
    return build_index(passages, encoder_given(encoder, passages))


def _check_is_index(folder: Path) -> None:
    """Checks that a folder is not that of a run.

    Raises:
      ValueError: if it is; the error names the indexes of the run.
    """
    if is_run(str(folder)):
        indexes = sorted(str(path) for path in folder.glob("indexes/*"))
        have = (
            f"give one of its indexes: {', '.join(indexes)}"
            if indexes
            else ("it has no index of its own; give the one that its config names")
        )
        raise ValueError(f"{folder} is the folder of a run, not of an index; {have}")


def _as_passages(source: Iterable[object]) -> list[Passage]:
    """Passages of a list; texts get their positions as ids.

    Raises:
      ValueError: if there is none, one is of another type, or two have one id.
    """
    passages = []
    for number, one in enumerate(source):
        if isinstance(one, str):
            contents = one if "\n" in one else f"\n{one}"
            one = Passage(id=str(number), contents=contents)
        if not isinstance(one, Passage):
            raise ValueError(
                f"a retriever is made of texts or passages, got {one!r:.80} at "
                f"position {number}"
            )
        passages.append(one)
    if not passages:
        raise ValueError("a retriever needs at least one passage, got none")
    if len({passage.id for passage in passages}) < len(passages):
        raise ValueError("the ids of a retriever's passages must be distinct")
    return passages
