"""A reranker: a BERT network that reads a query and a passage together.

A pair is padded to a shape that depends only on its own length, in batches of a fixed
number of rows. So its score does not depend on the other pairs, bit for bit.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float32

from jaxsearch.json_files import read_json_object
from jaxsearch.models.bert_classifier import PairParams, PairScorer, read_pair_scorer
from jaxsearch.models.hub import TOKENIZER, WEIGHTS, local_folder
from jaxsearch.search.encoder_forward import query_devices
from jaxsearch.search.encoder_options import QueryDevice
from jaxsearch.search.encoder_tokenizer import read_tokenizer
from jaxsearch.search.length_batches import batches_by_length, padded
from jaxsearch.search.passages import Passage

_PAIR_ROWS = 4
_LINEAR = "torch.nn.modules.linear.Identity"
_SIGMOID = "torch.nn.modules.activation.Sigmoid"


@runtime_checkable  # for the annotation checks of the tests
class Reranker(Protocol):
    """Scores pairs of a query and a passage; no score depends on the other pairs."""

    @property
    def fingerprint(self) -> str:
        """A string that changes whenever any score changes."""
        ...

    def scores(
        self, pairs: Sequence[tuple[str, Passage]]
    ) -> Float32[np.ndarray, " pairs"]:
        """One score per pair, larger is better."""
        ...


class CrossEncoder:
    """A BERT cross-encoder, whose scores equal those of sentence-transformers.

    Args:
      scorer: the network.
      params: its parameters, as NumPy arrays.
      tokenizer: a `tokenizers.Tokenizer`; its truncation is set here.
      max_len: longest pair, in tokens; of longer ones the longer text is truncated.
      is_sigmoid: whether scores are sigmoids of the network's.
      device: where pairs are computed.
    """

    def __init__(
        self,
        *,
        scorer: PairScorer,
        params: PairParams,
        tokenizer: Any,
        max_len: int,
        is_sigmoid: bool,
        device: QueryDevice = "host",
    ):
        tokenizer.enable_truncation(max_len, strategy="longest_first")
        self.max_len, self.is_sigmoid = max_len, is_sigmoid
        self._tokenizer = tokenizer
        [self._device] = query_devices(device)
        self._params = jax.device_put(params, self._device)
        self._logits = jax.jit(scorer.logits)
        self._fingerprint = self._compute_fingerprint(params)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def scores(
        self, pairs: Sequence[tuple[str, Passage]]
    ) -> Float32[np.ndarray, " pairs"]:
        """One score per pair, larger is better."""
        texts = [(query, passage.contents) for query, passage in pairs]
        encoded = self._tokenizer.encode_batch(texts)
        rows = [pair.ids for pair in encoded]
        # Tokens of type 1 are those of the passage and the [SEP] after it.
        first_lens = np.array([len(e.ids) - sum(e.type_ids) for e in encoded], np.int32)
        found = np.empty(len(pairs), np.float32)
        for batch in batches_by_length(
            [len(row) for row in rows], self.max_len, num_rows=_PAIR_ROWS
        ):
            ids, lengths = padded([rows[i] for i in batch.members], batch)
            firsts = np.zeros(batch.num_rows, np.int32)
            firsts[: len(batch.members)] = first_lens[batch.members]
            given = jax.device_put((ids, lengths, firsts), self._device)
            logits = np.asarray(self._logits(self._params, *given))
            found[batch.members] = logits[: len(batch.members)]
        if self.is_sigmoid:
            # exp of the negative absolute value cannot overflow.
            small = np.exp(-np.abs(found))
            found = np.where(found >= 0, 1 / (1 + small), small / (1 + small))
        return found

    def _compute_fingerprint(self, params: PairParams) -> str:
        settings = f"{self.max_len} {self.is_sigmoid} {self._tokenizer.to_str()}"
        digest = hashlib.sha256(settings.encode())
        for leaf in jax.tree.leaves(params):
            digest.update(np.ascontiguousarray(leaf))
        return digest.hexdigest()[:32]


def read_cross_encoder(
    name: str, *, max_len: int | None = None, device: QueryDevice = "host"
) -> CrossEncoder:
    """Reads the folder or Hub id of a BERT cross-encoder, such as ms-marco-MiniLM.

    Args:
      name: the folder, with config.json, safetensors and a tokenizer; or OWNER/NAME.
      max_len: longest pair in tokens; None means the tokenizer's.
      device: where pairs are computed.

    Raises:
      ValueError: if a file is missing or not supported; the message names it.
    """
    folder = local_folder(name, "reranker", WEIGHTS + TOKENIZER)
    scorer, params = read_pair_scorer(folder)
    tokenizer, tokenizer_len = read_tokenizer(folder, scorer.architecture.vocab_size)
    longest = min(tokenizer_len, scorer.architecture.max_positions)
    max_len = longest if max_len is None else max_len
    if not 4 <= max_len <= longest:
        raise ValueError(
            f"reranker {name}: a pair must have 4 to {longest} tokens, got {max_len}"
        )
    return CrossEncoder(
        scorer=scorer,
        params=params,
        tokenizer=tokenizer,
        max_len=max_len,
        is_sigmoid=_is_sigmoid(folder / "config.json"),
        device=device,
    )


def _is_sigmoid(path: Path) -> bool:
    """Whether a model's scores are sigmoids, as sentence-transformers decides it."""
    config = read_json_object(path)
    settings = config.get("sentence_transformers", {})
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: sentence_transformers must be an object")
    found = settings.get(
        "activation_fn", config.get("sbert_ce_default_activation_function", _SIGMOID)
    )
    if found not in (_LINEAR, _SIGMOID):
        raise ValueError(
            f"{path}: activation {found!r:.80} is not supported; expected {_LINEAR} or "
            f"{_SIGMOID}"
        )
    return found == _SIGMOID
