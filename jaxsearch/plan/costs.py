"""What a compiled program computes, reads and sends, counted in its own text.

XLA's own analysis counts the body of a loop once, however often it runs, and layers
are a loop.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxsearch.plan.hlo import ArrayShape, Computation, Instruction, Program, Visit

_COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# Products of queries with keys or values that a kernel for whole rows computes; half of
# each, since a token sees only those before it.
_SPLASH_PRODUCTS = {
    "splash_mha_fwd": 2,
    "splash_mha_dq": 3,
    "splash_mha_dkv": 4,
}
# What takes no time of the memory: names, control, and ends of what has been counted.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while"),
    *("conditional", "call", "after-all", "partition-id", "replica-id", "iota"),
}


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
    """Args:
    mesh_shape: sizes of the mesh axes, in the order of the mesh.
    unknown_trips: rounds of a loop whose number is not in the program.
    """
    flops = memory_bytes = 0.0
    collectives = collections.defaultdict(lambda: collections.defaultdict(float))
    seen = set()
    for visit in program.visits(unknown_trips):
        one = visit.instruction
        flops += visit.times * _flops(visit.computation, one)
        if not visit.is_fused:
            memory_bytes += visit.times * _memory_bytes(program, visit)
        kind = one.opcode.removesuffix("-start")
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
        group = _group(one, math.prod(mesh_shape.values()))
        if len(group) == 1:
            continue
        axes = _axes(group, mesh_shape)
        sent = sum(x.num_bytes for x in visit.computation.operands(one))
        received = _received(kind, sent, len(group))
        collectives[kind][axes] += visit.times * received
    return Costs(
        flops=flops,
        memory_bytes=memory_bytes,
        collectives={kind: dict(by_axes) for kind, by_axes in collectives.items()},
    )


def _received(kind: str, sent: int, size: int) -> float:
    """Bytes that come to each of `size` devices that all give `sent`."""
    share = (size - 1) / size
    return (
        sent
        * {
            "all-gather": float(size - 1),
            "all-reduce": 2 * share,
            "reduce-scatter": share,
            "all-to-all": share,
            "collective-permute": 1.0,
        }[kind]
    )


def _flops(computation: Computation, one: Instruction) -> float:
    if one.opcode == "dot":
        contracted = _numbers(one.attributes, "lhs_contracting_dims")
        dims = computation.operand(one, 0).arrays[0].dims
        inner = math.prod(dims[i] for i in contracted)
        return 2.0 * one.arrays[0].num_elements * inner
    if one.opcode == "convolution":
        return _convolution_flops(
            one,
            computation.operand(one, 0).arrays[0],
            computation.operand(one, 1).arrays[0],
        )
    if one.opcode == "custom-call":
        return _kernel_flops(computation, one)
    return 0.0


def _convolution_flops(one: Instruction, left: ArrayShape, right: ArrayShape) -> float:
    """TPUs have no other product: a free axis of both sides is a window that is padded
    so far that it meets each input once. Only what is not padding counts."""
    labels = one.attribute("dim_labels")
    of_left, rest = labels.split("_", 1)
    of_right, of_out = rest.split("->")
    window = re.search(r"window=\{([^}]*)\}", one.attributes)
    fields = dict(f.split("=") for f in window.group(1).split()) if window else {}
    spatial = sorted(label for label in of_out if label.isdigit())

    def values(name: str, default: str) -> list[str]:
        return fields[name].split("x") if name in fields else [default] * len(spatial)

    pairs = 1
    for i, label in enumerate(spatial):
        size = left.dims[of_left.index(label)]
        taps = right.dims[of_right.index(label)]
        outs = one.arrays[0].dims[of_out.index(label)]
        low = int(values("pad", "0_0")[i].split("_")[0])
        stride, left_step, right_step = (
            int(values(name, "1")[i]) for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        at = np.arange(outs)[:, None] * stride + np.arange(taps) * right_step - low
        pairs *= int(
            np.sum((at >= 0) & (at % left_step == 0) & (at // left_step < size))
        )
    batch = left.dims[of_left.index("b")] // int(
        one.attribute("batch_group_count") or 1
    )
    inputs, outputs = (right.dims[of_right.index(label)] for label in "io")
    return 2.0 * pairs * batch * inputs * outputs


def _kernel_flops(computation: Computation, one: Instruction) -> float:
    for name, num_products in _SPLASH_PRODUCTS.items():
        if name in one.name:
            # Queries [B N T H] come first among what is no mask; one row has no B.
            given = [x.arrays[0] for x in computation.operands(one)]
            query = next(array for array in given if array.dtype in ("bf16", "f32"))
            return float(num_products * query.num_elements * query.dims[-2])
    if "paged_attention" in one.name:
        # Every cached token with every query head: pages are [K P W H].
        wide = [x.arrays[0] for x in computation.operands(one)]
        pages = next(array for array in wide if len(array.dims) == 4)
        query = next(array for array in wide if len(array.dims) == 3)
        return 4.0 * math.prod(pages.dims[1:]) * query.dims[1]
    return 0.0


def _memory_bytes(program: Program, visit: Visit) -> float:
    computation, one = visit.computation, visit.instruction
    if one.opcode in _FREE or one.opcode.endswith("-done"):
        return 0.0
    if one.opcode.endswith("-start"):
        # Copied or sent: what comes is as much as what goes.
        return float(
            sum(_in_memory(x.arrays) for x in computation.operands(one))
            if "slice" not in one.opcode
            else max((x.num_bytes for x in one.arrays[1:]), default=0)
        )
    arguments = computation.operands(one)
    if one.opcode == "fusion":
        inside = program.computations[one.attribute("calls")]
        read = sum(
            _fused_read(inside, number, argument)
            for number, argument in enumerate(arguments)
        )
        return read + _fused_write(inside, one)
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return 2.0 * _in_memory(one.arrays)
    if one.opcode == "dynamic-update-slice":
        return 2.0 * _in_memory(arguments[1].arrays)
    return float(_in_memory(one.arrays) + sum(_in_memory(x.arrays) for x in arguments))


def _fused_read(inside: Computation, number: int, argument: Instruction) -> float:
    """Bytes that a fusion reads of an argument: of one that is sliced, the slices."""
    whole = _in_memory(argument.arrays)
    if not whole:
        return 0.0
    parameter = next(
        (
            x.name
            for x in inside.instructions.values()
            if x.opcode == "parameter" and x.number == number
        ),
        None,
    )
    users = [x for x in inside.instructions.values() if parameter in x.operands]
    parts = 0
    for user in users:
        is_first = user.operands[0] == parameter
        if user.opcode in ("dynamic-slice", "slice", "gather") and is_first:
            parts += user.num_bytes
        elif user.opcode == "dynamic-update-slice" and is_first:
            parts += 0
        else:
            return float(whole)
    return float(min(parts, whole))


def _fused_write(inside: Computation, one: Instruction) -> float:
    root = inside.root
    while root.opcode == "bitcast":
        root = inside.operand(root, 0)
    if root.opcode == "dynamic-update-slice":
        return float(inside.operand(root, 1).num_bytes)
    if root.opcode == "tuple":
        total = 0.0
        for part, array in zip(inside.operands(root), one.arrays, strict=False):
            while part.opcode == "bitcast":
                part = inside.operand(part, 0)
            if part.opcode == "dynamic-update-slice":
                total += inside.operand(part, 1).num_bytes
            else:
                total += _in_memory((array,))
        return total
    return float(_in_memory(one.arrays))


def _in_memory(arrays: Sequence[ArrayShape]) -> int:
    return sum(array.num_bytes for array in arrays if not array.is_on_chip)


def _group(one: Instruction, num_devices: int) -> Sequence[int]:
    """The devices, by their place in the mesh, that one of them exchanges with."""
    text = one.attributes
    pairs = re.search(r"source_target_pairs=\{(\{[^=]*?\})\}", text)
    if pairs:
        found = [tuple(map(int, p)) for p in re.findall(r"\{(\d+),(\d+)\}", pairs[1])]
        return _ring(found)
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", text)
    if listed:
        return [int(x) for x in listed.group(1).split(",")]
    tiled = re.search(
        r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text
    )
    if tiled:
        sizes, dims = ([int(x) for x in g.split(",")] for g in tiled.groups()[:2])
        devices = np.arange(math.prod(dims)).reshape(dims)
        if tiled.group(3):
            devices = devices.transpose([int(x) for x in tiled.group(3).split(",")])
        return devices.reshape(sizes)[0].tolist()
    named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text)
    if named:
        axes = dict(re.findall(r"'(\w+)'=(\d+)", named.group(1)))
        chosen = set(re.findall(r"'(\w+)'", named.group(2)))
        devices = np.arange(num_devices).reshape([int(n) for n in axes.values()])
        cut = tuple(slice(None) if axis in chosen else 0 for axis in axes)
        return devices[cut].reshape(-1).tolist()
    return range(num_devices)


def _ring(pairs: Sequence[tuple[int, int]]) -> Sequence[int]:
    """The devices among which what the first one sends goes round."""
    targets = dict(pairs)
    ring = [pairs[0][0]]
    while (after := targets.get(ring[-1])) is not None and after not in ring:
        ring.append(after)
    return ring


def _axes(group: Sequence[int], mesh_shape: Mapping[str, int]) -> str:
    """Names of the mesh axes along which a group's devices differ, joined by +."""
    places = np.unravel_index(list(group), tuple(mesh_shape.values()))
    return "+".join(
        axis
        for axis, place in zip(mesh_shape, places, strict=True)
        if len(set(place.tolist())) > 1
    )


def _numbers(text: str, name: str) -> list[int]:
    found = re.search(rf"{name}=\{{([\d,]*)\}}", text)
    return [int(x) for x in found.group(1).split(",") if x] if found else []
