"""The costs of a step's programs, from a compiler or by arithmetic."""

import sys

from jaxsearch import mesh as meshes
from jaxsearch.config import RLStage, RunConfig
from jaxsearch.models.architecture import Architecture
from jaxsearch.plan.arithmetic import RolloutWork, UpdateWork
from jaxsearch.plan.costs import Costs
from jaxsearch.plan.machine import Machine
from jaxsearch.plan.measured import Measured, measured
from jaxsearch.plan.rollouts import Rollouts
from jaxsearch.plan.training import Training
from jaxsearch.rl.head_chunks import max_chunks
from jaxsearch.rollouts.layout import replica_meshes
from jaxsearch.run.network import make_transformer
from jaxsearch.run.sampler import rollout_budgets

# Names in a plan. An update runs `gradient` for each microbatch, then `step`.
GRADIENT, STEP, PREFILL, APPEND, DECODE = (
    *("gradient", "step"),
    *("prefill", "append", "decode"),
)
Measurements = dict[str, Measured]


def compile_programs(
    config: RunConfig, stage: RLStage, architecture: Architecture, machine: Machine
) -> Measurements:
    """Compiles the programs for the machine, with their largest shapes.

    Raises:
      ValueError: if the attention kernel does not support the machine.
      TooLargeError: if a program does not fit its memory.
    """
    mesh = meshes.make_mesh(config.mesh, list(machine.devices))
    transformer = make_transformer(config.model, architecture, mesh)
    training = Training(config=config, stage=stage, transformer=transformer, mesh=mesh)
    sizes = dict(mesh.shape)
    rows, row_len = training.batch.tokens.shape
    num_positions = rows // meshes.row_multiple(mesh) * (row_len - 1)
    # Assumes that every token counts in the loss.
    num_chunks = max_chunks(num_positions, architecture.vocab_size // sizes["tensor"])
    rollout = config.rollout
    replica = replica_meshes(machine.local, rollout.tensor, rollout.replicas)[0]
    rollouts = Rollouts(
        config=config,
        stage=stage,
        trained=transformer,
        mesh=replica,
        backend=machine.backend,
    )
    shared = dict(replica.shape)
    print(f"{architecture.num_parameters:,} parameters, {sizes}", file=sys.stderr)
    # The programs that compile quickly come first, to fail early.
    return {
        STEP: measured(STEP, training.apply, sizes),
        PREFILL: measured(PREFILL, rollouts.prefill, shared),
        APPEND: measured(APPEND, rollouts.append, shared),
        DECODE: measured(DECODE, rollouts.decode, shared),
        GRADIENT: measured(
            GRADIENT, training.accumulate, sizes, unknown_trips=num_chunks
        ),
    }


def estimate_programs(
    config: RunConfig, stage: RLStage, update: UpdateWork, rollout: RolloutWork
) -> Measurements:
    """Lower bounds of the same costs by arithmetic, without a compiler."""
    num_devices = update.data * update.fsdp * update.tensor
    state, params = update.state_bytes, rollout.params_bytes
    sums = update.sums_bytes
    num_prompts = rollout_budgets(config.rollout).num_prompts(stage.group_size)
    prompt_tokens = num_prompts * config.rollout.max_prompt_len

    def estimate(
        held: float, extra: float, flops: float, accessed: float, received: float = 0.0
    ) -> Measured:
        gathered = {"all-gather": {"fsdp": received}} if received else {}
        return Measured(
            held_bytes=held,
            extra_bytes=extra,
            costs=Costs(flops=flops, memory_bytes=accessed, collectives=gathered),
        )

    held = params + rollout.cache_bytes
    return {
        GRADIENT: estimate(
            update.trained_bytes + sums,
            update.update_bytes - state - sums,
            update.own_flops / num_devices,
            # Weights in every pass, in the dtype of the products, and the gradient
            # sums.
            4 * params * rollout.tensor / update.tensor + 2 * sums,
            update.least_received,
        ),
        STEP: estimate(state + sums, 0.0, 0.0, 2 * state + sums),
        PREFILL: estimate(params, 0.0, rollout.append_flops(prompt_tokens), params),
        APPEND: estimate(
            held, 0.0, rollout.append_flops(rollout.append_tokens), params
        ),
        DECODE: estimate(
            held,
            rollout.logits_bytes,
            rollout.decode_flops,
            params + rollout.cache_bytes,
        ),
    }
