"""`jaxsearch bench load`: time and memory of loading a Hugging Face folder."""

import dataclasses
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxsearch.bench.measurement import host_peak_bytes, say
from jaxsearch.mesh import MeshShape, make_mesh, shardings
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.hf_config import to_hf_config
from jaxsearch.models.save import save_tensors
from jaxsearch.models.tensor_files import open_tensors
from jaxsearch.models.transformer import Transformer
from jaxsearch.run.policy import read_architecture, read_params

# Qwen2.5-1.5B: 3.09 GB in bfloat16. Other sizes have fewer or more layers.
_SHAPES = Architecture(
    vocab_size=151_936,
    width=1536,
    mlp_width=8960,
    num_layers=28,
    num_heads=12,
    num_kv_heads=2,
    head_width=128,
    rope_theta=1e6,
    max_positions=32_768,
)
_FILE_BYTES = 1_000_000_000
_PIECE_BYTES = 1 << 26


def bench_load(model: str, *, gigabytes: float, repeats: int) -> dict[str, Any]:
    """Measures loading in the stored dtype and in float32, compared with a plain copy.

    The reference is the rate at which the same files are read and copied into new
    memory. Every load runs in a new process, including compilation. All files are in
    the page cache. The results are medians.

    Args:
      model: a Hugging Face folder; "" for a temporary one with random weights.
      gigabytes: size of the temporary folder.
      repeats: number of measured loads per dtype.

    Raises:
      ValueError: if the folder cannot be read, or an argument is too small.
    """
    if repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {repeats}")
    if model:
        return _measured(Path(model), repeats)
    with tempfile.TemporaryDirectory() as folder:
        say(f"writing {gigabytes:g} GB of random weights")
        _write(Path(folder), gigabytes)
        return _measured(Path(folder), repeats)


def _write(folder: Path, gigabytes: float) -> None:
    base = dataclasses.replace(_SHAPES, num_layers=1).num_parameters
    layer = dataclasses.replace(_SHAPES, num_layers=2).num_parameters - base
    num_layers = 1 + round((gigabytes * 1e9 / 2 - base) / layer)
    if num_layers < 1:
        raise ValueError(
            f"--gigabytes must be at least {2 * base / 1e9:.1f}, got {gigabytes:g}"
        )
    architecture = dataclasses.replace(_SHAPES, num_layers=num_layers)
    shapes = Transformer(architecture=architecture).shapes
    rng = np.random.default_rng(0)

    def stack(shape: tuple[int, ...]) -> np.ndarray:
        """One random layer, broadcast to all layers without using their memory."""
        layer = rng.integers(0, 2**14, shape[1:], np.uint16)
        return np.broadcast_to(layer.view(ml_dtypes.bfloat16), shape)

    def embedding(shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(0, 2**14, shape, np.uint16).view(ml_dtypes.bfloat16)

    params = {
        "embedding": embedding(shapes["embedding"].shape),
        "norm": {"scale": embedding(shapes["norm"]["scale"].shape)},
        "blocks": {
            module: {name: stack(leaf.shape) for name, leaf in leaves.items()}
            for module, leaves in shapes["blocks"].items()
        },
    }
    config = to_hf_config(architecture, max_positions=0, dtype="bfloat16")
    (folder / "config.json").write_text(json.dumps(config))
    save_tensors(folder, params, architecture, "bfloat16", _FILE_BYTES)


def _measured(folder: Path, repeats: int) -> dict[str, Any]:
    tensors = open_tensors(folder).values()
    num_bytes = sum(tensor.nbytes for tensor in tensors)
    stored = max(tensors, key=lambda tensor: tensor.nbytes).dtype.name
    files = sorted({tensor.file for tensor in tensors})
    _copy(files)  # into the page cache
    copies, loads = [], {dtype: [] for dtype in dict.fromkeys((stored, "float32"))}
    context = multiprocessing.get_context("spawn")
    for number in range(repeats):
        for dtype, runs in loads.items():
            copies.append(_copy(files))
            with context.Pool(1) as pool:
                runs.append(pool.apply(_load, (str(folder), dtype)))
            say(
                f"{number + 1}/{repeats} {dtype}: {runs[-1]['seconds']:.2f} s, copied "
                f"in {copies[-1]:.2f} s"
            )
    copied = statistics.median(copies)
    result: dict[str, Any] = {
        "bytes": num_bytes,
        "num_files": len(files),
        "stored_as": stored,
        "copy_seconds": copied,
        "copy_bytes_per_s": num_bytes / copied,
    }
    for dtype, runs in loads.items():
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        result[dtype] = {
            **median,
            "runs": [run["seconds"] for run in runs],
            "bytes_per_s": num_bytes / median["seconds"],
            "copy_fraction": copied / median["seconds"],
        }
    return result


def _copy(files: list[Path]) -> float:
    """Returns the seconds to read the files and copy them into new memory."""
    piece = np.empty(_PIECE_BYTES, np.uint8)
    started, kept = time.perf_counter(), []
    for path in files:
        whole = np.empty(path.stat().st_size, np.uint8)
        at = 0
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(piece):
                whole[at : at + count] = piece[:count]
                at += count
        kept.append(whole)
    return time.perf_counter() - started


def _load(folder: str, dtype: str) -> dict[str, float]:
    """Measures one load; called in a new process."""
    import jax
    import jax.numpy as jnp

    transformer = Transformer(architecture=read_architecture(folder))
    mesh = make_mesh(MeshShape())
    param_shardings = shardings(mesh, transformer.logical_axes, transformer.shapes)
    jnp.zeros(1).block_until_ready()
    before = host_peak_bytes()
    started = time.perf_counter()
    params = read_params(folder, transformer, param_shardings, jnp.dtype(dtype))
    seconds = time.perf_counter() - started
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    # If the host is the device, its memory contains the parameters as well.
    on_host = size if jax.default_backend() == "cpu" else 0
    return {
        "seconds": seconds,
        "parameter_bytes": size,
        "extra_host_bytes": host_peak_bytes() - before - on_host,
    }
