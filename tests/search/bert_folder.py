"""The folder of a tiny BERT encoder, as sentence-transformers writes it."""

import json
from pathlib import Path

import jax
import numpy as np

from jaxsearch.models.bert import POOLINGS, Bert
from jaxsearch.models.bert_architecture import BertArchitecture
from jaxsearch.models.bert_files import write_bert

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:\"'?"
MAX_LEN = 48


def write_folder(folder: Path, words: list[str], seed: int = 0) -> None:
    """Writes random weights, and a vocabulary of these words and single letters."""
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS), "query", "passage"]
    vocabulary = list(dict.fromkeys([*SPECIALS, *pieces, *words]))
    architecture = BertArchitecture(
        vocab_size=len(vocabulary),
        width=32,
        mlp_width=48,
        num_layers=2,
        num_heads=4,
        max_positions=64,
        num_token_types=2,
    )
    bert = Bert(architecture=architecture, pooling=POOLINGS["mean"], is_normalised=True)
    rng = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        # With norms near 1 and small biases, different texts get different vectors.
        if path[-1].key == "scale":
            return 1 + noise / 10
        return noise / (10 if path[-1].key == "bias" else 4)

    params = jax.tree.map_with_path(draw, bert.shapes)
    folder.mkdir(parents=True, exist_ok=True)
    write_bert(folder, architecture, params)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    kind = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": kind + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": kind + "Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": kind + "Normalize"},
    ]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, content in {
        "modules": modules,
        "1_Pooling/config": {"pooling_mode_mean_tokens": True},
        "sentence_bert_config": {"max_seq_length": MAX_LEN},
        "config_sentence_transformers": {
            "prompts": {"query": "query: ", "passage": "passage: "}
        },
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
