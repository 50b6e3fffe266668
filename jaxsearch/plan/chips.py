"""Published specifications of accelerators, and machines by name."""

import dataclasses
import math
import re
from collections.abc import Mapping

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """The memory and rates of a JAX device.

    Attributes:
      memory_bytes: for TPUs, the memory that libtpu 0.0.42 makes available to programs
        (the published sizes are 16, 32, 95 or 192 GiB per chip).
      flops: bfloat16 FLOP/s.
      memory_rate: bytes per second.
      link_rate: bytes per second received from other chips, over all links.
      host_devices: devices per process, if a machine has several hosts.
      kinds: prefixes of JAX's `device_kind`.
    """

    memory_bytes: int
    flops: float
    memory_rate: float
    link_rate: float
    host_devices: int
    kinds: tuple[str, ...]


# TPUs: Google's pages "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e" and "TPU7x" (Cloud TPU
# documentation, 2025). The published link rates are for both directions together (v4
# and v5p: 2,400 and 4,800 Gb/s in one direction); half of that is received. A TPU7x
# chip is two JAX devices. Hosts of multi-host slices have four chips. GPUs: NVIDIA's
# data sheets of H100 SXM and H200 (without sparsity; NVLink is 900 GB/s in both
# directions together).
CHIPS: Mapping[str, Chip] = {
    "v4": Chip(
        memory_bytes=int(30.75 * _GIB),
        flops=275e12,
        memory_rate=1.228e12,
        link_rate=300e9,
        host_devices=4,
        kinds=("TPU v4",),
    ),
    "v5e": Chip(
        memory_bytes=int(15.75 * _GIB),
        flops=197e12,
        memory_rate=0.819e12,
        link_rate=200e9,
        host_devices=4,
        kinds=("TPU v5 lite", "TPU v5e"),
    ),
    "v5p": Chip(
        memory_bytes=int(95.74 * _GIB),
        flops=459e12,
        memory_rate=2.765e12,
        link_rate=600e9,
        host_devices=4,
        kinds=("TPU v5p", "TPU v5"),
    ),
    "v6e": Chip(
        memory_bytes=int(31.25 * _GIB),
        flops=918e12,
        memory_rate=1.638e12,
        link_rate=400e9,
        host_devices=4,
        kinds=("TPU v6 lite", "TPU v6e"),
    ),
    "tpu7x": Chip(
        memory_bytes=int(94.75 * _GIB),
        flops=1153.5e12,
        memory_rate=3.69e12,
        link_rate=300e9,
        host_devices=8,
        kinds=("TPU7x", "TPU v7"),
    ),
    "h100": Chip(
        memory_bytes=80 * 10**9,
        flops=989e12,
        memory_rate=3.35e12,
        link_rate=450e9,
        host_devices=8,
        kinds=("NVIDIA H100",),
    ),
    "h200": Chip(
        memory_bytes=141 * 10**9,
        flops=989e12,
        memory_rate=4.8e12,
        link_rate=450e9,
        host_devices=8,
        kinds=("NVIDIA H200",),
    ),
}
_TORUS_AXES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2, "tpu7x": 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """A machine by name: `v5e:4x4` has sixteen chips, `h200:8` has eight."""

    generation: str
    num_devices: int
    name: str

    @property
    def chip(self) -> Chip:
        return CHIPS[self.generation]

    @property
    def is_tpu(self) -> bool:
        return self.generation in _TORUS_AXES

    @property
    def host_devices(self) -> int:
        """Devices per process."""
        return min(self.num_devices, self.chip.host_devices)

    @property
    def host(self) -> "Topology":
        """The TPU machine of a single host, with four chips."""
        size = "x".join(["2", "2", "1"][: _TORUS_AXES[self.generation]])
        return topology(f"{self.generation}:{size}")


def topology(name: str) -> Topology:
    """The machine with that name.

    Raises:
      ValueError: if the name is unknown; the error lists the known ones.
    """
    generation, _, size = name.partition(":")
    if generation in _TORUS_AXES:
        num_axes = _TORUS_AXES[generation]
        is_known = re.fullmatch(rf"[1-9]\d*(x[1-9]\d*){{{num_axes - 1}}}", size)
    else:
        is_known = generation in CHIPS and re.fullmatch(r"[1-9]\d*", size)
    if not is_known:
        raise ValueError(
            f"topology {name!r} is unknown; known: v5e:AxB and v6e:AxB (v5e:4x4), "
            "v4:AxBxC, v5p:AxBxC and tpu7x:AxBxC (v5p:4x4x4), h100:N and h200:N; "
            "without --topology, plan uses the devices of this machine"
        )
    num_chips = math.prod(int(n) for n in size.split("x"))
    per_chip = 2 if generation == "tpu7x" else 1
    return Topology(generation=generation, num_devices=num_chips * per_chip, name=name)


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a JAX `device_kind`; None if it is not in the table (a CPU)."""
    named = [
        (len(kind), chip)
        for chip in CHIPS.values()
        for kind in chip.kinds
        if device_kind.startswith(kind)
    ]
    return max(named, key=lambda pair: pair[0])[1] if named else None
