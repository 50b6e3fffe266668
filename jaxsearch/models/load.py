"""Loads tensors from files into sharded parameters, one at a time."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from jaxsearch.models.architecture import Architecture
from jaxsearch.models.convert import Entry, at, entries
from jaxsearch.models.tensor_files import Tensor, read_part
from jaxsearch.models.transformer import Params

# Tensors to read ahead while another is copied to the devices; each takes host memory.
_NUM_AHEAD = 1
# Number of tensors named in an error; the others are only counted.
_NUM_NAMED = 3
# Buffers that old versions of transformers saved with the weights.
_HARMLESS = (".rotary_emb.inv_freq",)


def unexpected_tensors(
    tensors: Mapping[str, Tensor], architecture: Architecture, shapes: Params
) -> list[str]:
    """Names of tensors that the network does not have.

    This includes the head of a network with tied embeddings, which is not read.

    Raises:
      ValueError: naming tensors that are missing or have the wrong shape.
    """
    wanted = {entry.name: entry for entry in entries(architecture, shapes)}
    missing = [name for name in wanted if name not in tensors]
    misshapen = [
        f"{name} is {list(tensors[name].shape)} in {tensors[name].file.name}, expected "
        f"{list(entry.file_shape)}"
        for name, entry in wanted.items()
        if name in tensors and tensors[name].shape != entry.file_shape
    ]
    faults = []
    if missing:
        faults.append(
            f"{len(missing)} of {len(wanted)} tensors missing: {some(missing)}"
        )
    if misshapen:
        faults.append(f"{len(misshapen)} with the wrong shape: {some(misshapen)}")
    if faults:
        raise ValueError("; ".join(faults))
    return [n for n in tensors if n not in wanted and not n.endswith(_HARMLESS)]


def load(
    tensors: Mapping[str, Tensor],
    architecture: Architecture,
    shapes: Params,
    shardings: Params,
    *,
    dtype: Any = jnp.float32,
    on_bytes: Callable[[int], None] = lambda num_bytes: None,
) -> Params:
    """Parameters, with each tensor read directly into its shards on the devices.

    The host holds at most two tensors at a time, in the dtype of the files, and only
    the parts that its devices need; casts run on the devices. Every process must call
    this.

    Args:
      shapes, shardings: for each parameter; they may include parameters that the files
        do not have.
      on_bytes: called with the size of each tensor after it is loaded.

    Raises:
      ValueError: if a file is shorter than its header says.
    """
    stacks: dict[tuple[str, ...], Array] = {}
    # In file order, because disks and network file systems read ahead.
    todo = sorted(
        entries(architecture, shapes),
        key=lambda e: (tensors[e.name].file, tensors[e.name].offset),
    )

    def read(entry: Entry) -> Array:
        sharding = at(shardings, entry.path)
        if entry.layer is not None:
            sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))
        return _read(tensors[entry.name], entry.shape, sharding)

    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(read, entry) for entry in todo[:_NUM_AHEAD]]
        for number, entry in enumerate(todo):
            array = ahead.pop(0).result()
            ahead += [reader.submit(read, e) for e in todo[number + _NUM_AHEAD :][:1]]
            if entry.layer is None:
                stacks[entry.path] = array.astype(dtype)
            else:
                if entry.path not in stacks:
                    stacks[entry.path] = _empty(
                        at(shapes, entry.path).shape, dtype, at(shardings, entry.path)
                    )
                stacks[entry.path] = _put(
                    stacks[entry.path], np.int32(entry.layer), array
                )
            # Without this, the host may run ahead of the devices and hold every tensor.
            jax.block_until_ready(stacks[entry.path])
            on_bytes(tensors[entry.name].nbytes)
    params: Params = {}
    for path, stack in stacks.items():
        part = params
        for key in path[:-1]:
            part = part.setdefault(key, {})
        part[path[-1]] = stack
    return params


def _read(tensor: Tensor, shape: Sequence[int], sharding: NamedSharding) -> Array:
    """Reads one tensor to the devices; only the range that covers their shards."""
    parts = sharding.addressable_devices_indices_map(tuple(shape)).values()
    hull = []
    for axis, size in enumerate(shape):
        ranges = [part[axis].indices(size)[:2] for part in parts]
        hull.append(slice(min(a for a, _ in ranges), max(b for _, b in ranges)))
    held = read_part(tensor, shape, hull)

    def part_of(index: tuple[slice, ...]) -> np.ndarray:
        ranges = [s.indices(n)[:2] for s, n in zip(index, shape, strict=True)]
        return held[
            tuple(
                slice(a - whole.start, b - whole.start)
                for (a, b), whole in zip(ranges, hull, strict=True)
            )
        ]

    return jax.make_array_from_callback(tuple(shape), sharding, part_of)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _empty(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> Array:
    return jax.lax.with_sharding_constraint(jnp.zeros(shape, dtype), sharding)


@functools.partial(jax.jit, donate_argnums=0)
def _put(stack: Array, layer: Int[Array, ""], array: Array) -> Array:
    """Replaces one layer of the stack, in the dtype of the stack."""
    array = array.astype(stack.dtype)
    if stack.dtype != jnp.bfloat16:
        return jax.lax.dynamic_update_index_in_dim(stack, array, layer, 0)
    # Updated as integers, because XLA's CPU compiler would convert the whole stack to
    # float32 and back.
    bits = jax.lax.bitcast_convert_type(stack, jnp.uint16)
    new = jax.lax.bitcast_convert_type(array, jnp.uint16)
    bits = jax.lax.dynamic_update_index_in_dim(bits, new, layer, 0)
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


def some(names: Sequence[str]) -> str:
    """The first few names, and how many others there are."""
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Total size of all tensors in bytes, as stored in the files."""
    return sum(tensor.nbytes for tensor in tensors.values())
