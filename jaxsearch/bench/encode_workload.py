"""Workloads of `bench encode`: an encoder with random weights and random texts."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsearch.json_files import read_json_object
from jaxsearch.json_types import typed
from jaxsearch.models.bert import POOLINGS, Bert
from jaxsearch.models.bert_architecture import BertArchitecture, bert_from_hf_config
from jaxsearch.models.bert_files import write_bert
from jaxsearch.search.encoder_settings import DTYPES

_PACKAGED = Path(__file__).parent / "encode_workloads"
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NUM_ADDED = 2  # [CLS] and [SEP] around each text


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeWorkload:
    """A model, and texts with logarithmically spaced lengths.

    Lengths are in tokens, including [CLS] and [SEP].
    """

    model: dict[str, Any]  # a Hugging Face config
    pooling: str
    dtype: str
    num_texts: int
    shortest: int
    longest: int
    batch_size: int  # texts per batch of a peer

    def __post_init__(self):
        for name, known in (("pooling", tuple(POOLINGS)), ("dtype", DTYPES)):
            value = dataclasses.asdict(self)[name]
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r:.80}")
        if min(self.num_texts, self.batch_size) < 1:
            raise ValueError("num_texts and batch_size must be at least 1")
        if not _NUM_ADDED < self.shortest <= self.longest:
            raise ValueError(
                f"expected {_NUM_ADDED} < shortest <= longest, got {self.shortest} and "
                f"{self.longest}"
            )
        if self.longest > self.architecture.max_positions:
            raise ValueError(
                f"longest is {self.longest}, expected at most the model's "
                f"{self.architecture.max_positions} positions"
            )

    @functools.cached_property
    def architecture(self) -> BertArchitecture:
        return bert_from_hf_config(self.model)

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        exponents = np.linspace(0.0, 1.0, self.num_texts)
        lengths = self.shortest * (self.longest / self.shortest) ** exponents
        rng = np.random.default_rng(0)
        return rng.permutation(lengths.round().astype(int)).tolist()

    @functools.cached_property
    def texts(self) -> list[str]:
        """Random words; each word is one token."""
        rng = np.random.default_rng(1)
        num_words = self.architecture.vocab_size - len(_SPECIALS)
        return [
            " ".join(f"w{i}" for i in rng.integers(num_words, size=n - _NUM_ADDED))
            for n in self.lengths
        ]

    def write(self, folder: Path) -> None:
        """Writes a sentence-transformers folder of the model, and the texts."""
        bert = Bert(
            architecture=self.architecture,
            pooling=POOLINGS[self.pooling],
            is_normalised=True,
        )
        write_bert(folder, self.architecture, bert.init(jax.random.key(0)))
        words = (f"w{i}" for i in range(self.architecture.vocab_size - len(_SPECIALS)))
        (folder / "vocab.txt").write_text("\n".join((*_SPECIALS, *words)) + "\n")
        kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        (folder / "1_Pooling").mkdir()
        for name, content in {
            "modules": [
                {
                    "idx": i,
                    "name": str(i),
                    "path": path,
                    "type": f"sentence_transformers.models.{kind}",
                }
                for i, (kind, path) in enumerate(kinds.items())
            ],
            "1_Pooling/config": {
                "word_embedding_dimension": self.architecture.width,
                "pooling_mode_cls_token": self.pooling == "cls",
                "pooling_mode_mean_tokens": self.pooling == "mean",
            },
            "tokenizer_config": {
                "tokenizer_class": "BertTokenizer",
                "model_max_length": self.architecture.max_positions,
            },
            "texts": self.texts,
            "workload": {"batch_size": self.batch_size, "dtype": self.dtype},
        }.items():
            (folder / f"{name}.json").write_text(json.dumps(content))


def read_encode_workload(name: str) -> EncodeWorkload:
    """Reads a workload file, or a packaged workload by its name.

    Raises:
      ValueError: if the workload does not exist or the file is malformed; the message
        names the file.
    """
    packaged = _PACKAGED / f"{name}.json"
    path = packaged if packaged.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _PACKAGED.glob("*.json")))
        raise ValueError(f"workload {name} is neither a file nor one of: {known}")
    fields = read_json_object(path)
    # A comment says what the workload is for.
    fields.pop("comment", None)
    try:
        return typed(fields, EncodeWorkload, "the workload")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
