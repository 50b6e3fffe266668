"""Another mesh, where a run does not fit the one it names."""

import dataclasses
from collections.abc import Iterator

from jaxsearch.models.architecture import Architecture
from jaxsearch.plan.arithmetic import RolloutWork, UpdateWork

_SHARE = 0.9  # of the memory that estimates may fill


def suggestion(
    update: UpdateWork,
    rollout: RolloutWork,
    *,
    memory_bytes: int,
    num_devices: int,
    process_devices: int,
) -> str:
    """Options under which both fit, by arithmetic; "" if none are found.

    The fewest devices a copy first: what devices share, they must exchange.
    """
    for tensor in _divisors(update.architecture, num_devices):
        # Rows of a microbatch follow the mesh: one for each of its parts.
        parts = num_devices // tensor
        own = dataclasses.replace(update, data=1, fsdp=parts, tensor=tensor, rows=parts)
        if own.update_bytes > _SHARE * memory_bytes:
            continue
        for shared in _divisors(rollout.architecture, process_devices):
            copy = dataclasses.replace(rollout, tensor=shared)
            held = own.state_bytes + copy.params_bytes + copy.cache_bytes
            if held <= _SHARE * memory_bytes:
                return (
                    f"--mesh.data 1 --mesh.fsdp {parts} --mesh.tensor {tensor} "
                    f"--rollout.tensor {shared}, with max_tokens "
                    f"{parts * own.row_len} in the stage"
                )
    return ""


def _divisors(a: Architecture, num_devices: int) -> Iterator[int]:
    """Numbers of devices that may share a copy."""
    for number in range(1, num_devices + 1):
        sizes = (num_devices, a.num_kv_heads, a.mlp_width, a.vocab_size)
        if not any(size % number for size in sizes):
            yield number
