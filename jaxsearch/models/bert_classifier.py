"""A BERT network that scores pairs of texts, as cross-encoders for reranking do."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsearch.json_files import read_json_object
from jaxsearch.models.bert import Bert, BertParams, first_token
from jaxsearch.models.bert_architecture import BertArchitecture
from jaxsearch.models.bert_files import (
    check_layers,
    read_bert_architecture,
    read_bert_params,
    read_tensor,
)
from jaxsearch.models.tensor_files import open_tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairParams:
    """Parameters of `BertForSequenceClassification` with one label."""

    bert: BertParams
    pooler_weight: Any  # [D D], as in Hugging Face files: out, in
    pooler_bias: Any  # [D]
    classifier_weight: Any  # [D]
    classifier_bias: Any  # []


jax.tree_util.register_dataclass(PairParams)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairScorer:
    """A network that reads two texts together and returns one score.

    Attributes:
      architecture: sizes of the BERT network.
    """

    architecture: BertArchitecture

    @property
    def bert(self) -> Bert:
        return Bert(
            architecture=self.architecture, pooling=first_token, is_normalised=False
        )

    def logits(
        self,
        params: PairParams,
        tokens: Int[Array, "B T"],
        lengths: Int[Array, " B"],
        first_lens: Int[Array, " B"],
    ) -> Float[Array, " B"]:
        """One score per row: higher for a pair that fits better.

        Args:
          params: the parameters.
          tokens: [CLS] first text [SEP] second text [SEP], padded.
          lengths: tokens of each row; the score of an empty row must not be used.
          first_lens: tokens of each row up to its first [SEP].
        """
        hidden = self.bert.hidden(params.bert, tokens, lengths, first_lens)
        with jax.default_matmul_precision("float32"):
            pooled = jnp.einsum("BD,ED->BE", hidden[:, 0], params.pooler_weight)
            pooled = jnp.tanh(pooled + params.pooler_bias[None])
            scores = jnp.einsum("BD,D->B", pooled, params.classifier_weight)
        return scores + params.classifier_bias


def read_pair_scorer(folder: Path) -> tuple[PairScorer, PairParams]:
    """Network and parameters of a Hugging Face folder, as NumPy arrays.

    Raises:
      ValueError: if the folder is no BERT with a head of one label; the message names
        the file and the field or tensor.
    """
    architecture = read_bert_architecture(folder)
    path = folder / "config.json"
    config = read_json_object(path)
    labels = config.get("id2label", {0: "LABEL_0", 1: "LABEL_1"})
    names = config.get("architectures")
    has_one = isinstance(labels, dict) and len(labels) == 1
    if names != ["BertForSequenceClassification"] or not has_one:
        raise ValueError(
            f"{path}: expected the architecture BertForSequenceClassification with one "
            f"label, found {names!r:.80} with id2label {labels!r:.80}; a reranker has "
            "one score for each pair"
        )
    if architecture.num_token_types < 2:
        raise ValueError(f"{path}: expected 2 token types, for pairs of texts, found 1")
    check_layers(folder, architecture.num_layers)
    scorer = PairScorer(architecture=architecture)
    tensors, D = open_tensors(folder), architecture.width
    bert = read_bert_params(folder, scorer.bert.shapes, others=("classifier.",))

    def read(name: str, *shape: int) -> np.ndarray:
        return read_tensor(folder, tensors, name, shape)

    return scorer, PairParams(
        bert=bert,
        pooler_weight=read("bert.pooler.dense.weight", D, D),
        pooler_bias=read("bert.pooler.dense.bias", D),
        classifier_weight=read("classifier.weight", 1, D)[0],
        classifier_bias=read("classifier.bias", 1)[0],
    )
