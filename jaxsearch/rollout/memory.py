"""What slots take of a device's memory, and a clear word where it ran out."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxsearch.models.architecture import Architecture

# Of one token in a slot: its id, whether the policy sampled it, two log-probs.
_TOKEN_BYTES = 4 + 1 + 4 + 4


class OutOfMemoryError(RuntimeError):
    """The device's memory is too small for the slots; the text says how many fit."""


def slot_bytes(
    architecture: Architecture,
    max_len: int,
    dtype: DTypeLike,
    tensor_parallel_size: int = 1,
) -> int:
    """Bytes of a slot of up to `max_len` tokens: keys and values, and the row itself.

    On each of the `tensor_parallel_size` devices that share the heads. The few scalars
    of a slot are left out.
    """
    a = architecture
    numbers = 2 * a.num_layers * a.num_kv_heads // tensor_parallel_size * a.head_width
    return max_len * (numbers * jnp.dtype(dtype).itemsize + _TOKEN_BYTES)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree, each counted once and whole."""
    return sum(array.nbytes for array in jax.tree.leaves(tree))


def device_bytes(device: jax.Device) -> int | None:
    """Bytes that programs may use on a device; None where it does not say (a CPU)."""
    return (device.memory_stats() or {}).get("bytes_limit")


def slots_that_fit(device_bytes: int, reserved_bytes: int, bytes_per_slot: int) -> int:
    """Slots in what is left beside `reserved_bytes`; 0 where nothing is left."""
    return max(0, device_bytes - reserved_bytes) // bytes_per_slot


def shortage(
    *,
    num_slots: int,
    bytes_per_slot: int,
    reserved_bytes: int,
    device_bytes: int | None,
) -> str:
    """What was asked of the device's memory, and what to ask instead, in one line.

    Programs need memory beside slots and parameters, which nobody knows before they
    are compiled: if the slots should have fitted, half of them are proposed.
    """
    asked = (
        f"the device ran out of memory: {num_slots} slots of {_size(bytes_per_slot)} "
        f"take {_size(num_slots * bytes_per_slot)} beside {_size(reserved_bytes)} of "
        "parameters"
    )
    if device_bytes is None:
        return f"{asked}; lower --rollout.num-slots or --rollout.max-len"
    has = f"{asked}, the device has {_size(device_bytes)}"
    num_fitting = slots_that_fit(device_bytes, reserved_bytes, bytes_per_slot)
    if num_fitting == 0 or num_slots == 1:
        return (
            f"{has}: not even one slot fits; take a smaller model or a shorter "
            "--rollout.max-len"
        )
    if num_fitting >= num_slots:
        return (
            f"{has}: they fit, but not with what the programs need beside them; try "
            f"--rollout.num-slots {num_slots // 2}"
        )
    return f"{has}: {num_fitting} slots fit; set --rollout.num-slots {num_fitting}"


@contextlib.contextmanager
def explained(
    *,
    num_slots: int,
    bytes_per_slot: int,
    reserved_bytes: int,
    device_bytes: int | None,
) -> Iterator[None]:
    """Around whatever makes or uses slots: running out of memory is told in one line.

    Errors: OutOfMemoryError in place of XLA's; all others pass.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        line = shortage(
            num_slots=num_slots,
            bytes_per_slot=bytes_per_slot,
            reserved_bytes=reserved_bytes,
            device_bytes=device_bytes,
        )
        raise OutOfMemoryError(line) from error


def _size(num_bytes: int) -> str:
    return (
        f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
    )
