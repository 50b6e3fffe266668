"""Helpers that write Hugging Face folders and read them on one device."""

import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxsearch.mesh import MeshShape, make_mesh, shardings
from jaxsearch.models.hf_config import to_hf_config
from jaxsearch.run.policy import read_params


def on_devices(transformer, shape=None, num_devices=1):
    """A sharding for every parameter."""
    mesh = make_mesh(shape or MeshShape(), jax.devices()[:num_devices])
    return shardings(mesh, transformer.logical_axes, transformer.shapes)


def read_here(folder, transformer):
    """The folder's parameters, in float32, on the first device."""
    return read_params(str(folder), transformer, on_devices(transformer))


def write_folder(folder: Path, architecture, tensors, dtype="float32"):
    """config.json and one file of tensors; no tokenizer."""
    folder.mkdir(exist_ok=True)
    config = to_hf_config(architecture, max_positions=64, dtype=dtype)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder
