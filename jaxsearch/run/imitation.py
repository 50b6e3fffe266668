"""Supervised updates on random demonstrations."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsearch.config import SupervisedStage
from jaxsearch.data.demonstrations import Demonstration
from jaxsearch.rl.batching import Batching
from jaxsearch.rl.policy_update import AfterUpdate, Minibatch, do_nothing
from jaxsearch.rl.rows import TrainRow
from jaxsearch.rl.update import TrainState, Updater
from jaxsearch.run.build import Run
from jaxsearch.run.updates import demonstration_row, make_batching


class Imitated(NamedTuple):
    """The result of an update.

    Attributes:
      state: the state after the update.
      metrics: those of the update.
      num_tokens: tokens of its demonstrations.
    """

    state: TrainState
    metrics: Mapping[str, Any]
    num_tokens: int


class Imitation:
    """The updates of a supervised stage, each on a batch of random demonstrations.

    Args:
      run: the run.
      stage: its stage.
      number: index of the stage, part of the random keys.
      updater: updates the parameters of the stage.
      demonstrations: what is imitated.
      after_update: called after each update.
    """

    def __init__(
        self,
        run: Run,
        stage: SupervisedStage,
        number: int,
        updater: Updater,
        demonstrations: Sequence[Demonstration],
        after_update: AfterUpdate = do_nothing,
    ):
        self._run = run
        self._stage = stage
        self._number = number
        self._updater = updater
        self._batching: Batching = make_batching(run, stage)
        self._demonstrations = demonstrations
        self._after_update = after_update
        self._rows: dict[int, TrainRow] = {}

    def __call__(self, state: TrainState, stage_step: int) -> Imitated:
        """One update; `state` is donated."""
        # Seeded by the step, so that a resumed run draws the same ones.
        rng = np.random.default_rng([self._run.config.seed, self._number, stage_step])
        size = self._stage.batch_size
        chosen = rng.integers(len(self._demonstrations), size=size)
        rows = [self._row(i) for i in chosen.tolist()]
        minibatch = Minibatch(self._batching(rows), None)
        state, metrics = self._updater.update(state, *minibatch)
        self._after_update(state, minibatch, metrics)
        return Imitated(state, metrics, sum(len(row.tokens) for row in rows))

    def _row(self, number: int) -> TrainRow:
        """The row of a demonstration, made once: making it may call tools."""
        if number not in self._rows:
            demonstration = self._demonstrations[number]
            self._rows[number] = demonstration_row(self._run, demonstration)
        return self._rows[number]
