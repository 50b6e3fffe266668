"""FLOPs, memory traffic and communication, counted from the text of compiled programs.

XLA's cost analysis counts the body of a loop once, but the layers are a loop.
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
    """The costs of one call of a program on one device.

    Attributes:
      flops: FLOPs of matrix products and of known kernels.
      memory_bytes: bytes read from and written to the device's memory.
      collectives: bytes received by the device, by kind and mesh axes ("fsdp",
        "data+fsdp").
    """

    flops: float
    memory_bytes: float
    collectives: Mapping[str, Mapping[str, float]]

    def received(self, *axes: str) -> float:
        """Bytes received by collectives along any of these axes."""
        return sum(
            num_bytes
            for by_axes in self.collectives.values()
            for name, num_bytes in by_axes.items()
            if set(name.split("+")) & set(axes)
        )


def costs(
    program: Program, mesh_shape: Mapping[str, int], *, unknown_trips: int = 1
) -> Costs:
    """The costs of one call of a program on one device.

    Args:
      mesh_shape: sizes of the mesh axes, in the order of the mesh.
      unknown_trips: trip count of loops whose trip count is not in the program.
    """
    flops = accessed = 0.0
    collectives = collections.defaultdict(lambda: collections.defaultdict(float))
    seen = set()
    for visit in program.visits(unknown_trips):
        instruction = visit.instruction
        flops += visit.times * flops_of(visit.computation, instruction)
        if not visit.is_fused:
            accessed += visit.times * memory_bytes(program, visit)
        kind = instruction.opcode.removesuffix("-start")
        if visit.computation.name.startswith("all-reduce-scatter"):
            # The TPU compiler expresses a reduce-scatter as an all-reduce with a sliced
            # result.
            kind = kind.replace("all-reduce", "reduce-scatter")
        if kind not in _COLLECTIVES:
            continue
        # A gather that overlaps with products appears in each of their fusions, even
        # across a loop; it is counted where it begins.
        if visit.is_fused:
            dims = tuple(array.dims for array in instruction.arrays)
            channel = (instruction.attribute("channel_id"), kind, dims)
            if channel in seen:
                continue
            seen.add(channel)
        group = group_of(instruction, math.prod(mesh_shape.values()))
        if len(group) == 1:
            continue
        axes = axes_of(group, mesh_shape)
        sent = sum(x.num_bytes for x in visit.computation.operands(instruction))
        received = received_bytes(kind, sent, len(group))
        collectives[kind][axes] += visit.times * received
    return Costs(
        flops=flops,
        memory_bytes=accessed,
        collectives={kind: dict(by_axes) for kind, by_axes in collectives.items()},
    )
