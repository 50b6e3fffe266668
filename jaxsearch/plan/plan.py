"""`jaxsearch plan`: whether a run fits a machine, and how long a step takes there."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from jaxsearch import mesh as meshes
from jaxsearch.config import RLStage, RolloutConfig, RunConfig
from jaxsearch.models.adapters import split
from jaxsearch.models.transformer import Transformer
from jaxsearch.plan.architectures import planned_architecture
from jaxsearch.plan.arithmetic import RolloutWork, UpdateWork
from jaxsearch.plan.fit import Fit, step_seconds
from jaxsearch.plan.machine import Machine, open_machine
from jaxsearch.plan.measured import Measured, TooLargeError
from jaxsearch.plan.programs import GRADIENT, compile_programs, estimate_programs
from jaxsearch.plan.suggest import suggestion
from jaxsearch.rl.batching import num_batch_rows
from jaxsearch.rollouts.budgets import row_buckets
from jaxsearch.rollouts.layout import AXIS, RULES, replicas_of_process
from jaxsearch.rollouts.shapes import Shapes
from jaxsearch.run.environments import checked_stop_tags
from jaxsearch.run.network import param_shardings
from jaxsearch.run.sampler import rollout_budgets


def plan(
    config: RunConfig, topology: str | None = None, *, is_compiled: bool = True
) -> dict[str, Any]:
    """The memory and time that a run's last RL stage needs, as JSON values.

    Args:
      topology: name of a machine (`chips.topology`); None for the current machine.
      is_compiled: compile the programs if there is a compiler. Otherwise the plan is by
        arithmetic, for as many devices of this machine's kind as the run needs.

    Raises:
      ValueError: before anything is compiled, if the config's environment is wrong, the
        machine or the model is unknown, the product of the mesh axes is not the number
        of devices, or sizes are not divisible by the devices that share them.
    """
    stages = [stage for stage in config.stages if isinstance(stage, RLStage)]
    if not stages:
        raise ValueError("plan needs an RL stage, but this config has none")
    stage = stages[-1]
    checked_stop_tags(config, stage.task.protocol)  # raises for a wrong environment
    architecture, source = planned_architecture(config)
    machine = open_machine(topology, is_compiled=is_compiled)
    if topology is None and not is_compiled and machine.chip is None:
        machine = machine.of_multiple(_device_multiple(config))
    sizes = meshes.mesh_sizes(config.mesh, machine.num_devices)
    network = Transformer(
        architecture=architecture,
        dtype=jnp.dtype(config.model.dtype),
        lora=config.model.lora,
    )
    _check(network, sizes, config.rollout, machine)
    update = update_work(config, stage, network, sizes)
    rollout = rollout_work(config, network, machine.backend)
    programs: Mapping[str, Measured] = {}
    reasons = []
    try:
        if machine.devices is None:
            programs = estimate_programs(config, stage, update, rollout)
        else:
            programs = compile_programs(config, stage, architecture, machine)
    except TooLargeError as error:
        reasons.append(str(error))
    fit = Fit(machine=machine, update=update, rollout=rollout, programs=programs)
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
        "programs": {name: p.record(machine.chip) for name, p in programs.items()},
        **fit.record(),
        **_shares(programs, update),
        "least_step_seconds": step_seconds(
            config, stage, machine, update, rollout, programs
        ),
        "fits": not reasons if machine.chip or reasons else None,
        "reasons": reasons,
        "suggestion": _suggested(config, update, rollout, machine) if reasons else "",
    }


def _device_multiple(config: RunConfig) -> int:
    """The smallest number of devices; others must be multiples of it."""
    mesh = config.mesh
    sharded = (mesh.data or 1) * (mesh.fsdp or 1) * mesh.tensor
    return math.lcm(sharded, config.rollout.tensor)


def update_work(
    config: RunConfig, stage: RLStage, network: Transformer, sizes: Mapping[str, int]
) -> UpdateWork:
    """The work of updating with one microbatch of the longest rows."""
    row_len = row_buckets(config.rollout.max_len)[-1]
    return UpdateWork(
        architecture=network.architecture,
        rows=num_batch_rows(stage.max_tokens, row_len, sizes["data"] * sizes["fsdp"]),
        row_len=row_len,
        **sizes,
        itemsize=jnp.dtype(network.dtype).itemsize,
        num_trained=_num_trained(network),
        moment_bytes=2 if stage.optimizer.moments == "bfloat16" else 4,
        remat=config.model.remat,
        has_reference=stage.needs_reference,
    )


def rollout_work(config: RunConfig, network: Transformer, backend: str) -> RolloutWork:
    """The work of a replica whose slots are all full."""
    budgets = rollout_budgets(config.rollout)
    shapes = Shapes(budgets, backend, network.architecture)
    row_len, rows = max(shapes.append_rows.items())
    return RolloutWork(
        architecture=network.architecture,
        tensor=config.rollout.tensor,
        num_slots=budgets.num_slots,
        max_len=budgets.max_len,
        cached_tokens=shapes.num_pages * shapes.page_len,
        append_tokens=row_len * rows[-1],
        num_adapted=_num_trained(network) if network.has_rollout_adapters else 0,
        dtype=network.dtype,
    )


def _num_trained(network: Transformer) -> int:
    _, trained = split(network.lora, network.shapes)
    return sum(math.prod(x.shape) for x in jax.tree.leaves(trained))


def _check(
    network: Transformer,
    sizes: Mapping[str, int],
    rollout: RolloutConfig,
    machine: Machine,
) -> None:
    """Raises ValueError if a size is not divisible by the devices that share it."""
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    param_shardings(network, mesh)
    replicas_of_process(machine.host_devices, rollout.tensor, rollout.replicas)
    replica = AbstractMesh((rollout.tensor,), (AXIS,))
    meshes.shardings(replica, network.logical_axes, network.shapes, RULES)


def _shares(programs: Mapping[str, Measured], update: UpdateWork) -> dict[str, float]:
    """FLOPs and communication of the update, relative to the minimum."""
    if not programs:
        return {}
    num_devices = update.data * update.fsdp * update.tensor
    costs = programs[GRADIENT].costs
    shares = {"flops_of_own": costs.flops * num_devices / update.own_flops}
    if update.fsdp > 1:
        received = costs.received("fsdp")
        shares["fsdp_received_of_least"] = received / update.least_received
    return shares


def _suggested(
    config: RunConfig, update: UpdateWork, rollout: RolloutWork, machine: Machine
) -> str | None:
    """Options that would fit; "" if none would, None for devices of unknown memory."""
    if machine.chip is None:
        return None
    return suggestion(
        update,
        rollout,
        memory_bytes=machine.chip.memory_bytes,
        num_devices=machine.num_devices,
        process_devices=machine.host_devices,
        replicas=config.rollout.replicas or 1,
    )
