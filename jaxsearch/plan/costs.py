"""What a compiled program computes, reads and sends, counted in its own text.

XLA's own analysis counts the body of a loop once, however often it runs, and layers
are a loop.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping

from jaxsearch.plan.flops import flops_of
from jaxsearch.plan.groups import axes_of, group_of, received_bytes
from jaxsearch.plan.hlo import Program
from jaxsearch.plan.traffic import memory_bytes

_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one call of a program on one device.

    Attributes:
      flops: of products and of the kernels that are known.
      memory_bytes: read from and written to the device's memory.
      collectives: bytes that a device receives, by kind and mesh axes ("fsdp",
        "data+fsdp").
    """

    flops: float
    memory_bytes: float
    collectives: Mapping[str, Mapping[str, float]]

    def received(self, *axes: str) -> float:
        """Bytes of all kinds over groups that vary along any of these axes."""
        return sum(
            num_bytes
            for by_axes in self.collectives.values()
            for name, num_bytes in by_axes.items()
            if set(name.split("+")) & set(axes)
        )


def costs(
    program: Program, mesh_shape: Mapping[str, int], *, unknown_trips: int = 1
) -> Costs:
    """Of one call of a program, on one device.

    Args:
      mesh_shape: sizes of the mesh axes, in the order of the mesh.
      unknown_trips: rounds of a loop whose number is not in the program.
    """
    flops = accessed = 0.0
    collectives = collections.defaultdict(lambda: collections.defaultdict(float))
    seen = set()
    for visit in program.visits(unknown_trips):
        one = visit.instruction
        flops += visit.times * flops_of(visit.computation, one)
        if not visit.is_fused:
            accessed += visit.times * memory_bytes(program, visit)
        kind = one.opcode.removesuffix("-start")
        if visit.computation.name.startswith("all-reduce-scatter"):
            # How a TPU's compiler writes one: a sum, of which each keeps a part.
            kind = kind.replace("all-reduce", "reduce-scatter")
        if kind not in _COLLECTIVES:
            continue
        # A gather that goes on beside products, of a loop even, stands in each of
        # their fusions; the first is where it begins.
        if visit.is_fused:
            dims = tuple(array.dims for array in one.arrays)
            channel = (one.attribute("channel_id"), kind, dims)
            if channel in seen:
                continue
            seen.add(channel)
        group = group_of(one, math.prod(mesh_shape.values()))
        if len(group) == 1:
            continue
        axes = axes_of(group, mesh_shape)
        sent = sum(x.num_bytes for x in visit.computation.operands(one))
        received = received_bytes(kind, sent, len(group))
        collectives[kind][axes] += visit.times * received
    return Costs(
        flops=flops,
        memory_bytes=accessed,
        collectives={kind: dict(by_axes) for kind, by_axes in collectives.items()},
    )
