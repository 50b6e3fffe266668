"""Weight sync: parameters from the layout of training to that of rollouts."""

import functools

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxsearch import mesh as meshes
from jaxsearch.models.adapters import ADAPTERS
from jaxsearch.models.transformer import BLOCKS, Params, Transformer
from jaxsearch.rollouts.layout import AXIS, rollout_shardings


class WeightSync:
    """Converts parameters from training to rollouts, on the devices.

    Weights are cast and fused, and in float32 merged with their adapters, in the layout
    of training; then the result is transferred once, so that each device has its part
    of its replica's copy (`replica_params`). The result shares no memory with the
    parameters in training, which may be donated immediately. All processes of a run
    call it together.

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
        self._num_layers = transformer.architecture.num_layers
        # A program has a single order of devices. If the training mesh interleaves the
        # devices of processes (on a torus), the result is computed in that order and
        # then transferred.
        if list(everywhere.devices.flat) != list(mesh.devices.flat):
            shapes = transformer.rollout_shapes
            made_with = meshes.shardings(mesh, transformer.rollout_axes, shapes)
        of_layer = {n: made_with[n][0] for n in (BLOCKS, ADAPTERS) if n in made_with}
        rest = {n: s for n, s in made_with.items() if n not in of_layer}
        # One program serves all layers: a program for 30 layers took six seconds to
        # compile.
        self._make_layer = jax.jit(transformer.rollout_layer, out_shardings=of_layer)
        self._make_rest = jax.jit(transformer.rollout_rest, out_shardings=rest)

    def lower(self, params: Params) -> tuple[jax.stages.Lowered, jax.stages.Lowered]:
        """The programs for each layer and for the other parameters."""
        of_layer = self._make_layer.lower(params, np.int32(0))
        return of_layer, self._make_rest.lower(params)

    def __call__(self, params: Params) -> Params:
        """The parameters for rollouts; returns before the transfer is done."""
        numbers = range(self._num_layers)
        layers = [self._make_layer(params, np.int32(number)) for number in numbers]
        made = self._make_rest(params) | {
            name: [layer[name] for layer in layers] for name in layers[0]
        }
        return jax.device_put(made, self._shardings)


@functools.lru_cache(maxsize=8)
def weight_sync(transformer: Transformer, mesh: Mesh) -> WeightSync:
    """The weight sync of a network; opening it again does not compile it again."""
    return WeightSync(transformer, mesh)


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
