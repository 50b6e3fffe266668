"""Shardings of rollouts: replicas of the policy, on disjoint sets of devices."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxsearch import mesh as meshes
from jaxsearch.models.cache import PageLayout
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rollouts.slots import Slots

AXIS = "tensor"  # the only axis of a replica's mesh
# Logical axis -> AXIS or None; nothing else is sharded in rollouts.
RULES = {name: AXIS if axis == AXIS else None for name, axis in meshes.RULES.items()}


def replica_meshes(
    devices: Sequence[jax.Device], tensor: int, num_replicas: int | None = None
) -> tuple[Mesh, ...]:
    """The devices of a process in groups of `tensor`, one per replica of the policy.

    Args:
      devices: devices, ordered so that neighbours are consecutive.
      num_replicas: number of groups; None uses all devices.

    Raises:
      ValueError: if `tensor` does not divide the number of devices, or there are too
        few devices.
    """
    num_replicas = replicas_of_process(len(devices), tensor, num_replicas)
    groups = np.array(devices[: num_replicas * tensor]).reshape(num_replicas, tensor)
    return tuple(Mesh(group, (AXIS,), axis_types=(AxisType.Auto,)) for group in groups)


def replicas_of_process(
    num_devices: int, tensor: int, num_replicas: int | None = None
) -> int:
    """Number of replicas on the devices of a process; see `replica_meshes`.

    Raises:
      ValueError: if `tensor` does not divide the number of devices, or there are too
        few devices.
    """
    if num_devices % tensor:
        # Also if some stay idle: parameters are copied to all devices in one layout.
        raise ValueError(
            f"rollout.tensor {tensor} does not divide the {num_devices} devices "
            "of a process: choose a number that does"
        )
    if num_replicas is None:
        num_replicas = num_devices // tensor
    if num_replicas * tensor > num_devices:
        raise ValueError(
            f"rollout.replicas {num_replicas} x rollout.tensor {tensor} needs "
            f"{num_replicas * tensor} devices, but a process has {num_devices}"
        )
    return num_replicas


def on_replica(transformer: Transformer, mesh: Mesh) -> Transformer:
    """The network in the form that runs on a replica with this mesh."""
    rollout_mesh = mesh.abstract_mesh if mesh.size > 1 else None
    return dataclasses.replace(transformer, rollout_mesh=rollout_mesh)


def rollout_shardings(mesh: Mesh | AbstractMesh, transformer: Transformer) -> Any:
    """A sharding over `tensor` for every parameter of `transformer.for_rollouts`.

    Args:
      transformer: the network returned by `on_replica`.
      mesh: mesh of a replica, or of all devices with an axis `tensor` among others.

    Raises:
      ValueError: if the heads, width or vocabulary of a parameter cannot be split
        evenly; the error names the parameter.
    """
    tensor_parallel_size = mesh.shape[AXIS]
    if transformer.tensor_parallel_size != tensor_parallel_size:
        raise ValueError(
            f"the network is laid out for {transformer.tensor_parallel_size} "
            f"devices per copy, but the mesh has {tensor_parallel_size}: see on_replica"
        )
    try:
        # Checked on unfused weights, whose axes have one entry per head; a fused array
        # has many rows per group of heads.
        meshes.shardings(mesh, transformer.logical_axes, transformer.shapes, RULES)
    except ValueError as error:
        raise ValueError(
            f"rollout.tensor {tensor_parallel_size} does not fit: {error}"
        ) from None
    shapes = transformer.rollout_shapes
    return meshes.shardings(mesh, transformer.rollout_axes, shapes, RULES)


def slot_shardings(mesh: Mesh | AbstractMesh, slots: Slots) -> Slots:
    """Shardings of slots (or of their shapes): cache by heads, the rest replicated."""
    rest = jax.tree.map(lambda _: replicated(mesh), slots._replace(cache=()))
    cache = tuple(
        tuple(page_shardings(mesh, segment) for segment in layer)
        for layer in slots.cache
    )
    return rest._replace(cache=cache)


def page_shardings(mesh: Mesh | AbstractMesh, pages: PageLayout) -> Any:
    """Shardings of the arrays of pages, by heads."""
    sharding = replicated(mesh)
    if mesh.size > 1:
        by_heads = PartitionSpec(*[None] * pages.heads_axis, AXIS)
        sharding = NamedSharding(mesh, by_heads)
    return jax.tree.map(lambda _: sharding, pages)


def by_vocabulary(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of logits [B V], by vocabulary like the rows of the head."""
    return NamedSharding(mesh, PartitionSpec(None, RULES["vocab"]))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of a value that is the same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replica_params(mesh: Mesh, shardings: Any, params: Params) -> Params:
    """A view of the rollout parameters on the devices of one replica.

    Nothing is copied, so deleting `params` deletes the arrays of the view.

    Raises:
      ValueError: if a device of the replica holds no part of a parameter.
    """

    def view(array: jax.Array, sharding: NamedSharding) -> jax.Array:
        held = {shard.device: shard.data for shard in array.addressable_shards}
        missing = [device for device in mesh.devices.flat if device not in held]
        if missing:
            raise ValueError(
                f"the parameters are on {[*held]}, but not on {missing}: transfer them "
                "to all replicas (run.weight_sync.WeightSync)"
            )
        parts = [held[device] for device in mesh.devices.flat]
        return jax.make_array_from_single_device_arrays(array.shape, sharding, parts)

    return jax.tree.map(view, params, shardings)
