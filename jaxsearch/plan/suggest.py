"""Suggests a mesh that a run would fit if it does not fit the configured one."""

import dataclasses
from collections.abc import Iterator

from jaxsearch.models.architecture import Architecture
from jaxsearch.plan.arithmetic import RolloutWork, UpdateWork

_SHARE = 0.9  # of the memory, available to an estimate


def suggestion(
    update: UpdateWork,
    rollout: RolloutWork,
    *,
    memory_bytes: int,
    num_devices: int,
    process_devices: int,
    replicas: int = 1,
) -> str:
    """Options with which update and rollouts fit by arithmetic; "" if there are none.

    The first one found has the fewest devices per copy, and so communicates least.

    Args:
      replicas: copies of the policy that the rollouts of a process need.
    """
    for tensor in _divisors(update.architecture, num_devices):
        # A microbatch with one row per shard.
        shards = num_devices // tensor
        if update.architecture.width % shards:
            continue
        own = dataclasses.replace(
            update, data=1, fsdp=shards, tensor=tensor, rows=shards
        )
        if own.update_bytes > _SHARE * memory_bytes:
            continue
        for shared in _divisors(rollout.architecture, process_devices):
            if replicas * shared > process_devices:
                break
            copy = dataclasses.replace(rollout, tensor=shared)
            held = own.state_bytes + copy.params_bytes + copy.cache_bytes
            if held <= _SHARE * memory_bytes:
                return (
                    f"--mesh.data 1 --mesh.fsdp {shards} --mesh.tensor {tensor} "
                    f"--rollout.tensor {shared}, with max_tokens "
                    f"{shards * own.row_len} in the stage"
                )
    return ""


def _divisors(a: Architecture, num_devices: int) -> Iterator[int]:
    """Numbers of devices that can share a copy of the policy."""
    for number in range(1, num_devices + 1):
        sizes = (num_devices, a.num_kv_heads, a.mlp_width, a.vocab_size)
        if not any(size % number for size in sizes):
            yield number
