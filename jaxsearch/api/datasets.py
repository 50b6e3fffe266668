"""The datasets that come with the package."""

import difflib
from collections.abc import Callable, Mapping

from jaxsearch.data import quickstart, sample
from jaxsearch.data.dataset import Dataset

_SOURCES: Mapping[str, Callable[[None, int], Dataset]] = {
    "jaxsearch:quickstart": quickstart.dataset,
    "jaxsearch:sample": sample.dataset_with_heldout,
}


def load_dataset(name: str, *, seed: int = 0) -> Dataset:
    """Questions and passages that come with the package; downloads nothing.

    Your own are a list of passages and a list of questions; `read_questions` and
    `load_retriever` read them from files.

    Args:
      name: `jaxsearch:quickstart`, an invented world for the packaged policy of this
        name, whose held-out questions have passages of their own; or
        `jaxsearch:sample`, 300 questions of HotpotQA and MuSiQue with their Wikipedia
        passages.
      seed: of the quickstart's world.

    Raises:
      ValueError: if there is no dataset of this name.

    Example:
      >>> data = jaxsearch.load_dataset("jaxsearch:sample")
      >>> len(data.questions), len(data.heldout), len(data.passages)
      (250, 50, ...)
    """
    if name not in _SOURCES:
        near = difflib.get_close_matches(name, _SOURCES)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"unknown dataset {name!r:.80}; {hint}expected one of "
            f"{', '.join(_SOURCES)}; read your own with read_questions and "
            "load_retriever"
        )
    return _SOURCES[name](None, seed)
