"""Weight sync: parameters from the layout of training to that of rollouts."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxsearch import mesh as meshes
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rollout.layout import AXIS, rollout_shardings


class WeightSync:
    """Converts parameters from training to rollouts, on the devices.

    Adapters are merged and weights are cast and fused in the layout of training; then
    the result is transferred once, so that each device has its part of its replica's
    copy (`replica_params`). The result shares no memory with the parameters in
    training, which may be donated immediately. All processes of a run call it together.

    Args:
      transformer: the network returned by `on_replica`.
      mesh: the mesh of training, over all devices of all processes.

    Raises:
      ValueError: if the network cannot be sharded evenly over a replica's devices.
    """

    def __init__(self, transformer: Transformer, mesh: Mesh):
        everywhere = _all_replicas(mesh, transformer.tensor_parallel_size)
        self._shardings = rollout_shardings(everywhere, transformer)
        made_with = self._shardings
        # A program has a single order of devices. If the training mesh interleaves the
        # devices of processes (on a torus), the result is computed in that order and
        # then transferred.
        if list(everywhere.devices.flat) != list(mesh.devices.flat):
            shapes = jax.eval_shape(transformer.for_rollouts, transformer.shapes)
            made_with = meshes.shardings(mesh, transformer.rollout_axes, shapes)
        self._make = jax.jit(transformer.for_rollouts, out_shardings=made_with)

    def lower(self, params: Params) -> jax.stages.Lowered:
        """The program for these parameters, or for their shapes with shardings."""
        return self._make.lower(params)

    def __call__(self, params: Params) -> Params:
        """The parameters for rollouts; returns before the transfer is done."""
        return jax.device_put(self._make(params), self._shardings)


def _all_replicas(mesh: Mesh, tensor_parallel_size: int) -> Mesh:
    """All devices as process x data x tensor, ordered as in `replica_meshes`.

    Raises:
      ValueError: if processes have different numbers of devices.
    """
    by_process: dict[int, list[jax.Device]] = {}
    for device in mesh.devices.flat:
        # If each device has a whole copy, it does not matter which process owns it.
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
