"""A policy in memory, and the mesh of devices that holds it."""

import dataclasses
import functools
import math
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh

from jaxsearch.config import RunConfig
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.mesh import MeshShape, make_mesh
from jaxsearch.models.adapters import merged
from jaxsearch.models.architecture import Architecture
from jaxsearch.models.transformer import Params, Transformer
from jaxsearch.run import policy as run_policy
from jaxsearch.run.export import export
from jaxsearch.run.network import make_transformer, param_shardings

_AXES = ("data", "fsdp", "tensor")
# Added to the name of a policy.
_TRAINED = ", trained"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Policy:
    """A network with its parameters and its tokenizer, on a mesh of devices.

    A policy never changes; training makes another one.

    Attributes:
      name: where it comes from.
      config: settings for what a call does not name: the task, the budgets of rollouts,
        the passages per search and the tools. A run's policy has those of the run.
      architecture: sizes and options of the network.
      tokenizer: text to ids and back.
      params: parameters in the layout of training, a nested dict of arrays.
      mesh: the devices of the parameters, with the axes data, fsdp and tensor.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> policy.architecture.num_layers, policy.params["embedding"].shape
      (3, (304, 128))
    """

    name: str
    config: RunConfig
    architecture: Architecture
    tokenizer: Tokenizer
    params: Params
    mesh: Mesh

    @functools.cached_property
    def transformer(self) -> Transformer:
        """The network without its parameters, as it is trained on the mesh."""
        return make_transformer(self.config.model, self.architecture, self.mesh)

    def save(self, folder: str | Path, *, dtype: str = "float32") -> None:
        """Writes a Hugging Face folder: weights, config.json and tokenizer.

        Adapters are merged into the weights.

        Args:
          folder: folder to write; it must be empty or not exist.
          dtype: dtype of the written weights.

        Raises:
          ValueError: if the folder is not empty.
        """
        written = run_policy.Policy(
            transformer=self.transformer,
            tokenizer=self.tokenizer,
            params=merged(self.transformer.lora, self.params),
        )
        max_positions = self.config.rollout.max_len
        export(written, Path(folder), max_positions=max_positions, dtype=dtype)

    def __repr__(self) -> str:
        sizes = self.architecture
        layers = "1 layer" if sizes.num_layers == 1 else f"{sizes.num_layers} layers"
        axes = ", ".join(f"{axis}={size}" for axis, size in self.mesh.shape.items())
        return (
            f"Policy({self.name!r}, {sizes.num_parameters:,} parameters in {layers}, "
            f"task {self.config.task.name!r}, {self.mesh.devices.flat[0].platform} "
            f"mesh {axes})"
        )


def shard(policy: Policy, mesh: Mesh | MeshShape) -> Policy:
    """The policy with its parameters sharded over other devices.

    Training shards the rows of a batch over the mesh axes data and fsdp, the parameters
    over fsdp and tensor, and rolls out on the same devices.

    Args:
      policy: stays as it is.
      mesh: a mesh with some of the axes data, fsdp and tensor; or a `MeshShape`, which
        takes JAX's first devices, or all of them if an axis is None.

    Raises:
      ValueError: if there are too few devices, the mesh has other axes, or the size of
        a parameter is not divisible by that of a mesh axis.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> jaxsearch.shard(policy, jaxsearch.MeshShape(data=1, fsdp=1, tensor=1))
      Policy('jaxsearch:quickstart', ... cpu mesh data=1, fsdp=1, tensor=1)
    """
    mesh = as_mesh(mesh)
    transformer = make_transformer(policy.config.model, policy.architecture, mesh)
    params = jax.device_put(policy.params, param_shardings(transformer, mesh))
    return dataclasses.replace(policy, params=params, mesh=mesh)


def trained_copy(policy: Policy, params: Params) -> Policy:
    """The policy with parameters that it was trained to."""
    name = policy.name.removesuffix(_TRAINED) + _TRAINED
    return dataclasses.replace(policy, name=name, params=params)


def as_mesh(mesh: Mesh | MeshShape | None) -> Mesh:
    """A mesh with the axes data, fsdp and tensor; None for JAX's first device.

    Raises:
      ValueError: if there are too few devices, the mesh has other axes, or it has no
        device of some process.
    """
    found = _named_mesh(mesh)
    own = {device.process_index for device in found.devices.flat}
    if missing := sorted(set(range(jax.process_count())) - own):
        raise ValueError(
            f"in {jax.process_count()} processes, a policy needs a mesh with devices "
            f"of each, but this one has none of process {missing[0]}; give "
            "mesh=jaxsearch.MeshShape() for all devices"
        )
    return found


def _named_mesh(mesh: Mesh | MeshShape | None) -> Mesh:
    """`as_mesh`, in any process.

    Raises:
      ValueError: if there are too few devices, or the mesh has other axes.
    """
    if mesh is None:
        return make_mesh(MeshShape(), jax.devices()[:1])
    if isinstance(mesh, MeshShape):
        sizes = (mesh.data, mesh.fsdp, mesh.tensor)
        num_devices = None if None in sizes else math.prod(size or 1 for size in sizes)
        # If there are too few of them, make_mesh says so.
        return make_mesh(mesh, jax.devices()[:num_devices])
    if unknown := [axis for axis in mesh.axis_names if axis not in _AXES]:
        raise ValueError(
            f"a mesh may have the axes {', '.join(_AXES)}, got {unknown}; name them "
            'so, as in jax.make_mesh((2, 4), ("data", "fsdp"))'
        )
    order = [mesh.axis_names.index(axis) for axis in _AXES if axis in mesh.axis_names]
    devices = mesh.devices.transpose(order)
    devices = devices.reshape([mesh.shape.get(axis, 1) for axis in _AXES])
    # Mesh axes that are not Auto would put shardings into the types of arrays.
    return Mesh(devices, _AXES, axis_types=(AxisType.Auto,) * len(_AXES))
