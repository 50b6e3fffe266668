"""From the layout of training to that of rollouts, from device to device."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxsearch import mesh as meshes
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.rollout.layout import AXIS, rollout_shardings


class WeightSync:
    """Makes what rollouts read of the parameters that are trained.

    Merged, cast and joined where training has them, and then moved, once, so that each
    device of each process has what it holds of its replica's copy (`replica_params`).
    Nothing is shared with what is trained, which may be donated at once.

    All processes of a run call it together. Args:
      transformer: as `on_replica` makes it.
      mesh: of training, which spans all devices of all processes.

    Errors: ValueError for a network that the devices of a replica cannot share.
    """

    def __init__(self, transformer: Transformer, mesh: Mesh):
        everywhere = _all_replicas(mesh, transformer.tensor_parallel_size)
        self._places = rollout_shardings(everywhere, transformer)
        made_at = self._places
        # A program keeps to one order of devices. Where training has those of a process
        # apart (on a torus), the result is made by its layout and moved by another.
        if list(everywhere.devices.flat) != list(mesh.devices.flat):
            shapes = jax.eval_shape(transformer.for_rollouts, transformer.shapes)
            made_at = meshes.shardings(mesh, transformer.rollout_axes, shapes)
        self._make = jax.jit(transformer.for_rollouts, out_shardings=made_at)

    def lower(self, params: Params) -> jax.stages.Lowered:
        """The program for such parameters (or their shapes in their places)."""
        return self._make.lower(params)

    def __call__(self, params: Params) -> Params:
        """The parameters of rollouts, on their way to their places."""
        return jax.device_put(self._make(params), self._places)


def _all_replicas(mesh: Mesh, tensor_parallel_size: int) -> Mesh:
    """All devices as process x data x tensor, as `replica_meshes` has each process's.

    Errors: ValueError if processes have different numbers of devices.
    """
    by_process: dict[int, list[jax.Device]] = {}
    for device in mesh.devices.flat:
        # Where each device has a whole copy, whose it is makes no difference.
        process = device.process_index if tensor_parallel_size > 1 else 0
        by_process.setdefault(process, []).append(device)
    numbers = {len(devices) for devices in by_process.values()}
    if len(numbers) > 1:
        raise ValueError(
            f"processes must have equally many devices, got {sorted(numbers)}"
        )
    devices = np.array([*by_process.values()])
    devices = devices.reshape(len(by_process), -1, tensor_parallel_size)
    return Mesh(devices, ("process", "data", AXIS), axis_types=(AxisType.Auto,) * 3)
