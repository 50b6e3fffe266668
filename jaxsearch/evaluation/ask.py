"""One question put to a policy."""

from jaxsearch.data.formats import Question
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.run.build import Run
from jaxsearch.trajectory import Trajectory

_UNKNOWN = "(unknown)"


def ask(run: Run, params: Params, question: str) -> tuple[Trajectory, Outcome]:
    """The greedy rollout for a question, and what the task reads from it.

    The reward means nothing, because no golden answer is known; `prediction` is the
    policy's answer, or None.

    Args:
      run: a policy's run, from `run.loading.load_run`.
      params: parameters in the layout of rollouts, from there too.
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
