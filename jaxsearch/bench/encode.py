"""`jaxsearch bench encode`: texts to vectors, beside the limit and beside peers."""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from jaxsearch.bench.encode_workload import EncodeWorkload, read_encode_workload
from jaxsearch.bench.measurement import compilations, peak_bytes, say
from jaxsearch.bench.peer import ENCODERS, Peer
from jaxsearch.bench.roofline import Product, Work, median_seconds, product_seconds
from jaxsearch.models.bert_architecture import BertArchitecture
from jaxsearch.search.bert_encoder_folder import read_bert_encoder
from jaxsearch.search.encoder_options import EncoderOptions
from jaxsearch.search.passages import Passage

# Of the products whose rate makes the limit: as many as fill the processor.
_LIMIT_TOKENS = 4096


def bench_encode(
    workload: str, *, repeats: int, peers: dict[str, str]
) -> dict[str, Any]:
    """Medians of `repeats` runs after one that warms up; peers take turns with ours.

    Everything from texts to vectors on the host is timed, the tokenizer too.

    Args:
      peers: name of a peer -> the Python that has it. It reads the same folder.

    Errors: ValueError for a workload or a peer that cannot be used.
    """
    if repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {repeats}")
    script = read_encode_workload(workload)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script.write(folder)
        others = {}
        for name, python in peers.items():
            others[name] = Peer(name, python, folder, known=ENCODERS)
            stack.callback(others[name].close)
        encoder = read_bert_encoder(str(folder), EncoderOptions(dtype=script.dtype))
        passages = [
            Passage(id=str(i), contents=text) for i, text in enumerate(script.texts)
        ]
        say(f"warming up: jaxsearch{''.join(f', {name}' for name in others)}")
        vectors = encoder.encode_passages(passages)
        result: dict[str, Any] = {}
        for name, peer in others.items():
            peer.run()
            result[name] = {"max_difference": _difference(folder, vectors)}
        runs: dict[str, list[float]] = {name: [] for name in ("jaxsearch", *others)}
        with compilations() as compiled:
            for number in range(repeats):
                started = time.perf_counter()
                encoder.encode_passages(passages)
                runs["jaxsearch"].append(time.perf_counter() - started)
                for name, peer in others.items():
                    runs[name].append(peer.run().seconds)
                took = ", ".join(f"{name} {r[-1]:.2f} s" for name, r in runs.items())
                say(f"run {number + 1}/{repeats}: {took}")
    ours = runs.pop("jaxsearch")
    seconds, num_tokens = statistics.median(ours), sum(script.lengths)
    for name, times in runs.items():
        median = statistics.median(times)
        result[name] |= {
            "seconds": median,
            "runs": times,
            "tokens_per_s": num_tokens / median,
            "times_slower": median / seconds,
        }
    return _summary(script, ours, len(compiled)) | result


def _summary(
    workload: EncodeWorkload, runs: list[float], num_compiled: int
) -> dict[str, Any]:
    seconds, num_tokens = statistics.median(runs), sum(workload.lengths)
    work = phases(workload.architecture, workload.dtype, workload.lengths)
    limit_seconds = sum(phase.seconds for phase in work.values())
    return {
        "workload": {
            "texts": workload.num_texts,
            "shortest": workload.shortest,
            "longest": workload.longest,
        },
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.local_device_count(),
        "tokens": num_tokens,
        "seconds": seconds,
        "runs": runs,
        "tokens_per_s": num_tokens / seconds,
        "texts_per_s": workload.num_texts / seconds,
        "gflops_per_s": sum(phase.flops for phase in work.values()) / seconds / 1e9,
        "peak_bytes": peak_bytes(),
        "limit_seconds": limit_seconds,
        "limit_fraction": limit_seconds / seconds,
        "limit": {
            name: {"seconds": w.seconds, "gflops_per_s": w.flops / w.seconds / 1e9}
            for name, w in work.items()
        },
        "recompilations": num_compiled,
    }


def phases(sizes: BertArchitecture, dtype: str, lengths: list[int]) -> dict[str, Work]:
    """The products of all tokens and of all pairs of tokens, at their own rates.

    Nothing is padded, and norms, GELU, softmax, copies and the tokenizer cost
    nothing. Rates are those of one device; several share the work.
    """
    D, F, L = sizes.width, sizes.mlp_width, sizes.num_layers
    shapes = ((D, 3 * D), (D, D), (D, F), (F, D))
    products = [Product(_LIMIT_TOKENS, *shape, L) for shape in shapes]
    calls = sum(lengths) / _LIMIT_TOKENS / jax.local_device_count()
    linear = Work(
        calls=calls,
        flops=sum(p.flops for p in products) * sum(lengths) / _LIMIT_TOKENS,
        seconds=calls * sum(product_seconds(p, dtype) for p in products),
    )
    # A token's row is as long as the mean over tokens, not over texts.
    num_pairs = sum(length**2 for length in lengths)
    row_len = round(num_pairs / sum(lengths))
    rows = max(1, _LIMIT_TOKENS // row_len)
    calls = num_pairs / (rows * row_len**2) / jax.local_device_count()
    attention = Work(
        calls=calls,
        flops=4.0 * num_pairs * D * L,
        seconds=calls * L * _attention_seconds(sizes, dtype, rows, row_len),
    )
    return {"linear": linear, "attention": attention}


def _attention_seconds(
    sizes: BertArchitecture, dtype: str, rows: int, row_len: int
) -> float:
    shape = (rows, sizes.num_heads, row_len, sizes.head_width)
    query, value = jnp.ones(shape, dtype), jnp.ones(shape, dtype)
    key = jnp.ones((*shape[:2], shape[3], shape[2]), dtype)
    return median_seconds(jax.jit(lambda q, k, v: (q @ k) @ v), query, key, value)


def _difference(folder: Path, vectors: Float32[np.ndarray, "n dims"]) -> float:
    """Largest difference between our vectors and those that a peer left behind."""
    return float(np.abs(np.load(folder / "vectors.npy") - vectors).max())
