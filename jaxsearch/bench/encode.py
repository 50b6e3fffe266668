"""`jaxsearch bench encode`: encoding texts with a BERT encoder."""

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

_TOKENS = 4096  # rows of the measured products: enough to fill the processor


def bench_encode(source: str, *, repeats: int, peers: dict[str, str]) -> dict[str, Any]:
    """Returns medians of `repeats` runs after a warm-up; engines take turns.

    The time covers everything from texts to vectors on the host, including
    tokenization.

    Args:
      source: a workload file, or the name of a packaged workload.
      repeats: number of measured runs.
      peers: the Python interpreter of each peer, by its name. Peers read the same
        model folder.

    Raises:
      ValueError: if the workload or a peer cannot be used.
    """
    if repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {repeats}")
    workload = read_encode_workload(source)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workload.write(folder)
        others = {}
        for name, python in peers.items():
            others[name] = Peer(name, python, folder, known=ENCODERS)
            stack.callback(others[name].close)
        encoder = read_bert_encoder(str(folder), EncoderOptions(dtype=workload.dtype))
        passages = [
            Passage(id=str(i), contents=text) for i, text in enumerate(workload.texts)
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
    seconds, num_tokens = statistics.median(ours), sum(workload.lengths)
    for name, times in runs.items():
        median = statistics.median(times)
        result[name] |= {
            "seconds": median,
            "runs": times,
            "tokens_per_s": num_tokens / median,
            "times_slower": median / seconds,
        }
    return _summary(workload, ours, len(compiled)) | result


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
    """Work of the linear layers and of attention, at the measured rates of one device.

    Padding, norms, GELU, softmax, copies and the tokenizer are not counted. The work is
    divided by the number of devices.
    """
    D, F, L = sizes.width, sizes.mlp_width, sizes.num_layers
    shapes = ((D, 3 * D), (D, D), (D, F), (F, D))
    products = [Product(_TOKENS, *shape, L) for shape in shapes]
    calls = sum(lengths) / _TOKENS / jax.local_device_count()
    linear = Work(
        calls=calls,
        flops=sum(p.flops for p in products) * sum(lengths) / _TOKENS,
        seconds=calls * sum(product_seconds(p, dtype) for p in products),
    )
    # Mean row length over tokens, not over texts.
    num_pairs = sum(length**2 for length in lengths)
    row_len = round(num_pairs / sum(lengths))
    rows = max(1, _TOKENS // row_len)
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
    """Largest difference between our vectors and those written by a peer."""
    return float(np.abs(np.load(folder / "vectors.npy") - vectors).max())
