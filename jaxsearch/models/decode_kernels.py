"""The decode kernels, and how one runs on devices that share a copy of the policy."""

from collections.abc import Mapping

import jax
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, Float

from jaxsearch.models.cache import LayerCache, PageReads
from jaxsearch.models.kernels import DecodeKernel, Target, chosen_kernel
from jaxsearch.models.page_attention import PLAIN_PAGES
from jaxsearch.models.tpu_page_attention import TPU_PAGES

# Names on the command line and in config.json. None: the first one that supports the
# target.
DECODE_KERNELS: Mapping[str, DecodeKernel | None] = {
    "auto": None,
    "tpu_pages": TPU_PAGES,
    "plain": PLAIN_PAGES,
}


def decode_kernel(kernel: DecodeKernel | None, target: Target) -> DecodeKernel:
    """The given kernel, or for None the best one that supports the target.

    Raises:
      ValueError: if the kernel does not support the target.
    """
    return chosen_kernel(kernel, DECODE_KERNELS, target)


def attend_cache(
    kernel: DecodeKernel,
    mesh: AbstractMesh | None,
    query: Float[Array, "R N H"],
    segments: LayerCache,
    reads: PageReads,
    window: int | None,
) -> Float[Array, "R N H"]:
    """Runs a kernel's attention on one device, or split by heads over a mesh.

    XLA partitions its own operations but not custom kernels, which run per device.
    """
    if mesh is None or kernel.is_xla:
        return kernel.attend(query, segments, reads, window)
    [axis] = mesh.axis_names
    heads = PartitionSpec(None, axis)
    pages = PartitionSpec(*[None] * segments[0].heads_axis, axis)

    def attend(query: Array, segments: LayerCache, reads: PageReads) -> Array:
        return kernel.attend(query, segments, reads, window)

    # check_vma: kernels do not declare which axes their outputs vary over.
    return jax.shard_map(
        attend,
        mesh=mesh,
        in_specs=(heads, pages, PartitionSpec()),
        out_specs=heads,
        check_vma=False,
    )(query, segments, reads)
