"""The retrievers of a run: custom ones, or indexes that are loaded or built."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from jaxsearch import processes
from jaxsearch.config import RetrievalConfig, RunConfig
from jaxsearch.run.inputs import Inputs
from jaxsearch.run.remote_retrievers import (
    NO_REMOTE,
    RemoteRetrievers,
    open_remote_retrievers,
)
from jaxsearch.run.signatures import is_made
from jaxsearch.search.bm25_index import BM25
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.encoders import (
    check_encoder_folder,
    encoder_given,
    encoder_named,
    saved_encoder_name,
)
from jaxsearch.search.index import Retriever
from jaxsearch.search.manifest import Manifest
from jaxsearch.search.passages import Passage
from jaxsearch.search.shared_index import SharedIndex, serve


class IndexEncoders(NamedTuple):
    """Encoders made by the config's function; None if it was not called."""

    train: Encoder | None = None
    heldout: Encoder | None = None


NO_ENCODERS = IndexEncoders()


def check_index(config: RunConfig, inputs: Inputs) -> IndexEncoders:
    """Checks the inputs of the index, except for large files; writes nothing.

    If the config has a function that makes encoders, the primary process calls it and
    returns the encoders, which should be passed to `open_retrievers`.

    Raises:
      ValueError: if the index is damaged, or the encoder is unknown, not readable or
        not an encoder.
    """
    retrieval, given = config.retrieval, _given_encoder(config.retrieval)
    for folder in filter(None, {retrieval.index, retrieval.heldout_index}):
        manifest = Manifest.read(Path(folder))
        if given is None and manifest.kind != BM25:
            saved_encoder_name(Path(folder) / "encoder")
    if retrieval.index:
        return NO_ENCODERS
    if not inputs.passages:
        return NO_ENCODERS
    if given is None:
        # An existing index includes a copy of its encoder.
        if not (Path(config.out) / "indexes" / "train").exists():
            check_encoder_folder(retrieval.encoder)
        return NO_ENCODERS
    if not processes.is_primary():
        return NO_ENCODERS
    train = encoder_given(given, inputs.passages)
    heldout = [] if retrieval.heldout_index else inputs.heldout_passages
    return IndexEncoders(train, encoder_given(given, heldout) if heldout else None)


def open_retrievers(
    config: RunConfig,
    inputs: Inputs,
    encoders: IndexEncoders = NO_ENCODERS,
    remote: RemoteRetrievers = NO_REMOTE,
) -> Sequence[Retriever]:
    """The retriever for training and the one for held-out questions.

    A custom retriever or a web search serves both, and every process opens a separate
    one, as it does with search servers; those of a machine share the cache and the
    budget of the web. An index that is built from passages is kept in the run's folder,
    so that a resumed run searches the same one. The first process of each machine opens
    the indexes and serves them to the others.

    Args:
      config: the run's config.
      inputs: its inputs.
      encoders: encoders that `check_index` made.
      remote: the servers of `retrieval.url`, if they are open already.
    """
    if config.retrieval.url and remote.train is None:
        remote = open_remote_retrievers(config.retrieval)
    if remote.train is not None and (remote.heldout or not inputs.heldout_passages):
        return remote.train, remote.heldout or remote.train
    if config.retrieval.retriever is not None:
        retriever = _opened(config.retrieval.retriever)
        return retriever, retriever
    if config.retrieval.web is not None:
        from jaxsearch.web.open import open_web

        web = open_web(config.retrieval.web, config.web, Path(config.out) / "web")
        return web, web
    machines = processes.all_gather_objects(socket.gethostname())
    leader = machines.index(socket.gethostname())
    indexes: Sequence[Retriever] = ()
    if processes.is_primary():
        indexes = _open_here(config, inputs, encoders, remote)
    # Machines that share the run's folder load the indexes that the first one built.
    processes.wait_for_all("indexes of the first machine")
    if leader == jax.process_index() and not indexes:
        indexes = _open_here(config, inputs, encoders, remote)
    is_shared = machines.count(socket.gethostname()) > 1
    addresses = processes.all_gather_objects(
        serve(indexes) if indexes and is_shared else None
    )
    address = addresses[leader]
    if address is not None and leader != jax.process_index():
        indexes = [SharedIndex(address, number) for number in (0, 1)]
    return indexes if remote.train is None else (remote.train, indexes[1])


def _opened(retriever: Retriever | Callable[[], Retriever]) -> Retriever:
    """A custom retriever: the object itself, or the result of a function or class.

    Raises:
      ValueError: if the function returns something else.
    """
    if is_made(retriever, Retriever):
        return retriever
    made = retriever()
    if not isinstance(made, Retriever):
        raise ValueError(
            "retrieval.retriever must return an object with a method "
            f"search(queries, k), got {made!r:.80}"
        )
    return made


def _open_here(
    config: RunConfig,
    inputs: Inputs,
    encoders: IndexEncoders,
    remote: RemoteRetrievers,
) -> tuple[Retriever, Retriever]:
    """Opens or builds the indexes of training and of held-out questions."""
    from jaxsearch.search.indexes import load_index

    folder = Path(config.out) / "indexes"
    retrieval, given = config.retrieval, _given_encoder(config.retrieval)
    if remote.train is not None:
        index = remote.train
    elif inputs.passages is None:
        index = load_index(
            retrieval.index, encoder=given, query_device=retrieval.query_device
        )
    else:
        index = _index_of(
            inputs.passages, folder / "train", retrieval, encoders.train or given
        )
    if retrieval.heldout_index:
        if retrieval.heldout_index == retrieval.index:
            return index, index
        return index, load_index(
            retrieval.heldout_index,
            encoder=given,
            query_device=retrieval.query_device,
        )
    if not inputs.heldout_passages:
        return index, index
    heldout = _index_of(
        inputs.heldout_passages,
        folder / "heldout",
        retrieval,
        encoders.heldout or given,
    )
    return index, heldout


def _index_of(
    passages: list[Passage],
    folder: Path,
    retrieval: RetrievalConfig,
    given: Encoder | EncoderFactory | None,
) -> Retriever:
    """The index of these passages, loaded from the folder or built and saved there."""
    from jaxsearch.search.indexes import build_index, load_index
    from jaxsearch.search.passages import corpus_fingerprint

    if folder.exists():
        return load_index(
            folder,
            corpus_fingerprint=corpus_fingerprint(passages),
            encoder=given,
            query_device=retrieval.query_device,
        )
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
    """The custom encoder of a config; None if the encoder is given by name."""
    return None if isinstance(retrieval.encoder, str) else retrieval.encoder
