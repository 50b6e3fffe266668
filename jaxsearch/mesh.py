"""Devices as a mesh, and where each axis of a parameter goes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Logical axis -> mesh axis. An axis that is not named here is replicated.
RULES: Mapping[str, str] = {
    "vocab": "tensor",
    "mlp": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "embed": "fsdp",
}
BATCH_AXES = ("data", "fsdp")  # rows of a batch are spread over both


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
    """Devices along each axis; their product must be the number of devices."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(shape: MeshShape, devices: list | None = None) -> Mesh:
    """A mesh of axes data, fsdp, tensor.

    Errors: ValueError when the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = (shape.data, shape.fsdp, shape.tensor)
    if np.prod(sizes) != len(devices):
        raise ValueError(
            f"mesh data={shape.data} x fsdp={shape.fsdp} x tensor={shape.tensor} needs "
            f"{np.prod(sizes)} devices, there are {len(devices)}"
        )
    names = ("data", "fsdp", "tensor")
    grid = np.asarray(devices).reshape(sizes)
    return Mesh(grid, names, axis_types=(AxisType.Auto,) * 3)


def shardings(
    mesh: Mesh, logical_axes: Any, shapes: Any, rules: Mapping[str, str] = RULES
) -> Any:
    """A sharding for every parameter, from the names of its axes.

    Errors: ValueError when two axes of one parameter claim the same mesh axis, or
    a mesh axis does not divide the axis it is given; the parameter is named.
    """

    def one(path: tuple, shape: jax.ShapeDtypeStruct, axes: tuple[str, ...]):
        name = "/".join(str(key.key) for key in path)
        wanted = [rules.get(axis) for axis in axes]
        used = [axis for axis in wanted if axis is not None]
        if len(set(used)) != len(used):
            raise ValueError(f"{name}: axes {axes} claim one mesh axis twice: {wanted}")
        for size, axis, logical in zip(shape.shape, wanted, axes, strict=True):
            if axis is not None and size % mesh.shape[axis]:
                raise ValueError(
                    f"{name}: axis {logical!r} of size {size} does not divide by the "
                    f"{mesh.shape[axis]} devices of mesh axis {axis!r}"
                )
        return NamedSharding(mesh, PartitionSpec(*wanted))

    return jax.tree.map_with_path(one, shapes, logical_axes)


def row_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch spread over the data axes."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())
