"""The gradient of an update on a policy's mesh, and the costs of its program."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsearch.api.policy import Policy
from jaxsearch.config import RLStage
from jaxsearch.mesh import put_batch, row_multiple
from jaxsearch.models.adapters import split
from jaxsearch.plan.measured import Measured, measure
from jaxsearch.rl.batching import microbatches
from jaxsearch.rl.head_chunks import max_chunks
from jaxsearch.rl.objectives import PolicyObjective
from jaxsearch.rl.rows import rollout_row
from jaxsearch.run.updater import make_updater
from jaxsearch.trajectory import Trajectory


class MeshGradient(NamedTuple):
    """The gradient of one microbatch.

    Attributes:
      grads: of the mean loss, by parameter and sharded like it.
      measured: memory, FLOPs and collectives of the compiled program, per device.
    """

    grads: Any
    measured: Measured


def gradient_on_mesh(
    policy: Policy, trajectories: Sequence[Trajectory], advantages: Sequence[float]
) -> MeshGradient:
    """The gradient of GRPO's loss without KL, as `Trainer` computes it on the mesh.

    Args:
      policy: see `jaxsearch.shard` to put it on a mesh.
      trajectories: rollouts of the policy; they share one microbatch.
      advantages: one for each trajectory.

    Raises:
      ValueError: if there are no trajectories, or another number of advantages.
    """
    if not trajectories:
        raise ValueError("a gradient needs at least one trajectory, got none")
    mesh, transformer = policy.mesh, policy.transformer
    objective = PolicyObjective(kl_weight=0.0)
    stage = RLStage(name="none", steps=1, objective=objective)
    frozen, params = split(transformer.lora, policy.params)
    updater = make_updater(transformer, mesh, stage, objective, 1.0, frozen)
    rows = [
        rollout_row(trajectory, advantage)
        for trajectory, advantage in zip(trajectories, advantages, strict=True)
    ]
    row_len = policy.config.rollout.max_len
    num_rows = math.ceil(len(rows) / row_multiple(mesh)) * row_multiple(mesh)
    [batch] = microbatches(
        rows,
        row_lens=(row_len,),
        max_tokens=num_rows * row_len,
        row_multiple=row_multiple(mesh),
    )
    gradient = updater.gradient
    sums = jax.tree.map(jnp.zeros_like, params)
    # All arguments but the first, which is static.
    arguments = (frozen, params, {}, sums, put_batch(mesh, batch))
    compiled = type(gradient).accumulate.lower(gradient, *arguments).compile()
    positions = num_rows // row_multiple(mesh) * (row_len - 1)
    vocab_size = policy.architecture.vocab_size // mesh.shape["tensor"]
    measured = measure(
        compiled,
        dict(mesh.shape),
        unknown_trips=max_chunks(positions, vocab_size),
    )
    sums, metrics = compiled(*arguments)
    grads = jax.tree.map(lambda total: total / metrics["loss"].weight, sums)
    return MeshGradient(grads=grads, measured=measured)


def relative_difference(first: Any, second: Any) -> float:
    """|first - second| / |first|, the norms over all arrays of two pytrees."""
    first, second = jax.device_get((first, second))
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    pairs = [(np.ravel(a), np.ravel(b)) for a, b in pairs]
    difference = np.concatenate([a - b for a, b in pairs])
    return float(
        np.linalg.norm(difference)
        / np.linalg.norm(np.concatenate([a for a, _ in pairs]))
    )
