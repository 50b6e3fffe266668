"""`jaxsearch index push`: loads an index into a collection of Milvus."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxsearch.key_addresses import allow_keys
from jaxsearch.remote.milvus_client import (
    CONTENTS,
    ID,
    NUMBER,
    VECTOR,
    CollectionAbout,
    MilvusAddress,
    connect,
    create_about,
    num_rows,
    one_line,
    read_about,
    write_about,
)
from jaxsearch.search.bm25_index import Bm25Index
from jaxsearch.search.encoder import Encoder, EncoderFactory
from jaxsearch.search.exact_index import encode_corpus
from jaxsearch.search.indexes import load_index
from jaxsearch.search.nearest import needed_encoder
from jaxsearch.search.passages import Passage

if TYPE_CHECKING:
    from pymilvus import MilvusClient

IndexType = Literal["HNSW", "SCANN"]
Report = Callable[[int, int], None]

_BATCH = 512
_TIMEOUT_S = 60.0
_MAX_ID_BYTES = 1024
_MAX_CONTENTS_BYTES = 65_535  # the largest string of Milvus
_PARAMS: dict[str, dict[str, Any]] = {
    "HNSW": {"M": 32, "efConstruction": 256},
    "SCANN": {"nlist": 1024, "with_raw_data": True},
}


def push_index(
    folder: str | Path,
    url: str,
    *,
    index_type: IndexType = "HNSW",
    encoder: Encoder | EncoderFactory | None = None,
    report: Report = lambda num_done, num_passages: None,
) -> dict[str, Any]:
    """Loads the passages of an index, and their vectors, into a collection.

    A push that was cut continues where it ended: rows are written in order, under their
    numbers in the corpus.

    Args:
      folder: the index.
      url: the collection, as `MilvusRetriever` takes it.
      index_type: the database's kind of index.
      encoder: the index's encoder, if it was given by value.
      report: receives the number of passages that are written, and of all.

    Returns:
      Counts: the passages of the collection, and those that this call wrote.

    Raises:
      ValueError: if the index is damaged, a text is too long, the collection has
        another index, or the database fails.
    """
    allow_keys(url)
    address = MilvusAddress.parse(url)
    index = load_index(folder, encoder=encoder)
    if isinstance(index, Bm25Index):
        raise ValueError(
            f"index {folder} is of words (bm25) and has no vectors, which Milvus "
            "searches; build one with an encoder"
        )
    needed_encoder(index.encoder)
    _check_sizes(index.passages)
    about = CollectionAbout(
        corpus=index.corpus_fingerprint,
        encoder=index.encoder.fingerprint,
        encoder_name=index.encoder.name,
        num_passages=len(index.passages),
        dims=index.encoder.dims,
        index_type=index_type,
        is_complete=False,
    )
    client = connect(address, _TIMEOUT_S)
    from pymilvus import MilvusException

    try:
        num_before = _prepare(client, address.collection, about)
        _write(client, address.collection, index, num_before, report)
        complete = dataclasses.replace(about, is_complete=True)
        write_about(client, address.collection, complete)
    except MilvusException as error:
        raise ValueError(
            f"{url}: {one_line(error)}; the same command continues where it ended"
        ) from None
    num = len(index.passages)
    return {"url": url, "num_passages": num, "num_written": num - num_before}


def _check_sizes(passages: Sequence[Passage]) -> None:
    """Raises ValueError for a passage that a row cannot hold."""
    for passage in passages:
        size = len(passage.contents.encode())
        if size > _MAX_CONTENTS_BYTES or len(passage.id.encode()) > _MAX_ID_BYTES:
            raise ValueError(
                f"passage {passage.id!r:.80} has {size:,} bytes; Milvus holds at most "
                f"{_MAX_CONTENTS_BYTES:,} (and {_MAX_ID_BYTES:,} of an id): split it"
            )


def _prepare(client: "MilvusClient", name: str, about: CollectionAbout) -> int:
    """Makes the collection unless it exists; returns the number of rows to keep.

    Raises:
      ValueError: if it has another index, or is not ours.
    """
    there = read_about(client, name)
    if there is None:
        if client.has_collection(name):
            raise ValueError(
                f"collection {name!r} exists and was not pushed by jaxsearch; give "
                "another name"
            )
        create_about(client, name)
        write_about(client, name, about)
    elif dataclasses.replace(there, is_complete=False) != about:
        raise ValueError(
            f"collection {name!r} has another index (corpus {there.corpus}, encoder "
            f"{there.encoder}, {there.index_type}; here corpus {about.corpus}, encoder "
            f"{about.encoder}, {about.index_type}); give another name, or drop it"
        )
    if not client.has_collection(name):
        _create(client, name, about)
    client.load_collection(name)
    # Rows of a batch that was cut are written again.
    count = num_rows(client, name)
    return count if count == about.num_passages else count // _BATCH * _BATCH


def _create(client: "MilvusClient", name: str, about: CollectionAbout) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(NUMBER, DataType.INT64, is_primary=True)
    schema.add_field(ID, DataType.VARCHAR, max_length=_MAX_ID_BYTES)
    schema.add_field(CONTENTS, DataType.VARCHAR, max_length=_MAX_CONTENTS_BYTES)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=about.dims)
    index = client.prepare_index_params()
    index.add_index(
        field_name=VECTOR,
        index_type=about.index_type,
        metric_type="IP",
        params=_PARAMS[about.index_type],
    )
    client.create_collection(name, schema=schema, index_params=index)


def _write(
    client: "MilvusClient", name: str, index: Any, first: int, report: Report
) -> None:
    """Writes the passages from number `first` on.

    Raises:
      ValueError: if the collection has another number of rows in the end.
    """
    num = len(index.passages)
    report(first, num)
    for start in range(first, num, _BATCH):
        batch = index.passages[start : start + _BATCH]
        vectors = encode_corpus(batch, index.encoder)
        rows = [
            {
                NUMBER: start + offset,
                ID: passage.id,
                CONTENTS: passage.contents,
                VECTOR: vector.tolist(),
            }
            for offset, (passage, vector) in enumerate(zip(batch, vectors, strict=True))
        ]
        client.upsert(name, rows, timeout=_TIMEOUT_S)
        report(start + len(batch), num)
    client.flush(name)
    if (found := num_rows(client, name)) != num:
        raise ValueError(
            f"collection {name!r} has {found:,} rows after {num:,} were written; drop "
            "it and push again"
        )
