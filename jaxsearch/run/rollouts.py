"""The rollouts of a training step: syncs weights, samples, frees memory."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import jax

from jaxsearch import processes
from jaxsearch.config import RLStage
from jaxsearch.data.question import Question
from jaxsearch.models.transformer import Params
from jaxsearch.monitor.step_record import StepRecord
from jaxsearch.rollouts.memory import tree_bytes
from jaxsearch.run.build import Run
from jaxsearch.trajectory import Trajectory

# Questions of this process -> their rollouts.
RollOut = Callable[[Sequence[tuple[int, Question]]], list[Trajectory]]


class StageRollouts:
    """Rolls out a stage's questions with the newest parameters.

    Args:
      number: index of the stage, part of the rollouts' random keys.
      frozen: the weights under adapters; {} if all parameters are trained.
      is_warm: whether to compile only what rollouts need, when they need it. Otherwise
        the first step begins by compiling all programs.
    """

    def __init__(
        self,
        run: Run,
        stage: RLStage,
        number: int,
        frozen: Params,
        *,
        is_warm: bool = False,
    ):
        self._run = run
        self._stage = stage
        self._number = number
        self._frozen = frozen
        self._is_warm = is_warm

    @contextlib.contextmanager
    def __call__(self, params: Params, record: StepRecord) -> Iterator[RollOut]:
        """Context in which a function rolls out questions, as often as needed.

        On exit the timings of all processes are recorded, summed over its calls.
        """
        run, stage = self._run, self._stage
        timings = []
        before = run.environments.counts()
        with self._synced(params, record) as rollout_params:
            if not self._is_warm:
                run.sampler.warm_up(rollout_params, stage.group_size, run.announce)
                self._is_warm = True

            def roll_out(questions: Sequence[tuple[int, Question]]) -> list[Trajectory]:
                trajectories, timing = run.sampler.run(
                    rollout_params,
                    questions,
                    run.environments.training,
                    group_size=stage.group_size,
                    stage=self._number,
                    temperature=stage.temperature,
                )
                timings.append(timing)
                return trajectories

            yield roll_out
        seconds = {
            "time/rollout": sum(timing.seconds for timing in timings),
            "time/search_wait": sum(timing.environment_wait for timing in timings),
        }
        counts = {
            "rollouts_restarted": float(sum(timing.num_restarts for timing in timings)),
            **since(run.environments.counts(), before),
        }
        record.add(_over_processes(seconds, counts))

    @contextlib.contextmanager
    def _synced(self, params: Params, record: StepRecord) -> Iterator[Params]:
        """Context with parameters in the layout of rollouts, deleted on exit.

        The slots' cache is also freed, because the update needs the memory of both.
        """
        run = self._run
        with record.time("time/publish"), run.sampler.explain_shortage():
            rollout_params = run.rollout_params(self._frozen | params)
        record.add({"publish_bytes": tree_bytes(rollout_params)})
        try:
            yield rollout_params
        finally:
            jax.tree.map(lambda array: array.delete(), rollout_params)
            run.sampler.free_cache()


def since(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """The counts since an earlier time; those with /open are as they are now."""
    return {
        key: value if key.endswith("/open") else value - before[key]
        for key, value in now.items()
    }


def _over_processes(
    seconds: dict[str, float], counts: dict[str, float]
) -> dict[str, float]:
    """Seconds of the slowest process, which the others wait for; sums of counts."""
    gathered = processes.all_gather_objects((seconds, counts))
    slowest = {key: max(s[key] for s, _ in gathered) for key in seconds}
    return slowest | {key: sum(c[key] for _, c in gathered) for key in counts}
