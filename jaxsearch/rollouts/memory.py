"""Device memory of slots, and a readable error when it runs out."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxsearch.models.architecture import Architecture

# Bytes per token of a row: its id, whether the policy sampled it, two log-probs.
_TOKEN_BYTES = 4 + 1 + 4 + 4
# XLA's status, and its text on a CPU, where a program that was dispatched before its
# memory was allocated has a different status.
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")


class OutOfMemoryError(ValueError):
    """A setting needs too much memory; the message has the setting and the sizes.

    The same command would fail again, so the user must change something.
    """


def slot_bytes(
    architecture: Architecture,
    max_len: int,
    dtype: DTypeLike,
    tensor_parallel_size: int = 1,
) -> int:
    """Bytes of a slot of up to `max_len` tokens: keys, values and the row.

    The number is per device, with heads sharded over `tensor_parallel_size` devices.
    The scalars of a slot are not counted.
    """
    a = architecture
    numbers = 2 * a.num_layers * a.num_kv_heads // tensor_parallel_size * a.head_width
    return max_len * (numbers * jnp.dtype(dtype).itemsize + _TOKEN_BYTES)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree, across all devices."""
    return sum(array.nbytes for array in jax.tree.leaves(tree))


def device_bytes(device: jax.Device) -> int | None:
    """Bytes that programs may use on a device; None if unknown (on a CPU)."""
    return (device.memory_stats() or {}).get("bytes_limit")


def slots_that_fit(device_bytes: int, reserved_bytes: int, bytes_per_slot: int) -> int:
    """Number of slots that fit in addition to `reserved_bytes`; 0 if none does."""
    return max(0, device_bytes - reserved_bytes) // bytes_per_slot


def shortage(
    *,
    num_slots: int,
    bytes_per_slot: int,
    reserved_bytes: int,
    device_bytes: int | None,
) -> str:
    """The error message: the memory that was requested, and what to change.

    Programs need memory in addition to slots and parameters, but the amount is unknown
    before they are compiled. If slots and parameters alone would fit, the message
    suggests half the number of slots.
    """
    asked = (
        f"the device ran out of memory: {num_slots} slots of "
        f"{bytes_text(bytes_per_slot)} take {bytes_text(num_slots * bytes_per_slot)} "
        f"in addition to {bytes_text(reserved_bytes)} of parameters"
    )
    if device_bytes is None:
        return (
            f"{asked}; lower --rollout.num-slots, --rollout.cache-len or "
            "--rollout.max-len"
        )
    has = f"{asked}, but the device has only {bytes_text(device_bytes)}"
    num_fitting = slots_that_fit(device_bytes, reserved_bytes, bytes_per_slot)
    if num_fitting == 0 or num_slots == 1:
        return (
            f"{has}: not even one slot fits; share the policy over more devices "
            "(--rollout.tensor), or use a smaller model or a smaller --rollout.max-len"
        )
    if num_fitting >= num_slots:
        return (
            f"{asked}, which would fit in {bytes_text(device_bytes)}, but not together "
            "with the memory that the programs need; try "
            f"--rollout.num-slots {num_slots // 2}"
        )
    return f"{has}: {num_fitting} slots fit; set --rollout.num-slots {num_fitting}"


@contextlib.contextmanager
def explain_shortage(
    *,
    num_slots: int,
    bytes_per_slot: int,
    reserved_bytes: int,
    device_bytes: int | None,
) -> Iterator[None]:
    """Context in which running out of device memory raises a readable error.

    Raises:
      OutOfMemoryError: instead of XLA's error; other errors propagate.
    """
    line = functools.partial(
        shortage,
        num_slots=num_slots,
        bytes_per_slot=bytes_per_slot,
        reserved_bytes=reserved_bytes,
        device_bytes=device_bytes,
    )
    with explain_out_of_memory(lambda asked: line()):
        yield


@contextlib.contextmanager
def explain_out_of_memory(line: Callable[[int | None], str]) -> Iterator[None]:
    """Context in which running out of memory raises a readable error.

    Args:
      line: makes the message from the number of requested bytes; None if unknown.

    Raises:
      OutOfMemoryError: instead of XLA's or NumPy's error; other errors propagate.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        text = str(error)
        is_out = any(part in text for part in _OUT_OF_MEMORY)
        if not (is_out or isinstance(error, MemoryError)):
            raise
        asked = re.search(r"allocat\w+ (\d+) bytes", text)
        raise OutOfMemoryError(line(int(asked[1]) if asked else None)) from error


def bytes_text(num_bytes: int) -> str:
    """A number of bytes as GB or MB."""
    return (
        f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
    )
