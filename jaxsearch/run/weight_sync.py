"""Weight sync: parameters from the layout of training to that of rollouts."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxsearch import mesh as meshes
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rollout.layout import AXIS, rollout_shardings


class WeightSync:
    """Makes the parameters of rollouts from those in training, on the devices.

    Adapters are merged, weights are cast and fused in the layout of training; then the
    result is moved once, so that each device has its part of its replica's copy
    (`replica_params`). The result shares no memory with the parameters in training,
    which may be donated at once. All processes of a run call it together.

    Args:
      transformer: the network as `on_replica` returns it.
      mesh: the mesh of training, over all devices of all processes.

    Raises:
      ValueError: for a network that does not divide among the devices of a replica.
    """

    def __init__(self, transformer: Transformer, mesh: Mesh):
        everywhere = _all_replicas(mesh, transformer.tensor_parallel_size)
        self._shardings = rollout_shardings(everywhere, transformer)
        made_with = self._shardings
        # A program has one order of devices. Where the mesh of training interleaves the
        # processes' devices (on a torus), the result is made in that order and moved.
        if list(everywhere.devices.flat) != list(mesh.devices.flat):
            shapes = jax.eval_shape(transformer.for_rollouts, transformer.shapes)
            made_with = meshes.shardings(mesh, transformer.rollout_axes, shapes)
        self._make = jax.jit(transformer.for_rollouts, out_shardings=made_with)

    def lower(self, params: Params) -> jax.stages.Lowered:
        """The program for these parameters, or for their shapes with shardings."""
        return self._make.lower(params)

    def __call__(self, params: Params) -> Params:
        """The parameters of rollouts; returns before the transfer is done."""
        return jax.device_put(self._make(params), self._shardings)


def _all_replicas(mesh: Mesh, tensor_parallel_size: int) -> Mesh:
    """All devices as process x data x tensor, as in each process's `replica_meshes`.

    Raises:
      ValueError: if processes have different numbers of devices.
    """
    by_process: dict[int, list[jax.Device]] = {}
    for device in mesh.devices.flat:
        # Where each device has a whole copy, its process makes no difference.
        process = device.process_index if tensor_parallel_size > 1 else 0
        by_process.setdefault(process, []).append(device)
    numbers = {len(devices) for devices in by_process.values()}
    if len(numbers) > 1:
        raise ValueError(
            f"processes must have the same number of devices, got {sorted(numbers)}"
        )
    devices = np.array([*by_process.values()])
    devices = devices.reshape(len(by_process), -1, tensor_parallel_size)
    return Mesh(devices, ("process", "data", AXIS), axis_types=(AxisType.Auto,) * 3)
