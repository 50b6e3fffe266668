"""`jaxsearch plan`: whether a run fits a machine, and what it costs there."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from jaxsearch import mesh as meshes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Transformer
from jaxsearch.plan.architectures import planned_architecture
from jaxsearch.plan.arithmetic import RolloutWork, UpdateWork
from jaxsearch.plan.fit import Fit, step_seconds
from jaxsearch.plan.machine import Machine, open_machine
from jaxsearch.plan.measured import Measured, TooLargeError
from jaxsearch.plan.programs import GRADIENT, compiled_parts, computed_parts
from jaxsearch.plan.suggest import suggestion
from jaxsearch.rl.batching import num_batch_rows
from jaxsearch.rollout.budgets import row_buckets
from jaxsearch.rollout.layout import AXIS, RULES
from jaxsearch.rollout.shapes import Shapes
from jaxsearch.run.network import param_shardings
from jaxsearch.run.sampler import rollout_budgets


def plan(
    config: RunConfig, topology: str | None = None, *, is_compiled: bool = True
) -> dict[str, Any]:
    """What the last RL stage of a run takes of a machine, as JSON values.

    Args:
      topology: as `chips.topology` reads it; None: the devices that are here.
      is_compiled: compile where a compiler is at hand; else there is only arithmetic,
        for which as many of the CPUs that are here are imagined as the run needs.

    Errors: ValueError, before anything is compiled, for a machine or a model that is
    not known, axes that do not multiply to the devices, and sizes that do not divide.
    """
    stages = [stage for stage in config.stages if isinstance(stage, RLStage)]
    if not stages:
        raise ValueError("plan is of rollouts and their update: no stage is an RLStage")
    stage = stages[-1]
    architecture, source = planned_architecture(config)
    machine = open_machine(topology, is_compiled=is_compiled)
    if topology is None and not is_compiled and machine.chip is None:
        machine = machine.of_multiple(_least_devices(config))
    sizes = meshes.mesh_sizes(config.mesh, machine.num_devices)
    network = Transformer(
        architecture=architecture,
        dtype=jnp.dtype(config.model.dtype),
        lora=config.model.lora,
    )
    _check(network, sizes, config.rollout.tensor, machine)
    update = update_work(config, stage, network, sizes)
    rollout = rollout_work(config, network, machine.backend)
    parts: Mapping[str, Measured] = {}
    reasons = []
    try:
        if machine.devices is None:
            parts = computed_parts(config, stage, update, rollout)
        else:
            parts = compiled_parts(config, stage, architecture, machine)
    except TooLargeError as error:
        reasons.append(str(error))
    fit = Fit(machine=machine, update=update, rollout=rollout, parts=parts)
    reasons += fit.reasons
    return {
        "model": config.model.path or "random weights",
        "parameters": architecture.num_parameters,
        "sizes_from": source,
        "machine": machine.name,
        "devices": machine.num_devices,
        "process_devices": machine.host_devices,
        "is_compiled": machine.devices is not None,
        "mesh": sizes,
        "rollout_tensor": rollout.tensor,
        "microbatch": [update.rows, update.row_len],
        "programs": {name: part.record(machine.chip) for name, part in parts.items()},
        **fit.record(),
        **_shares(parts, update),
        "least_step_seconds": step_seconds(
            config, stage, machine, update, rollout, parts
        ),
        "fits": None if machine.chip is None else not reasons,
        "reasons": reasons,
        "suggestion": _suggested(update, rollout, machine) if reasons else "",
    }


def _least_devices(config: RunConfig) -> int:
    """What the number of devices must be a multiple of."""
    mesh = config.mesh
    spread = (mesh.data or 1) * (mesh.fsdp or 1) * mesh.tensor
    return math.lcm(spread, config.rollout.tensor)


def update_work(
    config: RunConfig, stage: RLStage, network: Transformer, sizes: Mapping[str, int]
) -> UpdateWork:
    """The microbatch of the longest rows."""
    row_len = row_buckets(config.rollout.max_len)[-1]
    _, trained = split(network.lora, network.shapes)
    return UpdateWork(
        architecture=network.architecture,
        rows=num_batch_rows(stage.max_tokens, row_len, sizes["data"] * sizes["fsdp"]),
        row_len=row_len,
        **sizes,
        itemsize=jnp.dtype(network.dtype).itemsize,
        num_trained=sum(math.prod(x.shape) for x in jax.tree.leaves(trained)),
        moment_bytes=2 if stage.optimizer.moments == "bfloat16" else 4,
        remat=config.model.remat,
        has_reference=stage.needs_reference,
    )


def rollout_work(config: RunConfig, network: Transformer, backend: str) -> RolloutWork:
    """A replica with every slot full."""
    budgets = rollout_budgets(config.rollout)
    shapes = Shapes(budgets, backend)
    row_len, rows = max(shapes.append_rows.items())
    return RolloutWork(
        architecture=network.architecture,
        tensor=config.rollout.tensor,
        num_slots=budgets.num_slots,
        max_len=budgets.max_len,
        cached_tokens=shapes.num_pages * shapes.page_len,
        append_tokens=row_len * rows[-1],
        dtype=network.dtype,
    )


def _check(
    network: Transformer, sizes: Mapping[str, int], tensor: int, machine: Machine
) -> None:
    """Errors: ValueError names what does not divide by the devices that share it."""
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    param_shardings(network, mesh)
    if machine.host_devices % tensor:
        raise ValueError(
            f"rollout.tensor {tensor} does not divide the {machine.host_devices} "
            "devices of a process: a copy of the policy must fit one process"
        )
    replica = AbstractMesh((tensor,), (AXIS,))
    meshes.shardings(replica, network.logical_axes, network.shapes, RULES)


def _shares(parts: Mapping[str, Measured], update: UpdateWork) -> dict[str, float]:
    """What the update computes and receives, beside the least possible."""
    if not parts:
        return {}
    num_devices = update.data * update.fsdp * update.tensor
    costs = parts[GRADIENT].costs
    shares = {"flops_of_own": costs.flops * num_devices / update.own_flops}
    if update.fsdp > 1:
        received = costs.received("fsdp")
        shares["fsdp_received_of_least"] = received / update.least_received
    return shares


def _suggested(update: UpdateWork, rollout: RolloutWork, machine: Machine) -> str:
    return suggestion(
        update,
        rollout,
        memory_bytes=machine.chip.memory_bytes,
        num_devices=machine.num_devices,
        process_devices=machine.host_devices,
    )
