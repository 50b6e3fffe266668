"""Asking a policy one question."""

from jaxsearch.data.formats import Question
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.run.build import Run
from jaxsearch.trajectory import Trajectory

_UNKNOWN = "(unknown)"


def ask(run: Run, params: Params, question: str) -> tuple[Trajectory, Outcome]:
    """Rolls out a question greedily; returns the rollout and its outcome.

    The outcome's `prediction` is the policy's answer, or None. Its reward has no
    meaning, because no golden answer is known.

    Args:
      run: the policy's run, from `run.loading.load_run`.
      params: parameters in the layout of rollouts, also from `load_run`.
      question: the question as text.
    """
    asked = Question(id="asked", question=question, golden_answers=(_UNKNOWN,))
    [trajectory], _ = run.sampler.run(
        params,
        [(0, asked)],
        run.environments.heldout,
        group_size=1,
        stage=EVALUATION_STAGE,
        temperature=0.0,
    )
    outcome = run.task.judge(
        trajectory.segments,
        asked.golden_answers,
        has_ended=trajectory.has_ended,
        label="the question asked",
    )
    return trajectory, outcome
