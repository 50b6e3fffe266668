"""The retrievers of a run: given by value, or indexes that are read or built."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from jaxsearch import processes
from jaxsearch.config import RetrievalConfig, RunConfig
from jaxsearch.run.inputs import Inputs
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.index import Retriever
from jaxsearch.search.passages import Passage
from jaxsearch.search.shared_index import SharedIndex, serve


def open_retrievers(config: RunConfig, inputs: Inputs) -> Sequence[Retriever]:
    """The retriever for training and the one for held-out questions.

    A retriever that the config gives by value serves both, and every process opens its
    own. An index that is built here is kept in the run's folder, so that a run that
    resumes searches the same one. The first process of each machine opens the indexes
    and answers the others.
    """
    if config.retrieval.retriever is not None:
        retriever = _opened(config.retrieval.retriever)
        return retriever, retriever
    machines = processes.all_gather_objects(socket.gethostname())
    leader = machines.index(socket.gethostname())
    indexes: Sequence[Retriever] = ()
    if processes.is_primary():
        indexes = _open_here(config, inputs)
    # Machines that share the run's folder find the indexes that the first one built.
    processes.wait_for_all("indexes of the first machine")
    if leader == jax.process_index() and not indexes:
        indexes = _open_here(config, inputs)
    is_shared = machines.count(socket.gethostname()) > 1
    addresses = processes.all_gather_objects(
        serve(indexes) if indexes and is_shared else None
    )
    address = addresses[leader]
    if address is not None and leader != jax.process_index():
        indexes = [SharedIndex(address, number) for number in (0, 1)]
    return indexes


def _opened(retriever: Retriever | Callable[[], Retriever]) -> Retriever:
    """A retriever given by value: the object itself, or made by a function or class.

    Raises:
      ValueError: if the function makes something else.
    """
    # A class has the attribute `search` as well, but is no retriever yet.
    if isinstance(retriever, Retriever) and not isinstance(retriever, type):
        return retriever
    made = retriever()
    if not isinstance(made, Retriever):
        raise ValueError(
            "retrieval.retriever must make an object with a method search(queries, k), "
            f"got {made!r:.80}"
        )
    return made


def _open_here(config: RunConfig, inputs: Inputs) -> tuple[Retriever, Retriever]:
    """Opens or builds the indexes of training and of held-out questions."""
    from jaxsearch.search.indexes import load_index

    folder = Path(config.out) / "indexes"
    if inputs.passages is None:
        index = load_index(
            config.retrieval.index,
            encoder=_given_encoder(config.retrieval),
            query_device=config.retrieval.query_device,
        )
    else:
        index = _index_of(inputs.passages, folder / "train", config.retrieval)
    if not inputs.heldout_passages:
        return index, index
    heldout = _index_of(inputs.heldout_passages, folder / "heldout", config.retrieval)
    return index, heldout


def _index_of(
    passages: list[Passage], folder: Path, retrieval: RetrievalConfig
) -> Retriever:
    """The index of these passages: from the folder, or built and saved there."""
    from jaxsearch.search.encoders import encoder_given, encoder_named
    from jaxsearch.search.indexes import build_index, load_index
    from jaxsearch.search.passages import corpus_fingerprint

    if folder.exists():
        return load_index(
            folder,
            corpus_fingerprint=corpus_fingerprint(passages),
            encoder=_given_encoder(retrieval),
            query_device=retrieval.query_device,
        )
    given = _given_encoder(retrieval)
    if given is not None:
        encoder = encoder_given(given, passages)
    else:
        encoder = encoder_named(
            retrieval.encoder,
            passages,
            dims=retrieval.dims if retrieval.encoder == "tfidf" else None,
            query_device=retrieval.query_device,
        )
    index = build_index(passages, encoder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    index.save(folder)
    return index


def _given_encoder(retrieval: RetrievalConfig) -> Encoder | EncoderFactory | None:
    """The encoder of a config that gives it by value, not by name."""
    return None if isinstance(retrieval.encoder, str) else retrieval.encoder
