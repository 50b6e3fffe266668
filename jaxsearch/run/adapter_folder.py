"""Adapters in the format of Hugging Face PEFT, which vLLM and SGLang also read."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxsearch.local_paths import check_new_folder
from jaxsearch.models.adapters import ADAPTERS
from jaxsearch.models.transformer import Params, Transformer


def peft_tensors(
    transformer: Transformer, params: Params
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, array) of every A [R I] and B [O R], with PEFT's names."""
    for one in transformer.adapted:
        part, name = one.path
        adapter = params[ADAPTERS][part][name]
        a, b = np.asarray(adapter["a"]), np.asarray(adapter["b"])
        for layer in range(transformer.architecture.num_layers):
            where = f"base_model.model.model.layers.{layer}.{one.name}"
            yield f"{where}.lora_A.weight", a[layer].reshape(a.shape[1], -1)
            yield f"{where}.lora_B.weight", b[layer].reshape(-1, b.shape[-1])


def export_adapter(
    transformer: Transformer, params: Params, folder: Path, *, base: str, dtype: str
) -> int:
    """Writes a PEFT adapter folder; returns the number of parameters in it.

    Args:
      transformer: the network with adapters.
      params: its parameters.
      folder: folder to write; it must be empty or not exist.
      base: the model that the adapter belongs to: a folder or a Hub id.
      dtype: dtype of the adapter's weights.

    Raises:
      ValueError: if the policy has no adapters, its base model has random weights, or
        the folder is a file or not empty.
    """
    from safetensors.flax import save_file

    lora = transformer.lora
    if not lora.rank:
        raise ValueError(
            "this run trained all weights (model.lora.rank is 0) and has no adapter; "
            "export it without --adapter"
        )
    if not base:
        raise ValueError(
            "this run's adapters belong to random weights, which other programs "
            "cannot load; export merged weights, without --adapter"
        )
    check_new_folder(folder)
    tensors = {
        name: jnp.asarray(array, dtype)
        for name, array in peft_tensors(transformer, params)
    }
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": [one.name.split(".")[-1] for one in transformer.adapted],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    return sum(array.size for array in tensors.values())
