"""Encoder for BERT models such as E5, BGE, GTE and MiniLM.

Passages are sorted by length, split into batches with about the same number of tokens,
and computed on all local devices.

Queries are computed on the host's CPU by default. During a rollout the accelerator is
busy decoding, and a query would wait for a whole decoding call. Queries are padded to a
shape that depends only on their length, four rows at a time. In a different shape XLA
sums in a different order (differences of 7e-8); this way a query's vector does not
depend on the other queries, bit for bit.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from jaxsearch.models.bert import POOLINGS, Bert, BertParams
from jaxsearch.models.bert_architecture import BertArchitecture
from jaxsearch.models.bert_files import write_bert
from jaxsearch.search.encoder import make_encoder_folder
from jaxsearch.search.encoder_forward import Forward, query_devices
from jaxsearch.search.encoder_options import QueryDevice, Report, no_report
from jaxsearch.search.encoder_settings import EncoderSettings
from jaxsearch.search.length_batches import batches_by_length, batches_of_tokens
from jaxsearch.search.passages import Passage

QUERY_ROWS = 4
CHUNK_SIZE = 16_384  # texts whose ids are held in memory at once


class BertEncoder:
    """A BERT network and its tokenizer; see `bert_encoder_folder` to read one.

    Attributes:
      num_truncated: number of passages longer than `settings.max_len` so far.

    Args:
      params: float32, as NumPy arrays.
      tokenizer: a `tokenizers.Tokenizer`; its truncation is set here.
      query_device: where queries are computed; see the module's docstring.
      report: called with the progress of `encode_passages`.
    """

    name: ClassVar[str] = "bert"

    def __init__(
        self,
        *,
        architecture: BertArchitecture,
        params: BertParams,
        tokenizer: Any,
        settings: EncoderSettings,
        query_device: QueryDevice = "host",
        report: Report = no_report,
    ):
        tokenizer.enable_truncation(settings.max_len)
        self.dims = architecture.width
        self.architecture = architecture
        self.settings = settings
        self.num_truncated = 0
        self._params = params
        self._tokenizer, self._report = tokenizer, report
        self._query_device = query_device

    @functools.cached_property
    def fingerprint(self) -> str:
        return bert_fingerprint(self._params, self._tokenizer.to_str(), self.settings)

    def encode_queries(self, queries: Sequence[str]) -> Float32[np.ndarray, "n dims"]:
        rows, _ = self._ids(self.settings.query_prefix, queries)
        batches = batches_by_length(
            [len(row) for row in rows], self.settings.max_len, num_rows=QUERY_ROWS
        )
        vectors = np.empty((len(queries), self.dims), np.float32)
        self._for_queries.encode(rows, batches, vectors)
        _clear_blank(vectors, queries)
        return vectors

    def query_lens(self, queries: Sequence[str]) -> list[int]:
        """Tokens of each query, with its prefix."""
        rows, _ = self._ids(self.settings.query_prefix, queries)
        return [len(row) for row in rows]

    def encode_passages(
        self, passages: Sequence[Passage]
    ) -> Float32[np.ndarray, "n dims"]:
        forward = self._for_passages
        vectors = np.empty((len(passages), self.dims), np.float32)
        for start in range(0, len(passages), CHUNK_SIZE):
            texts = [p.contents for p in passages[start : start + CHUNK_SIZE]]
            rows, num_truncated = self._ids(self.settings.passage_prefix, texts)
            self.num_truncated += num_truncated
            batches = batches_of_tokens(
                [len(row) for row in rows],
                self.settings.max_len,
                num_tokens=forward.num_tokens,
                row_multiple=forward.num_devices,
            )
            chunk = vectors[start : start + len(texts)]
            forward.encode(
                rows,
                batches,
                chunk,
                lambda num_done, start=start: self._report(
                    start + num_done, len(passages)
                ),
            )
            _clear_blank(chunk, texts)
        return vectors

    def describe(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self.settings)
        return settings | {"truncated_passages": self.num_truncated}

    def save(self, folder: Path) -> None:
        """Writes a Hugging Face folder with an `encoder.json`.

        Raises:
          ValueError: if the folder is not empty.
        """
        make_encoder_folder(folder)
        record = {
            "name": self.name,
            "dims": self.dims,
            **dataclasses.asdict(self.settings),
            "fingerprint": self.fingerprint,
        }
        (folder / "encoder.json").write_text(json.dumps(record, indent=2) + "\n")
        (folder / "tokenizer.json").write_text(
            self._tokenizer.to_str(), encoding="utf-8"
        )
        write_bert(folder, self.architecture, self._params)

    def _ids(self, prefix: str, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Ids of each text with [CLS] and [SEP], and the number of truncated texts."""
        found = self._tokenizer.encode_batch([prefix + text for text in texts])
        return [e.ids for e in found], sum(bool(e.overflowing) for e in found)

    @functools.cached_property
    def _for_queries(self) -> Forward:
        return self._forward(query_devices(self._query_device))

    @functools.cached_property
    def _for_passages(self) -> Forward:
        if query_devices(self._query_device) == jax.local_devices():
            return self._for_queries  # one copy of the parameters, not two
        return self._forward(jax.local_devices())

    def _forward(self, devices: Sequence[jax.Device]) -> Forward:
        bert = bert_network(self.architecture, self.settings)
        return Forward(bert, self._params, devices)


def bert_network(architecture: BertArchitecture, settings: EncoderSettings) -> Bert:
    """The network with the settings that shape its vectors."""
    return Bert(
        architecture=architecture,
        pooling=POOLINGS[settings.pooling],
        is_normalised=settings.is_normalised,
        dtype=jnp.dtype(settings.dtype),
    )


def bert_fingerprint(
    params: BertParams, tokenizer: str, settings: EncoderSettings
) -> str:
    """Hash of weights, tokenizer and settings."""
    parts = [BertEncoder.name, tokenizer, dataclasses.asdict(settings)]
    digest = hashlib.sha256(json.dumps(parts).encode())
    for path, array in jax.tree.leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:32]


def _clear_blank(vectors: Float32[np.ndarray, "n dims"], texts: Sequence[str]) -> None:
    """Sets the vectors of blank texts to zero, in place.

    A blank text has no content, but [CLS] and a prefix would give it a non-zero vector.
    """
    vectors[[i for i, text in enumerate(texts) if not text.strip()]] = 0.0
