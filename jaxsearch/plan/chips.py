"""Published specifications of accelerators."""

import dataclasses
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
# data sheets (for RTX, the white papers of GA102, AD102 and GB202), without sparsity
# and with sums in float32. Their link rates are for both directions together too:
# NVLink is 600 GB/s for A100, 900 for H100 and H200, 1,800 for B200; the others have
# PCIe.
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
    "b200": Chip(
        memory_bytes=180 * 10**9,
        flops=2250e12,
        memory_rate=8e12,
        link_rate=900e9,
        host_devices=8,
        kinds=("NVIDIA B200",),
    ),
    "a100-80gb": Chip(
        memory_bytes=80 * 10**9,
        flops=312e12,
        memory_rate=2.039e12,
        link_rate=300e9,
        host_devices=8,
        kinds=("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB"),
    ),
    "a100-40gb": Chip(
        memory_bytes=40 * 10**9,
        flops=312e12,
        memory_rate=1.555e12,
        link_rate=300e9,
        host_devices=8,
        kinds=("NVIDIA A100",),
    ),
    "l40s": Chip(
        memory_bytes=48 * 10**9,
        flops=362e12,
        memory_rate=0.864e12,
        link_rate=32e9,
        host_devices=8,
        kinds=("NVIDIA L40S",),
    ),
    "l4": Chip(
        memory_bytes=24 * 10**9,
        flops=121e12,
        memory_rate=0.3e12,
        link_rate=32e9,
        host_devices=8,
        kinds=("NVIDIA L4",),
    ),
    "t4": Chip(
        memory_bytes=16 * 10**9,
        # No bfloat16 units: XLA computes in float32.
        flops=8.1e12,
        memory_rate=0.3e12,
        link_rate=16e9,
        host_devices=8,
        kinds=("Tesla T4", "NVIDIA T4"),
    ),
    "rtx3090": Chip(
        memory_bytes=24 * 10**9,
        flops=71e12,
        memory_rate=0.936e12,
        link_rate=32e9,
        host_devices=8,
        kinds=("NVIDIA GeForce RTX 3090",),
    ),
    "rtx4090": Chip(
        memory_bytes=24 * 10**9,
        flops=165.2e12,
        memory_rate=1.008e12,
        link_rate=32e9,
        host_devices=8,
        kinds=("NVIDIA GeForce RTX 4090",),
    ),
    "rtx5090": Chip(
        memory_bytes=32 * 10**9,
        flops=209.5e12,
        memory_rate=1.792e12,
        link_rate=64e9,
        host_devices=8,
        kinds=("NVIDIA GeForce RTX 5090",),
    ),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a JAX `device_kind`; None if it is not in the table (a CPU)."""
    named = [
        (len(kind), chip)
        for chip in CHIPS.values()
        for kind in chip.kinds
        # An L40 is not an L4.
        if re.match(rf"{re.escape(kind)}\b", device_kind)
    ]
    return max(named, key=lambda pair: pair[0])[1] if named else None
