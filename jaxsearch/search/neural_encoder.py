"""Texts to vectors by a BERT encoder: E5, BGE, GTE, MiniLM and their like.

Passages are sorted by length, cut into batches of about equally many tokens, and
spread over all local devices.

Queries go to the host's CPU unless told otherwise: an accelerator is busy decoding
while rollouts ask, and a query would wait for a whole call of it. They are computed
four at a time in the shape of their own length, so that a query's vector does not
depend on the queries beside it, bit for bit: in another shape XLA sums in another
order (7e-8).
"""

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from jaxsearch.models.bert import POOLINGS, Bert, BertParams
from jaxsearch.models.bert_architecture import BertArchitecture
from jaxsearch.models.bert_files import (
    read_bert_architecture,
    read_bert_params,
    write_bert,
)
from jaxsearch.models.hub import TOKENIZER, WEIGHTS, local_folder
from jaxsearch.search.encoder import read_encoder_json
from jaxsearch.search.encoder_options import (
    EncoderOptions,
    QueryDevice,
    Report,
    no_report,
)
from jaxsearch.search.encoder_settings import EncoderSettings, read_settings
from jaxsearch.search.encoder_tokenizer import read_tokenizer
from jaxsearch.search.forward import Forward, query_devices
from jaxsearch.search.length_batches import (
    Batch,
    batches_by_length,
    batches_of_tokens,
    padded,
)
from jaxsearch.search.passages import Passage

QUERY_ROWS = 4
CHUNK_SIZE = 16_384  # texts whose ids are in memory at once


class NeuralEncoder:
    """A BERT network, its tokenizer, and what is made of both.

    Attributes:
      num_truncated: passages that were longer than `settings.max_len`, so far.

    Args:
      params: float32, as NumPy arrays.
      tokenizer: a `tokenizers.Tokenizer`; its truncation is set here.
      query_device: where queries are computed; see the module.
      report: told how far `encode_passages` is.
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
        self.settings = settings
        self.num_truncated = 0
        self._architecture, self._params = architecture, params
        self._tokenizer, self._report = tokenizer, report
        self._query_device = query_device

    @classmethod
    def read(
        cls,
        name: str,
        options: EncoderOptions,
        *,
        query_device: QueryDevice = "host",
        report: Report = no_report,
    ) -> "NeuralEncoder":
        """A model's own folder, or a Hub id through its cache.

        Errors: ValueError names the file and what is wrong with it, or the option to
        give where the model does not say.
        """
        folder = local_folder(name, "encoder", WEIGHTS + TOKENIZER)
        architecture = read_bert_architecture(folder)
        tokenizer, tokenizer_len = read_tokenizer(folder, architecture.vocab_size)
        settings = read_settings(
            folder,
            options,
            max_positions=architecture.max_positions,
            tokenizer_len=tokenizer_len,
        )
        return cls(
            architecture=architecture,
            params=read_bert_params(folder, _bert(architecture, settings).shapes),
            tokenizer=tokenizer,
            settings=settings,
            query_device=query_device,
            report=report,
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        query_device: QueryDevice = "host",
        report: Report = no_report,
    ) -> "NeuralEncoder":
        """Reads what `save` wrote; its queries are the same bit for bit."""
        from tokenizers import Tokenizer

        record = read_encoder_json(folder)
        names = [field.name for field in dataclasses.fields(EncoderSettings)]
        try:
            settings = EncoderSettings(**{name: record[name] for name in names})
            expected = record["fingerprint"]
            text = (folder / "tokenizer.json").read_text(encoding="utf-8")
            architecture = read_bert_architecture(folder)
            params = read_bert_params(folder, _bert(architecture, settings).shapes)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{folder} holds no readable bert encoder ({error}); rebuild the index"
            ) from error
        found = _fingerprint(params, text, settings)
        if found != expected:
            raise ValueError(
                f"{folder} was changed after it was saved: expected encoder "
                f"fingerprint {expected}, found {found}; rebuild the index"
            )
        return cls(
            architecture=architecture,
            params=params,
            tokenizer=Tokenizer.from_str(text),
            settings=settings,
            query_device=query_device,
            report=report,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        return _fingerprint(self._params, self._tokenizer.to_str(), self.settings)

    def encode_queries(self, queries: Sequence[str]) -> Float32[np.ndarray, "n dims"]:
        rows, _ = self._ids(self.settings.query_prefix, queries)
        batches = batches_by_length(
            [len(row) for row in rows], self.settings.max_len, num_rows=QUERY_ROWS
        )
        return self._encode(self._for_queries, queries, rows, batches)

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
            vectors[start : start + len(texts)] = self._encode(
                forward,
                texts,
                rows,
                batches,
                lambda num_done, start=start: self._report(
                    start + num_done, len(passages)
                ),
            )
        return vectors

    def describe(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self.settings)
        return settings | {"truncated_passages": self.num_truncated}

    def save(self, folder: Path) -> None:
        """Writes a Hugging Face folder with an `encoder.json`; new or empty."""
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; save an encoder elsewhere")
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
        write_bert(folder, self._architecture, self._params)

    def _ids(self, prefix: str, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Ids of each text with [CLS] and [SEP], and how many texts were cut."""
        found = self._tokenizer.encode_batch([prefix + text for text in texts])
        return [e.ids for e in found], sum(bool(e.overflowing) for e in found)

    def _encode(
        self,
        forward: Forward,
        texts: Sequence[str],
        rows: Sequence[list[int]],
        batches: Iterable[Batch],
        report: Callable[[int], None] = lambda num_done: None,
    ) -> Float32[np.ndarray, "n dims"]:
        vectors = np.empty((len(rows), self.dims), np.float32)
        num_done = 0

        def take(members: list[int], found: Array) -> None:
            nonlocal num_done
            vectors[members] = np.asarray(found)[: len(members)]
            num_done += len(members)
            report(num_done)

        # One batch is prepared while another is computed.
        waiting: collections.deque = collections.deque()
        for batch in batches:
            ids, lengths = padded([rows[i] for i in batch.members], batch)
            waiting.append((batch.members, forward(ids, lengths)))
            if len(waiting) > 1:
                take(*waiting.popleft())
        while waiting:
            take(*waiting.popleft())
        # Nothing is known of a blank text, whatever [CLS] and a prefix say.
        vectors[[i for i, text in enumerate(texts) if not text.strip()]] = 0.0
        return vectors

    @functools.cached_property
    def _for_queries(self) -> Forward:
        return self._forward(query_devices(self._query_device))

    @functools.cached_property
    def _for_passages(self) -> Forward:
        if query_devices(self._query_device) == jax.local_devices():
            return self._for_queries  # one copy of the parameters, not two
        return self._forward(jax.local_devices())

    def _forward(self, devices: Sequence[jax.Device]) -> Forward:
        return Forward(_bert(self._architecture, self.settings), self._params, devices)


def _bert(architecture: BertArchitecture, settings: EncoderSettings) -> Bert:
    return Bert(
        architecture=architecture,
        pooling=POOLINGS[settings.pooling],
        is_normalised=settings.is_normalised,
        dtype=jnp.dtype(settings.dtype),
    )


def _fingerprint(params: BertParams, tokenizer: str, settings: EncoderSettings) -> str:
    parts = [NeuralEncoder.name, tokenizer, dataclasses.asdict(settings)]
    digest = hashlib.sha256(json.dumps(parts).encode())
    for path, array in jax.tree.leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:32]
