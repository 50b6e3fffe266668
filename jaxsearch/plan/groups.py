"""The devices of a collective, and the bytes that each of them receives."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxsearch.plan.hlo import Instruction


def group_of(instruction: Instruction, num_devices: int) -> Sequence[int]:
    """The first group of devices that communicate, as indices into the mesh."""
    text = instruction.attributes
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
    """The devices in the ring that starts at the first pair."""
    targets = dict(pairs)
    ring = [pairs[0][0]]
    while (after := targets.get(ring[-1])) is not None and after not in ring:
        ring.append(after)
    return ring


def axes_of(group: Sequence[int], mesh_shape: Mapping[str, int]) -> str:
    """Mesh axes along which a group's devices differ, joined by "+"."""
    coordinates = np.unravel_index(list(group), tuple(mesh_shape.values()))
    return "+".join(
        axis
        for axis, values in zip(mesh_shape, coordinates, strict=True)
        if len(set(values.tolist())) > 1
    )


def received_bytes(kind: str, sent: int, size: int) -> float:
    """Bytes received by each of `size` devices if each contributes `sent` bytes."""
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
