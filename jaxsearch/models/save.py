"""Writes parameters as the safetensors files of a Hugging Face folder."""

import json
import math
from pathlib import Path

import jax.numpy as jnp

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.convert import entries, to_hf
from jaxsearch.models.tensor_files import INDEX_NAME
from jaxsearch.models.transformer import Params

MAX_FILE_BYTES = 5_000_000_000


def save_tensors(
    folder: Path,
    params: Params,
    architecture: Architecture,
    dtype: str,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Writes model.safetensors, or several files and an index if one is too large.

    The host holds the tensors of one file at a time. Files get the default permissions
    of new files in the folder.
    """
    from safetensors.flax import save_file

    sizes = {
        entry.name: math.prod(entry.shape) * jnp.dtype(dtype).itemsize
        for entry in entries(architecture, params)
    }
    parts: list[list[str]] = [[]]
    for name, size in sizes.items():
        held = sum(sizes[other] for other in parts[-1])
        if parts[-1] and held + size > max_file_bytes:
            parts.append([])
        parts[-1].append(name)
    # safetensors creates files that only their owner can read.
    probe = folder / ".permissions"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    tensors = to_hf(params, architecture)
    weight_map = {}
    for number, names in enumerate(parts, 1):
        file = "model.safetensors"
        if len(parts) > 1:
            file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        held = {name: jnp.asarray(next(tensors)[1], dtype) for name in names}
        save_file(held, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(mode)
        weight_map |= dict.fromkeys(names, file)
    if len(parts) > 1:
        index = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": dict(sorted(weight_map.items())),
        }
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")
