"""A retriever whose passages and vectors are in Milvus, a cluster or a file."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsearch.remote.answers import hits_of, one_per_query, shown
from jaxsearch.remote.milvus_client import (
    CONTENTS,
    ID,
    NUMBER,
    VECTOR,
    MilvusAddress,
    connect,
    num_rows,
    one_line,
    read_about,
    search_error,
)
from jaxsearch.search.encoder import Encoder
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.encoders import encoder_named
from jaxsearch.search.exact_index import SCORE_DECIMALS
from jaxsearch.search.index import Hit, SearchError

# Candidates beyond k: among passages that tie, the first ones of the corpus win.
_NUM_SPARE = 16
# What approximate indexes look at; larger values find more and take longer.
_HNSW_EF = 256
_SCANN_PROBES = 64
_SCANN_REORDER = 256


class MilvusRetriever:
    """Searches a collection that `jaxsearch index push` filled.

    Queries are encoded here; the database compares their vectors.

    Args:
      url: milvus://HOST:PORT/COLLECTION, or milvus:///PATH/FILE.db/COLLECTION for
        Milvus Lite, which needs no server.
      encoder: the index's encoder: its folder DIR/encoder, the folder or Hub id of a
        BERT encoder, or an encoder.
      timeout_s: timeout of a search.
      query_device: where a BERT encoder computes queries.

    Raises:
      ValueError: if the collection is missing or incomplete, or has vectors of another
        encoder.
    """

    def __init__(
        self,
        url: str,
        *,
        encoder: Encoder | str,
        timeout_s: float = 60.0,
        query_device: QueryDevice = "host",
    ):
        self._url = url
        self._address = MilvusAddress.parse(url)
        self._timeout_s = timeout_s
        self._client = connect(self._address, timeout_s)
        from pymilvus import MilvusException

        name = self._address.collection
        try:
            about = read_about(self._client, name)
            count = num_rows(self._client, name) if about else 0
        except MilvusException as error:
            raise ValueError(f"{url}: {one_line(error)}") from None
        push = f"fill it with `jaxsearch index push DIR {url}`"
        if about is None:
            raise ValueError(f"{url} has no such collection with an index; {push}")
        if not about.is_complete or count != about.num_passages:
            raise ValueError(
                f"{url} has {count:,} of {about.num_passages:,} passages; {push}, "
                "which continues where it ended"
            )
        self._about = about
        self._encoder = _encoder(encoder, query_device)
        if self._encoder.fingerprint != about.encoder:
            raise ValueError(
                f"{url} has vectors of the encoder {about.encoder_name} "
                f"({about.encoder}), and the one given is {self._encoder.name} "
                f"({self._encoder.fingerprint}); give the encoder/ folder of the index "
                "that was pushed, with --retrieval.encoder INDEX/encoder"
            )

    @property
    def searched(self) -> dict[str, Any]:
        """The contents of the collection, as a run records them."""
        return {
            "url": self._url,
            "dialect": "milvus",
            "num_passages": self._about.num_passages,
            "fingerprints": {
                "corpus": self._about.corpus,
                "encoder": self._about.encoder,
            },
        }

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns up to k hits per query, best first; none if its vector is zero.

        Raises:
          SearchError: if the database cannot answer.
        """
        from pymilvus import MilvusException

        hits: list[list[Hit]] = [[] for _ in queries]
        vectors = self._encoder.encode_queries(queries)
        known = np.flatnonzero(vectors.any(axis=1))
        if not len(known):
            return hits
        limit = min(k + _NUM_SPARE, self._about.num_passages)
        name = self._address.collection
        try:
            found = self._client.search(
                name,
                data=[vectors[row].tolist() for row in known],
                anns_field=VECTOR,
                limit=limit,
                output_fields=[NUMBER, ID, CONTENTS],
                search_params={"metric_type": "IP", "params": self._params(limit)},
                timeout=self._timeout_s,
            )
        except MilvusException as error:
            raise search_error(name, error) from None
        for row, candidates in zip(
            known, one_per_query([*found], len(known)), strict=True
        ):
            hits[row] = best_hits(candidates, k)
        return hits

    def _params(self, limit: int) -> dict[str, int]:
        return {
            "HNSW": {"ef": max(_HNSW_EF, limit)},
            "SCANN": {
                "nprobe": _SCANN_PROBES,
                "reorder_k": max(_SCANN_REORDER, limit),
            },
        }[self._about.index_type]


def best_hits(candidates: Any, k: int) -> list[Hit]:
    """The k best candidates; ties go to the passage that comes first in the corpus.

    Raises:
      SearchError: if a candidate is malformed.
    """
    rows = []
    if not isinstance(candidates, Sequence):
        raise SearchError(f"expected a list of passages, got {shown(candidates)}")
    for one in candidates:
        try:
            entity, distance = one["entity"], float(one["distance"])
            number = int(entity[NUMBER])
            document = {"id": entity[ID], "contents": entity[CONTENTS]}
        except (TypeError, ValueError, KeyError, IndexError, OverflowError):
            raise SearchError(f"expected a passage, got {shown(one)}") from None
        [hit] = hits_of([document], [distance], 1)
        rows.append((-round(distance, SCORE_DECIMALS), number, hit))
    rows.sort(key=lambda row: row[:2])
    return [dataclasses.replace(hit, score=-score) for score, _, hit in rows[:k]]


def _encoder(encoder: Encoder | str, query_device: QueryDevice) -> Encoder:
    if not isinstance(encoder, str):
        return encoder
    if encoder == "tfidf":
        raise ValueError(
            "a collection of Milvus does not hold its encoder: give the encoder/ "
            "folder of the index that was pushed, with --retrieval.encoder "
            "INDEX/encoder"
        )
    return encoder_named(encoder, (), query_device=query_device)
