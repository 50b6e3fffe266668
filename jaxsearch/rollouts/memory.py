"""Device memory of slots, and a readable error when it runs out."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxsearch.models.architecture import Architecture
from jaxsearch.rollouts.budgets import Budgets

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


def number_that_fits(device_bytes: int, reserved_bytes: int, bytes_each: int) -> int:
    """How many slots or tokens fit in addition to `reserved_bytes`; 0 if none does."""
    return max(0, device_bytes - reserved_bytes) // bytes_each


class Asked(NamedTuple):
    """The device memory that rollouts need in addition to the parameters.

    Attributes:
      number: how many slots, or tokens of a cache of a given size.
      bytes_each: bytes of one of them.
      smallest: the smallest number that can run a rollout.
      unit: what they are.
      setting: the option that changes their number.
    """

    number: int
    bytes_each: int
    smallest: int = 1
    unit: str = "slots"
    setting: str = "--rollout.num-slots"

    def __str__(self) -> str:
        total = bytes_text(self.number * self.bytes_each)
        each = bytes_text(self.bytes_each)
        return f"{self.number:,} {self.unit} of {each} take {total}"


def asked_for(
    architecture: Architecture,
    budgets: Budgets,
    dtype: DTypeLike,
    tensor_parallel_size: int = 1,
) -> Asked:
    """The slots, or the cache that they share if its size is set."""
    size_of = functools.partial(
        slot_bytes,
        architecture,
        dtype=dtype,
        tensor_parallel_size=tensor_parallel_size,
    )
    if budgets.cache_len is None:
        return Asked(budgets.num_slots, size_of(max_len=budgets.max_len))
    # Slots share the cache, so fewer of them do not make it smaller.
    return Asked(
        budgets.cache_len,
        size_of(max_len=1),
        smallest=budgets.max_len,
        unit="tokens of cache",
        setting="--rollout.cache-len",
    )


def shortage(asked: Asked, *, reserved_bytes: int, device_bytes: int | None) -> str:
    """The error message: the memory that was requested, and what to change.

    Programs need memory in addition to slots and parameters, but the amount is unknown
    before they are compiled. If slots and parameters alone would fit, the message
    suggests half the number of slots.
    """
    said = (
        f"the device ran out of memory: {asked} in addition to "
        f"{bytes_text(reserved_bytes)} of parameters"
    )
    if device_bytes is None:
        return (
            f"{said}; lower --rollout.num-slots, --rollout.cache-len or "
            "--rollout.max-len"
        )
    has = f"{said}, but the device has only {bytes_text(device_bytes)}"
    num_fitting = number_that_fits(device_bytes, reserved_bytes, asked.bytes_each)
    if num_fitting < asked.smallest or asked.number == asked.smallest:
        return (
            f"{has}: not even one rollout fits; share the policy over more devices "
            "(--rollout.tensor), or use a smaller model or a smaller --rollout.max-len"
        )
    if num_fitting >= asked.number:
        half = max(asked.smallest, asked.number // 2)
        return (
            f"{said}, which would fit in {bytes_text(device_bytes)}, but not together "
            f"with the memory that the programs need; try {asked.setting} {half}"
        )
    return f"{has}: {num_fitting:,} fit; set {asked.setting} {num_fitting}"


@contextlib.contextmanager
def explain_shortage(
    asked: Asked, *, reserved_bytes: int, device_bytes: int | None
) -> Iterator[None]:
    """Context in which running out of device memory raises a readable error.

    Raises:
      OutOfMemoryError: instead of XLA's error; other errors propagate.
    """
    with explain_out_of_memory(
        lambda requested: shortage(
            asked, reserved_bytes=reserved_bytes, device_bytes=device_bytes
        )
    ):
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
    """A number of bytes as GB, MB or kB."""
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    size, unit = next((u for u in units if num_bytes >= u[0]), units[-1])
    return f"{num_bytes / size:.1f} {unit}"
