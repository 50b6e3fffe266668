"""The folder of a tiny BERT cross-encoder, as transformers writes it."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.search.bert_folder import write_folder


def write_pair_folder(folder: Path, words: list[str], *, linear: bool = False) -> None:
    """Writes a network with random weights, and one label."""
    write_folder(folder, words)
    rng = np.random.default_rng(1)
    tensors = load_file(folder / "model.safetensors")
    width = tensors["embeddings.LayerNorm.weight"].shape[0]
    tensors = {f"bert.{name}": array for name, array in tensors.items()}
    for name, shape in {
        "bert.pooler.dense.weight": (width, width),
        "bert.pooler.dense.bias": (width,),
        "classifier.weight": (1, width),
        "classifier.bias": (1,),
    }.items():
        tensors[name] = rng.normal(size=shape).astype(np.float32) / 4
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    if linear:
        config["sentence_transformers"] = {
            "activation_fn": "torch.nn.modules.linear.Identity"
        }
    path.write_text(json.dumps(config))
