"""Tasks, and trajectories that know theirs."""

import dataclasses
import functools
from collections.abc import Sequence

from jaxsearch.report.notebook import trajectory_html
from jaxsearch.rewards.judge import judge
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.tasks import Task, task_named
from jaxsearch.trajectory import Trajectory

# Stands for the golden answer of a question that has none.
_UNKNOWN = "(unknown)"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TaskTrajectory(Trajectory):
    """A trajectory that can be judged and shown, because it knows its task.

    Jupyter shows it as the report of a run does: text of the policy, which is trained
    on, and text of tools, which is not.
    """

    task: Task

    @functools.cached_property
    def outcome(self) -> Outcome:
        """The prediction, and the reward, which counts if there are golden answers."""
        return _outcome(self, self.task)

    def _repr_html_(self) -> str:
        return trajectory_html(self, self.outcome, self.task.protocol)


def with_task(trajectories: Sequence[Trajectory], task: Task) -> list[TaskTrajectory]:
    """The trajectories of a task."""
    return [
        TaskTrajectory(
            **{f.name: vars(one)[f.name] for f in dataclasses.fields(Trajectory)},
            task=task,
        )
        for one in trajectories
    ]


def load_task(name: str) -> Task:
    """A task (prompt, tags and reward) by its name.

    Args:
      name: research, search_r1, r1_searcher_stage1 or another one of
        `jaxsearch score --help`; or package.module:NAME of one of yours.

    Raises:
      ValueError: if there is none; the error suggests similar names.

    Example:
      >>> jaxsearch.load_task("search_r1").protocol.name
      'search_r1'
    """
    return task_named(name)


def score(
    trajectories: Trajectory | Sequence[Trajectory], task: Task | str | None = None
) -> list[Outcome]:
    """The reward of each trajectory, by term, with the prediction and the reason.

    Args:
      trajectories: one or more, whose questions have golden answers.
      task: the task that judges them, or its name; None for that of their rollout.

    Returns:
      An outcome for each; its `findings` have em, f1 and cover_em.

    Raises:
      ValueError: if a question has no golden answer, there is no task, or the reward
        fails.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> trajectories = jaxsearch.rollout(
      ...     policy,
      ...     ("What is the birthplace of Parruk?", "Zegbol"),
      ...     retriever=["Parruk\\nParruk was born in Zegbol and married Sevviz."],
      ...     temperature=0.0,
      ... )
      >>> [outcome] = jaxsearch.score(trajectories)
      >>> outcome.reward, outcome.prediction, outcome.findings["em"]
      (1.0, ' Zegbol ', 1.0)
    """
    if isinstance(trajectories, Trajectory):
        trajectories = [trajectories]
    named = task_named(task) if isinstance(task, str) else task
    for one in trajectories:
        if not one.golden_answers:
            raise ValueError(
                f"question {one.question!r:.80} has no golden answer: roll out the "
                "pair (question, answer)"
            )
    return [_outcome(one, _judging(one, named)) for one in trajectories]


def _judging(trajectory: Trajectory, task: Task | None) -> Task:
    """The task that judges a trajectory.

    Raises:
      ValueError: if there is none.
    """
    if not isinstance(trajectory, TaskTrajectory):
        if task is None:
            raise ValueError(
                "these trajectories do not know their task: give task=, such as "
                "'research'"
            )
        return task
    if task is None:
        return trajectory.task
    # The prompt has opened this tag, whichever task judges the reply.
    opened = trajectory.task.protocol.opened
    has_tag = opened and task.protocol.think.open == opened
    return task.with_opened(opened) if has_tag else task


def _outcome(trajectory: Trajectory, task: Task) -> Outcome:
    """The outcome of a trajectory, with em, f1 and cover_em among its findings."""
    golden_answers = trajectory.golden_answers
    if not golden_answers:
        trajectory = dataclasses.replace(trajectory, golden_answers=(_UNKNOWN,))
    _, [outcome], [scores] = judge([trajectory], task)
    if not golden_answers:
        return outcome
    return dataclasses.replace(outcome, findings={**outcome.findings, **scores})
