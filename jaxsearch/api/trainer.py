"""Training a policy step by step."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxsearch import processes
from jaxsearch.api.judging import TaskTrajectory, with_task
from jaxsearch.api.policy import Policy, trained_copy
from jaxsearch.api.questions import Questions, as_questions
from jaxsearch.api.retrieval import Source
from jaxsearch.api.session import open_session
from jaxsearch.config import EnvironmentFunction, RLStage, RolloutConfig
from jaxsearch.env.environment import Environment
from jaxsearch.models.adapters import split
from jaxsearch.monitor.step_record import StepRecord
from jaxsearch.rewards.tasks import Task
from jaxsearch.rl.optimizer import OptimizerConfig
from jaxsearch.rl.update import begin_stage
from jaxsearch.run.draws import draw
from jaxsearch.run.learning import learn
from jaxsearch.run.outages import Outages
from jaxsearch.run.rollouts import StageRollouts
from jaxsearch.run.updates import make_policy_update


class Trainer:
    """Trains a copy of a policy by reinforcement learning; by default with GRPO.

    A step is that of `jaxsearch train`, without its folder: roll out, judge, estimate
    advantages, update.

    Args:
      policy: stays as it is. With LoRA (`ModelConfig(lora=...)`), only its adapters are
        copied and trained.
      retriever, task, budgets, environment, tools, num_passages, seed: as in `rollout`.
      learning_rate: of AdamW, without a schedule.
      stage: fields of `RLStage`, such as group_size, reward, temperature, advantage,
        objective, has_masked_observations or optimizer (instead of learning_rate; a
        schedule also needs `steps`, the number of steps that it covers).

    Attributes:
      trajectories: the rollouts of the last step.
      num_steps: number of steps so far.

    Raises:
      ValueError: if an argument is invalid, or there is nothing to search.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> trainer = jaxsearch.Trainer(
      ...     policy,
      ...     retriever=["Parruk\\nParruk was born in Zegbol and married Sevviz."],
      ...     group_size=4,
      ...     learning_rate=3e-4,
      ... )
      >>> metrics = trainer.step([("What is the birthplace of Parruk?", "Zegbol")])
      >>> 0 <= metrics["reward/mean"] <= 1, metrics["grad_norm"] >= 0
      (True, True)
      >>> trainer
      Trainer(Policy('jaxsearch:quickstart, trained', ...), 1 step)
    """

    trajectories: list[TaskTrajectory]
    num_steps: int

    def __init__(
        self,
        policy: Policy,
        *,
        retriever: Source | None = None,
        task: Task | str | None = None,
        learning_rate: float | None = None,
        budgets: RolloutConfig | None = None,
        environment: EnvironmentFunction | None = None,
        tools: Sequence[Environment] = (),
        num_passages: int | None = None,
        seed: int = 0,
        **stage: Any,
    ):
        run = open_session(
            policy,
            _stage(learning_rate, stage),
            retriever=retriever,
            task=task,
            budgets=budgets,
            environment=environment,
            tools=tools,
            num_passages=num_passages,
            seed=seed,
        )
        [found] = run.config.stages
        assert isinstance(found, RLStage)
        self._policy, self._run, self._stage = policy, run, found
        self._frozen, trained = split(run.transformer.lora, policy.params)
        updater = run.updater(found, found.objective, found.temperature, self._frozen)
        self._state = begin_stage(
            # Updates donate their parameters.
            jax.tree.map(jnp.copy, trained),
            updater.optimizer,
            needs_reference=found.needs_reference,
        )
        self._update = make_policy_update(run, found, updater)
        self._roll_out = StageRollouts(run, found, 0, self._frozen, is_warm=True)
        self._num_questions = 0
        self.num_steps = 0
        self.trajectories = []

    def step(self, questions: Questions) -> dict[str, float]:
        """Rolls out each question `group_size` times, and updates the policy.

        Args:
          questions: pairs (text, golden answer or answers) or `Question`s; the same
            ones in all processes.

        Returns:
          The metrics of the step by name, such as reward/mean, em, loss, grad_norm,
          kl and time/rollout. A step in which no answer is better than another changes
          nothing (without_advantage is 1).

        Raises:
          ValueError: if a question has no golden answer, a prompt exceeds its budget,
            or a reward fails.
          TryAgainError: if searches failed for more than half of the rollouts; nothing
            is learned from the others, most of which did not search.
        """
        run, stage, record = self._run, self._stage, StepRecord()
        asked = as_questions(questions, need_answers=True)
        # Other steps have other indices, and so other random numbers.
        numbered = list(enumerate(asked, start=self._num_questions))
        own = processes.process_shard(numbered)
        # The caller decides whether to try again.
        at_once = dataclasses.replace(run.config.retrieval, max_outage_s=0.0)
        outages = Outages(at_once, processes.say_once)
        with self._roll_out(self._state.params, record) as roll_out:
            judged = draw(
                stage,
                roll_out,
                lambda: own,
                outages,
                max_len=run.config.rollout.max_len,
            )
        guards = run.config.guards
        learned = learn(stage, guards, self._update, self._state, judged, record)
        self._state = learned.state
        self._num_questions += len(asked)
        self.num_steps += 1
        self.trajectories = with_task(learned.judged.trajectories, stage.judging_task)
        return record.values

    @property
    def policy(self) -> Policy:
        """The policy after the last step; a copy, which later steps do not change."""
        trained = jax.tree.map(jnp.copy, self._state.params)
        return trained_copy(self._policy, self._frozen | trained)

    def __repr__(self) -> str:
        steps = "1 step" if self.num_steps == 1 else f"{self.num_steps} steps"
        return f"Trainer({trained_copy(self._policy, {})!r}, {steps})"


def _stage(learning_rate: float | None, fields: dict[str, Any]) -> RLStage:
    """The stage of a trainer.

    Raises:
      ValueError: for an unknown or an invalid field, or two learning rates.
    """
    own = {"name", "task", "questions", "questions_per_step", "max_draws"}
    known = [field.name for field in dataclasses.fields(RLStage)]
    known = [name for name in known if name not in own]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, "learning_rate"])
            hint = f"did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                f"Trainer has no argument {name!r}; {hint or ', '.join(known)}"
            )
    if learning_rate is not None:
        if "optimizer" in fields:
            raise ValueError(
                "learning_rate and optimizer exclude each other: give "
                "optimizer=OptimizerConfig(learning_rate=...)"
            )
        fields = {**fields, "optimizer": OptimizerConfig(learning_rate=learning_rate)}
    # A step takes any number of questions; this one suits all numbers of minibatches.
    num_questions = fields.get("minibatches_per_step", 1)
    fields = {"steps": 1, "questions_per_step": num_questions, **fields}
    return RLStage(name="rl", **fields)
