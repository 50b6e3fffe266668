"""The kernels for whole rows, and how one runs on a mesh of devices."""

import dataclasses
from collections.abc import Mapping

import jax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxsearch.models.cudnn_attention import CUDNN
from jaxsearch.models.kernels import RowKernel, Target, chosen_kernel
from jaxsearch.models.row_attention import PLAIN, RowAttention
from jaxsearch.models.splash_attention import SPLASH

# Names on the command line and in config.json. None: the first one that supports the
# target.
ROW_KERNELS: Mapping[str, RowKernel | None] = {
    "auto": None,
    "splash": SPLASH,
    "cudnn": CUDNN,
    "plain": PLAIN,
}


def row_attention(
    kernel: RowKernel | None, target: Target, sharding: NamedSharding
) -> RowAttention:
    """The attention function of a kernel on a mesh of devices.

    Args:
      kernel: None for the platform's kernel if it supports the target, else plain XLA.
      sharding: of queries, keys and values.

    Raises:
      ValueError: if the kernel does not support the target.
    """
    kernel = chosen_kernel(kernel, ROW_KERNELS, target)
    is_per_device = sharding.mesh.size > 1 and not kernel.is_xla
    return PerDevice(kernel.attend, sharding) if is_per_device else kernel.attend


@dataclasses.dataclass(frozen=True)
class PerDevice:
    """A kernel that each device runs on its own rows and heads.

    XLA partitions its own operations but not custom kernels.

    Attributes:
      sharding: sharding of queries, keys and values; their second and last axes are not
        sharded.
    """

    kernel: RowAttention
    sharding: NamedSharding

    def __call__(
        self,
        query: Float[Array, "B T N H"],
        key: Float[Array, "B T K H"],
        value: Float[Array, "B T K H"],
        window: int | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> Float[Array, "B T N H"]:
        spec = self.sharding.spec

        def kernel(query: Array, key: Array, value: Array, segments: Array | None):
            return self.kernel(query, key, value, window, segments)

        # check_vma: kernels do not declare which axes their outputs vary over.
        return jax.shard_map(
            kernel,
            mesh=self.sharding.mesh,
            in_specs=(spec, spec, spec, PartitionSpec(spec[0])),
            out_specs=spec,
            check_vma=False,
        )(query, key, value, segments)
