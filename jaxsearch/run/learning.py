"""Learning from judged rollouts: advantages, the update and its metrics."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxsearch.config import RLStage
from jaxsearch.metrics import token_rates
from jaxsearch.monitor.guards import Excluded, GuardConfig, mark_excluded
from jaxsearch.monitor.step_record import StepRecord
from jaxsearch.rewards.judge import Judged, judged_metrics
from jaxsearch.rl.credit import Advantage, estimate_advantages
from jaxsearch.rl.policy_update import PolicyUpdate
from jaxsearch.rl.update import TrainState
from jaxsearch.run.draws import chosen, draw_metrics


class Learned(NamedTuple):
    """The result of `learn`.

    Attributes:
      state: the state after the update.
      judged: the rollouts, of which the guards may have excluded some.
      advantages: one for each rollout; None if the update excluded it.
      excluded: what the guards excluded.
    """

    state: TrainState
    judged: Judged
    advantages: Sequence[Advantage]
    excluded: Excluded


def learn(
    stage: RLStage,
    guards: GuardConfig,
    update: PolicyUpdate,
    state: TrainState,
    judged: Judged,
    record: StepRecord,
) -> Learned:
    """Updates the policy by the rollouts of a step, and records the metrics.

    Args:
      stage: the stage.
      guards: which rollouts to exclude from the update.
      update: the updates of a step.
      state: donated.
      judged: the rollouts of all processes.
      record: has the time of the rollouts and receives the metrics.
    """
    trajectories, excluded = mark_excluded(judged.trajectories, guards)
    judged = judged._replace(trajectories=trajectories)
    advantages = estimate_advantages(
        trajectories,
        judged.outcomes,
        estimator=stage.advantage,
        group_size=stage.group_size,
    )
    trained = chosen(stage, judged)
    with record.time("time/update"):
        state, metrics = update(
            state,
            [trajectories[i] for i in trained],
            [advantages[i] for i in trained],
        )
        record.add(metrics)
    record.add(draw_metrics(stage, judged, trained))
    record.add(judged_metrics(judged, stage.task))
    record.add(token_rates(trajectories, record.values))
    is_trained = set(trained)
    kept = [one if i in is_trained else None for i, one in enumerate(advantages)]
    return Learned(state, judged, kept, excluded)
