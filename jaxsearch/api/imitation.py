"""Supervised training on demonstrations, in memory."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxsearch.api.policy import Policy, trained_copy
from jaxsearch.api.retrieval import Source
from jaxsearch.api.session import open_session
from jaxsearch.config import EnvironmentFunction, RolloutConfig, SupervisedStage
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.env.environment import Environment
from jaxsearch.metrics import summarise
from jaxsearch.models.adapters import split
from jaxsearch.rewards.tasks import Task
from jaxsearch.rl.objectives import ImitationObjective
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.rl.update import begin_stage
from jaxsearch.run.imitation import Imitation
from jaxsearch.search.index import Hit, SearchStoppedError


def imitate(
    policy: Policy,
    demonstrations: Sequence[Demonstration],
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    on_step: Callable[[Mapping[str, float]], None] | None = None,
    retriever: Source | None = None,
    task: Task | str | None = None,
    budgets: RolloutConfig | None = None,
    environment: EnvironmentFunction | None = None,
    tools: Sequence[Environment] = (),
    num_passages: int | None = None,
    seed: int = 0,
) -> Policy:
    """Trains a copy of a policy on demonstrations, for a warm start before RL.

    Only what the policy would have written gets a loss; results of searches and tools
    do not. A policy that has learned the tags in this way can be reinforced.

    Args:
      policy: stays as it is. With LoRA, only its adapters are copied and trained.
      demonstrations: rollouts to imitate; each step draws some of them at random.
      steps: number of updates.
      batch_size: demonstrations per update.
      learning_rate: of AdamW, at the end of a short warm-up.
      on_step: called with the metrics of each update, such as loss and grad_norm.
      retriever: answers searches for which a demonstration has no passages.
      task, budgets, environment, tools, num_passages, seed: as in `rollout`. Tools
        answer the calls for which a demonstration has no observation.

    Raises:
      ValueError: if there are no demonstrations, one is longer than
        `budgets.max_len`, or a setting is invalid.
      TryAgainError: if a tool that a demonstration calls fails.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> passage = jaxsearch.Passage(id="p", contents="Parruk was born in Zegbol")
      >>> shown = jaxsearch.Demonstration(
      ...     question=jaxsearch.Question(
      ...         id="q", question="Where was Parruk born?", golden_answers=("Zegbol",)
      ...     ),
      ...     turns=(
      ...         " <think> birthplace </think> <search> Parruk </search>",
      ...         r" <think> Zegbol </think> <answer> \\boxed{ Zegbol } </answer>",
      ...     ),
      ...     observations=((passage,),),
      ... )
      >>> jaxsearch.imitate(policy, [shown], steps=1, batch_size=2)
      Policy('jaxsearch:quickstart, trained', ...)
    """
    demonstrations = list(demonstrations)
    if not demonstrations:
        raise ValueError("expected at least one demonstration, got none")
    stage = SupervisedStage(
        name="imitation",
        demonstrations=lambda seed: demonstrations,
        steps=steps,
        batch_size=batch_size,
        optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=10),
    )
    run = open_session(
        policy,
        stage,
        retriever=_NoRetriever() if retriever is None else retriever,
        task=task,
        budgets=budgets,
        environment=environment,
        tools=tools,
        num_passages=num_passages,
        seed=seed,
    )
    frozen, trained = split(run.transformer.lora, policy.params)
    updater = run.updater(stage, ImitationObjective(), 1.0, frozen)
    # Updates donate their parameters.
    trained = jax.tree.map(jnp.copy, trained)
    state = begin_stage(trained, updater.optimizer, needs_reference=False)
    imitation = Imitation(run, stage, 0, updater, demonstrations)
    for step in range(steps):
        state, metrics, _ = imitation(state, step)
        if on_step is not None:
            on_step(summarise(metrics))
    return trained_copy(policy, frozen | state.params)


class _NoRetriever:
    """Stands for the retriever that demonstrations with passages do not need."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        raise SearchStoppedError(
            f"a demonstration searches for {queries[0]!r:.80}, but has no passages for "
            "it: give them as its observation, or give retriever="
        )
