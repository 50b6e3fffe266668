"""Log-probs of finished rollouts, as the trainer computes them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jax.experimental import multihost_utils

from jaxsearch.api.policy import Policy
from jaxsearch.api.session import make_run
from jaxsearch.config import RLStage
from jaxsearch.models.adapters import split
from jaxsearch.rl.rows import rollout_row
from jaxsearch.rollouts.budgets import row_buckets
from jaxsearch.run.updates import make_batching
from jaxsearch.trajectory import Trajectory


def logprobs(
    policy: Policy,
    trajectories: Trajectory | Sequence[Trajectory],
    *,
    temperature: float = 1.0,
) -> list[np.ndarray]:
    """Log-probs of sampled tokens from one forward pass over each finished row.

    This is the computation of the trainer. Those of the sampler come from single steps
    with a cache; the two differ by rounding alone.

    Args:
      policy: the policy that rolled out, or another one.
      trajectories: of a policy with the same tokenizer.
      temperature: of the distribution; that of the sampling, to compare.

    Returns:
      For each trajectory an array [T], in nats; 0 where the policy sampled no token.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> [trajectory] = jaxsearch.rollout(
      ...     policy,
      ...     "What is the birthplace of Parruk?",
      ...     retriever=["Parruk\\nParruk was born in Zegbol and married Sevviz."],
      ... )
      >>> [trained] = jaxsearch.logprobs(policy, trajectory)
      >>> differences = (trained - trajectory.logprobs)[trajectory.is_policy]
      >>> bool(abs(differences).max() < 1e-4)
      True
    """
    if isinstance(trajectories, Trajectory):
        trajectories = [trajectories]
    if not trajectories:
        return []
    stage = RLStage(name="none", steps=1)
    run = make_run(policy.config, policy.tokenizer, policy.architecture, policy.mesh)
    frozen, trained = split(run.transformer.lora, policy.params)
    updater = run.updater(stage, stage.objective, temperature, frozen)
    longest = max(len(one.tokens) for one in trajectories)
    batching = dataclasses.replace(
        make_batching(run, stage),
        # Rollouts may have had other budgets than those of the policy.
        row_lens=row_buckets(max(longest, run.config.rollout.max_len)),
        is_packed=False,
    )
    # Batches hold rows by length, and rows of one length in their order.
    order = sorted(range(len(trajectories)), key=lambda i: len(trajectories[i].tokens))
    found = []
    for batch in batching([rollout_row(trajectories[i]) for i in order]):
        rows, segments = multihost_utils.process_allgather(
            (updater.logprobs_of(trained, batch), batch.segments), tiled=True
        )
        found += list(rows[segments[:, 0] > 0])
    by_index = dict(zip(order, found, strict=True))
    return [by_index[i][: len(one.tokens)] for i, one in enumerate(trajectories)]
