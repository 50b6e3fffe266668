"""Asking a policy one question."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxsearch.data.question import Question
from jaxsearch.env.environment import Done, RolloutId
from jaxsearch.env.token_environment import ObservedTokens, TokenEnvironment
from jaxsearch.evaluation.evaluate import EVALUATION_STAGE
from jaxsearch.evaluation.model_failures import ModelFailedError
from jaxsearch.models.transformer import Params
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.run.build import Run
from jaxsearch.run.folder import read_run_config
from jaxsearch.run.inputs import load_inputs
from jaxsearch.run.loading import is_run
from jaxsearch.served.run import ServedRun
from jaxsearch.trajectory import Segment, Status, Trajectory

_UNKNOWN = "(unknown)"


def ask(
    run: Run | ServedRun,
    params: Params,
    question: str,
    *,
    on_segment: Callable[[Segment], None] | None = None,
) -> tuple[Trajectory, Outcome]:
    """Rolls out a question greedily; returns the rollout and its outcome.

    The outcome's `prediction` is the policy's answer, or None. Its reward has no
    meaning, because no golden answer is known. Only the programs that this question
    needs are compiled, for a single rollout.

    Args:
      run: the policy's run, from `run.loading.load_run` or `served.run.load_served`.
      params: parameters in the layout of rollouts, also from `load_run`; {} for a
        served model.
      question: the question as text.
      on_segment: called from another thread with each turn that calls a tool, before
        the tool answers, and with each observation; the last turn is only in the
        trajectory.

    Raises:
      ModelFailedError: if the model server does not answer.

    Example:
      >>> run, params = jaxsearch.load_run("runs/quickstart")
      >>> question = run.inputs.heldout[0].question
      >>> trajectory, outcome = jaxsearch.ask(run, params, question)
      >>> trajectory.question == question
      True
    """
    asked = Question(id="asked", question=question, golden_answers=(_UNKNOWN,))
    environment = run.environments.heldout
    if on_segment is not None:
        environment = watched(environment, on_segment)
    [trajectory], _ = run.single_sampler.run(
        params,
        [(0, asked)],
        environment,
        group_size=1,
        stage=EVALUATION_STAGE,
        temperature=0.0,
    )
    if trajectory.status is Status.MODEL_FAILED:
        raise ModelFailedError(f"the model server failed: {trajectory.failure}")
    outcome = run.task.judge(
        trajectory.segments,
        asked.golden_answers,
        has_ended=trajectory.has_ended,
        label="the question asked",
    )
    return trajectory, outcome


def watched(
    environment: TokenEnvironment, on_segment: Callable[[Segment], None]
) -> TokenEnvironment:
    """The environment, which also reports turns and observations as they occur."""
    fields = dataclasses.fields(environment)
    values = {field.name: vars(environment)[field.name] for field in fields}
    return _WatchedEnvironment(**values, on_segment=on_segment)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _WatchedEnvironment(TokenEnvironment):
    """A token environment that shows the turns it receives and its observations."""

    on_segment: Callable[[Segment], None]

    def step(
        self, turns: Sequence[tuple[RolloutId, str]]
    ) -> list[ObservedTokens | Done]:
        for _, text in turns:
            self.on_segment(Segment(text=text, is_policy=True))
        answers = super().step(turns)
        for answer in answers:
            if isinstance(answer, ObservedTokens):
                text = self.tokenizer.decode(answer.ids)
                self.on_segment(Segment(text=text, is_policy=False))
        return answers


def suggested_questions(model: str, num_questions: int = 5) -> list[str]:
    """Held-out questions of a run, spread over the whole set.

    Raises:
      ValueError: if the model is not a run, or the run has no held-out questions.
    """
    if not is_run(model):
        raise ValueError(
            f"{model} is not a run's folder, so there is no question to suggest: give "
            'one, as in `jaxsearch ask --model MODEL "QUESTION"`'
        )
    heldout = load_inputs(read_run_config(Path(model))).heldout
    if not heldout:
        raise ValueError(
            f"{model} has no held-out questions to suggest: give a question, as in "
            '`jaxsearch ask --model RUN "QUESTION"`'
        )
    every = max(1, len(heldout) // num_questions)
    return [question.question for question in heldout[::every][:num_questions]]
