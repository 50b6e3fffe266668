"""A policy to start from: random weights, or a Hugging Face folder."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.models.architecture import Architecture, from_hf_config, to_hf_config
from jaxsearch.models.convert import from_hf, to_hf
from jaxsearch.models.transformer import Params, Transformer

_VOCAB_MULTIPLE = 16  # random weights: rows of the embedding divide over devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """A network, its tokenizer, and parameters on the host or a device."""

    transformer: Transformer
    tokenizer: Tokenizer
    params: Params


def padded_vocab(tokenizer: Tokenizer) -> int:
    """Rows of an embedding made for this tokenizer."""
    return -(-tokenizer.num_ids // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE


def read_architecture(folder: str) -> Architecture:
    """The architecture of a Hugging Face folder, or of a Hub id through its cache."""
    path = local_folder(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"model folder {folder} has no config.json")
    try:
        return from_hf_config(json.loads(path.read_text()))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def local_folder(name: str) -> Path:
    """The folder itself, or the cached snapshot of a Hub id."""
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ValueError(f"model folder {name} does not exist")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{name} is neither a folder nor a Hub id that can be fetched: {reason}"
        ) from None


def read_params(folder: str, transformer: Transformer) -> Params:
    """Parameters of a Hugging Face folder, in one safetensors file or several.

    Errors: ValueError names the file or the tensor that is missing or does not fit.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted(local_folder(folder).glob("*.safetensors"))
    if not files:
        raise ValueError(f"model folder {folder} has no *.safetensors")
    where = {}
    for file in files:
        try:
            # "flax" and not "numpy": NumPy has no bfloat16 of its own
            handle = safe_open(file, framework="flax")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from None
        where |= dict.fromkeys(handle.keys(), handle)

    def read(name: str) -> np.ndarray:
        if name not in where:
            raise ValueError(f"model folder {folder} has no tensor {name}")
        return np.asarray(where[name].get_tensor(name).astype(jnp.float32))

    return from_hf(read, transformer.shapes, transformer.architecture)


def export(policy: Policy, folder: Path, *, max_positions: int, dtype: str) -> None:
    """Writes a Hugging Face folder: safetensors, config.json, tokenizer.

    Errors: ValueError if the folder exists and is not empty.
    """
    from safetensors.flax import save_file

    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; export writes a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    architecture = policy.transformer.architecture
    tensors = {
        name: jnp.asarray(array, dtype)
        for name, array in to_hf(policy.params, architecture)
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config: dict[str, Any] = to_hf_config(
        architecture, max_positions=max_positions, dtype=dtype
    )
    ids = {
        "eos_token_id": policy.tokenizer.end_id,
        "pad_token_id": policy.tokenizer.pad_id,
    }
    (folder / "config.json").write_text(json.dumps({**config, **ids}, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(ids, indent=2))
    policy.tokenizer.save(folder)
