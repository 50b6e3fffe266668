"""The device mesh, and the sharding of parameters and batches over it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxsearch.models.activation_sharding import ActivationSharding
from jaxsearch.rl.head_sharding import HeadSharding

# Logical axis -> mesh axis, or None if the axis is not sharded.
RULES: Mapping[str, str | None] = {
    "vocab": "tensor",
    "mlp": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "embed": "fsdp",
    "head": None,
    "layers": None,
    "rank": None,
}
BATCH_AXES = ("data", "fsdp")  # rows of a batch are sharded over both


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
    """Devices along each mesh axis; the product is the number of devices."""

    data: int | None = 1
    """Copies of the parameters, for different rows; None: all remaining devices."""
    fsdp: int | None = None
    """Shards of parameters and of rows; None: all remaining devices."""
    tensor: int = 1
    """Shards of heads, MLP and vocabulary."""

    def __post_init__(self):
        for axis, size in dataclasses.asdict(self).items():
            if size is not None and size < 1:
                raise ValueError(f"mesh axis {axis} must be at least 1, got {size}")
        if self.data is None and self.fsdp is None:
            raise ValueError("mesh axes data and fsdp are both None: give one a number")


def mesh_sizes(shape: MeshShape, num_devices: int) -> dict[str, int]:
    """Devices along the axes data, fsdp and tensor.

    Raises:
      ValueError: if their product is not the number of devices.
    """
    given = (shape.data or 1) * (shape.fsdp or 1) * shape.tensor
    left = max(1, num_devices // given)
    sizes = {
        "data": left if shape.data is None else shape.data,
        "fsdp": left if shape.fsdp is None else shape.fsdp,
        "tensor": shape.tensor,
    }
    if math.prod(sizes.values()) != num_devices:
        named = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise ValueError(
            f"mesh {named} needs {math.prod(sizes.values())} devices, but "
            f"there are {num_devices}"
        )
    return sizes


def make_mesh(shape: MeshShape, devices: list | None = None) -> Mesh:
    """A mesh with the axes data, fsdp and tensor.

    Args:
      devices: None for all devices of all processes.

    Raises:
      ValueError: if the product of the axes is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = mesh_sizes(shape, len(devices))
    # Unlike a reshape, make_mesh aligns the axes with the links of a TPU's torus.
    return jax.make_mesh(
        tuple(sizes.values()),
        tuple(sizes),
        axis_types=(AxisType.Auto,) * 3,
        devices=devices,
    )


def platform(mesh: Mesh) -> str:
    """The kind of the mesh's devices: "cpu", "tpu", "cuda" or "rocm"."""
    device = mesh.devices.flat[0]
    if device.platform != "gpu":
        return device.platform
    return "cuda" if "cuda" in device.client.platform_version else "rocm"


def compute_capability(mesh: Mesh) -> float | None:
    """The compute capability of the mesh's NVIDIA GPUs; None for other devices."""
    if platform(mesh) != "cuda":
        return None
    return float(mesh.devices.flat[0].compute_capability)


def shardings(
    mesh: Mesh | AbstractMesh,
    logical_axes: Any,
    shapes: Any,
    rules: Mapping[str, str | None] = RULES,
) -> Any:
    """The sharding of every parameter, from the names of its axes.

    Args:
      logical_axes: names of each parameter's axes, a pytree like `shapes`.
      rules: logical axis -> mesh axis, or None.

    Raises:
      ValueError: if two axes of a parameter map to the same mesh axis, if the size of
        an axis is not divisible by that of its mesh axis, or if an axis has no rule;
        the error names the parameter.
    """

    def sharding_of(path: tuple, shape: jax.ShapeDtypeStruct, axes: tuple[str, ...]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if len(axes) != len(shape.shape):
            raise ValueError(f"{name}: axes {axes} do not match shape {shape.shape}")
        if unknown := [axis for axis in axes if axis not in rules]:
            raise ValueError(f"{name}: no rule for axes {unknown}; known: {[*rules]}")
        wanted = [rules[axis] for axis in axes]
        used = [axis for axis in wanted if axis is not None]
        if len(set(used)) != len(used):
            raise ValueError(
                f"{name}: axes {axes} map to the same mesh axis twice: {wanted}"
            )
        for size, axis, logical in zip(shape.shape, wanted, axes, strict=True):
            if axis is not None and size % mesh.shape[axis]:
                raise ValueError(
                    f"{name}: axis {logical!r} of size {size} is not divisible by the "
                    f"{mesh.shape[axis]} devices of mesh axis {axis!r}"
                )
        # XLA returns shardings without axes of size 1 and without trailing Nones. jit's
        # cache treats another spelling of the same layout as a different one, so
        # without this the second update would compile again.
        spec = [axis if axis and mesh.shape[axis] > 1 else None for axis in wanted]
        while spec and spec[-1] is None:
            spec.pop()
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map_with_path(sharding_of, shapes, logical_axes)


def row_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: rows over the data axes."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def attention_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of [B T N H]: rows like a batch, heads like their weights."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES, None, RULES["heads"], None))


def activation_sharding(mesh: Mesh) -> ActivationSharding | None:
    """The sharding of activations in training; None on one device."""
    if mesh.size == 1:
        return None
    return ActivationSharding(
        mesh=mesh, rules=tuple(RULES.items()), row_axes=BATCH_AXES
    )


def head_sharding(mesh: Mesh, head: NamedSharding) -> HeadSharding | None:
    """The sharding of the output head and its inputs; None on one device.

    Args:
      head: sharding of the head [V D].
    """
    return HeadSharding(rows=row_sharding(mesh), head=head) if mesh.size > 1 else None


def row_multiple(mesh: Mesh) -> int:
    """Number of devices that share the rows of a batch; it must divide the rows."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def put_batch(mesh: Mesh, batch: Any) -> Any:
    """Puts a pytree of arrays, whose first axis is rows, on the mesh, sharded by rows.

    Raises:
      ValueError: if the number of rows is not divisible by the devices.
    """
    for rows in {len(array) for array in jax.tree.leaves(batch)}:
        if rows % row_multiple(mesh):
            raise ValueError(
                f"{rows} rows are not divisible by the {row_multiple(mesh)} devices of "
                f"mesh axes {BATCH_AXES}; pass row_multiple to `microbatches`"
            )
    rows = row_sharding(mesh)
    return jax.tree.map(
        # Every process has the whole batch and transfers the rows of its own devices.
        lambda array: jax.make_array_from_callback(
            array.shape, rows, lambda index: array[index]
        ),
        batch,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding that has the same value on every device."""
    return NamedSharding(mesh, PartitionSpec())
