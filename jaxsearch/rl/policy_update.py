"""The updates of one RL step: rows, minibatches, shaping, and an update for each."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsearch.metrics import Max, Mean
from jaxsearch.rl.batching import Batching, TrainBatch
from jaxsearch.rl.credit import Advantage, lacks_signal, token_advantages
from jaxsearch.rl.rows import TrainRow, rollout_row, unmasked
from jaxsearch.rl.shaping import TokenShaping
from jaxsearch.rl.update import Metrics, TrainState, Updater, merge_metrics
from jaxsearch.trajectory import Trajectory


class Minibatch(NamedTuple):
    """The microbatches of one update, and the divisor of their summed loss."""

    batches: list[TrainBatch]
    divisor: float | None


# (state after an update, its minibatch, its metrics) -> None
AfterUpdate = Callable[[TrainState, Minibatch, Metrics], None]


def do_nothing(state: TrainState, minibatch: Minibatch, metrics: Metrics) -> None:
    """An `AfterUpdate` that does nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PolicyUpdate:
    """The updates of one step of an RL stage; every process runs the same ones.

    Attributes:
      batching: stacks rows and puts them on the devices.
      shaping: shapes the advantages, token by token.
      aggregation: function (tokens of each rollout [R], max_len) -> (weights [R],
        divisor).
      max_len: maximum length of a rollout in tokens, for `aggregation`.
      minibatches_per_step: number of minibatches the step's rollouts are split into.
      masks_observations: if False, retrieved tokens count in the loss too.
      skips_without_advantage: whether a step without any advantage leaves the
        parameters and the optimizer as they are.
      drops_zero_advantages: whether rollouts with advantage 0 are left out of an
        update, except the first one if there are no others. The divisor still counts
        them.
      after_update: called after each update.
    """

    updater: Updater
    batching: Batching
    shaping: TokenShaping
    aggregation: Callable[..., Any]
    max_len: int
    minibatches_per_step: int
    masks_observations: bool = True
    skips_without_advantage: bool = True
    drops_zero_advantages: bool = False
    after_update: AfterUpdate = do_nothing

    def __call__(
        self,
        state: TrainState,
        trajectories: Sequence[Trajectory],
        advantages: Sequence[Advantage],
    ) -> tuple[TrainState, Metrics]:
        """The state after all updates of a step, and their metrics.

        Trajectories are given group by group. Each update takes an equal number of
        them, in order, except that the last one may take fewer; rollouts without an
        advantage are excluded. Whitening is over
        the whole step, and the ratio, the importance weights and the KL in the reward
        refer to the policy at the start of the step.

        A step in which no rollout has an advantage, for example because all rewards are
        equal, has nothing to learn, and by default its updates are only measured, not
        applied. What remains of the gradient is KL and the entropy bonus, which are
        there to balance rewards, and Adam divides a gradient by its own size, however
        small: from random weights, at a learning rate of 1e-3, weight decay moved
        parameters off the reference by 1e-5; there KL had a gradient of 1e-7, of which
        Adam made a step of 4e-4, and after three steps KL was 0.0135. After a step with
        advantages, Adam's momentum continues without a gradient, to 4.5 times its step.
        ReSearch's and R1-Searcher's code applies these updates.

        The metric `without_advantage` is 1 for such a step, else 0.
        """
        is_without = lacks_signal(
            advantages, is_whitened=self.shaping.whiten_advantages
        )
        is_applied = not (is_without and self.skips_without_advantage)
        rows = [
            None if advantage is None else self._row(trajectory, advantage)
            for trajectory, advantage in zip(trajectories, advantages, strict=True)
        ]
        minibatches, metrics = self._shaped(state, self._minibatches(rows))
        found = []
        for minibatch in minibatches:
            state, of_update = self.updater.update(
                state, *minibatch, is_applied=is_applied
            )
            self.after_update(state, minibatch, of_update)
            found.append(of_update)
        metrics["without_advantage"] = float(is_without)
        return state, merge_updates(found) | metrics

    def _row(
        self, trajectory: Trajectory, advantage: float | Sequence[float]
    ) -> TrainRow:
        row = rollout_row(trajectory, token_advantages(trajectory, advantage))
        return row if self.masks_observations else unmasked(row, trajectory.prompt_len)

    def _minibatches(self, rows: Sequence[TrainRow | None]) -> list[Minibatch]:
        size = -(-len(rows) // self.minibatches_per_step)
        return [
            self._minibatch([r for r in rows[start : start + size] if r is not None])
            for start in range(0, len(rows), size)
        ]

    def _minibatch(self, rows: Sequence[TrainRow]) -> Minibatch:
        num_tokens = np.asarray([row.loss_mask.sum() for row in rows], np.int64)
        weights, divisor = self.aggregation(num_tokens, max_len=self.max_len)
        weighted = [
            row._replace(weight=weight)
            for row, weight in zip(rows, weights.tolist(), strict=True)
        ]
        if self.drops_zero_advantages:
            # The first of them if none is left, so that the update can be measured.
            weighted = [row for row in weighted if np.any(row.advantages)] or weighted[
                :1
            ]
        return Minibatch(self.batching(weighted), divisor)

    def _shaped(
        self, state: TrainState, minibatches: Sequence[Minibatch]
    ) -> tuple[list[Minibatch], Metrics]:
        batches = [batch for minibatch in minibatches for batch in minibatch.batches]
        batches, metrics = self.shaping(state, self.updater, batches)
        remaining = iter(batches)
        return [
            minibatch._replace(batches=[next(remaining) for _ in minibatch.batches])
            for minibatch in minibatches
        ], metrics


def merge_updates(found: Sequence[Metrics]) -> Metrics:
    """The merged metrics of a step's updates; drift is that before the first update."""
    if len(found) == 1:
        return found[0]
    means = [{k: v for k, v in m.items() if isinstance(v, Mean | Max)} for m in found]
    norms = [metrics["grad_norm"] for metrics in found]
    return {
        **functools.reduce(merge_metrics, means),
        **{k: v for k, v in found[0].items() if k.startswith("logprob_drift/")},
        "grad_norm": Mean(sum(norms), float(len(norms))),
        "skipped": found[-1]["skipped"],
    }
