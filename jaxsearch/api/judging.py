"""Tasks, and trajectories that know theirs."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from jaxsearch.protocol.template import PLACEHOLDER, PromptTemplate
from jaxsearch.report.notebook import trajectory_html
from jaxsearch.rewards.judge import judge
from jaxsearch.rewards.outcome import Outcome
from jaxsearch.rewards.own import RewardFunction, check_reward
from jaxsearch.rewards.tasks import Task, task_named
from jaxsearch.surrogates import check_text
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
        [outcome] = _outcomes([self], self.task)
        return outcome

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


def load_task(name: str, *, instructions: str = "") -> Task:
    """A task (prompt, tags and reward) by its name.

    Args:
      name: research, search_r1, r1_searcher_stage1 or another one of
        `jaxsearch score --help`; or package.module:NAME of one of yours.
      instructions: text that replaces those of the prompt, such as a description of
        your tools. It is the system message of chat models, and stands before the
        question otherwise. "" for the task's prompt.

    Raises:
      ValueError: if there is none; the error suggests similar names. Or if the
        instructions contain `{question}`, which follows them by itself.

    Example:
      >>> jaxsearch.load_task("search_r1").protocol.name
      'search_r1'
      >>> task = jaxsearch.load_task("research", instructions="Search, then answer.")
      >>> task.protocol.prompt("Who led Vasdib?")
      'Search, then answer.\\n\\nQuestion: Who led Vasdib?\\nReply:'
    """
    task = task_named(name)
    if not instructions:
        return task
    check_text(instructions, "the instructions")
    if PLACEHOLDER in instructions:
        raise ValueError(
            f"the instructions contain {PLACEHOLDER}, but the question follows them by "
            "itself; leave it out"
        )
    template = PromptTemplate(
        text=f"{instructions}\n\nQuestion: {PLACEHOLDER}\nReply:",
        messages=(
            {"role": "system", "content": instructions},
            {"role": "user", "content": PLACEHOLDER},
        ),
    )
    protocol = dataclasses.replace(task.protocol, template=template)
    return dataclasses.replace(task, protocol=protocol)


def score(
    trajectories: Trajectory | Sequence[Trajectory],
    task: Task | str | None = None,
    *,
    reward: RewardFunction | Sequence[Any] | None = None,
) -> list[Outcome]:
    """The reward of each trajectory, by term, with the prediction and the reason.

    Args:
      trajectories: one or more, whose questions have golden answers.
      task: the task that judges them, or its name; None for that of their rollout.
      reward: own reward in place of the task's, as that of a `Trainer`: a function
        (question, answer, *, searches, row) -> a number, or numbers by name; or several
        with weights (see `rewards.own`).

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

      A reward of your own, before you train with it:

      >>> def brief(question, answer, *, searches, row):
      ...     right = (answer or "").strip() in row["golden_answers"]
      ...     return {"right": float(right), "searches": -0.1 * len(searches)}
      >>> jaxsearch.score(trajectories, reward=brief)[0].terms
      {'right': 1.0, 'searches': -0.1}
    """
    if reward is not None:
        check_reward(reward)
    if isinstance(trajectories, Trajectory):
        trajectories = [trajectories]
    named = task_named(task) if isinstance(task, str) else task
    for one in trajectories:
        if not one.golden_answers:
            raise ValueError(
                f"question {one.question!r:.80} has no golden answer: roll out the "
                "pair (question, answer)"
            )
    # A reward of all rollouts at once is called once per task, usually once.
    of_task: dict[int, tuple[Task, list[int]]] = {}
    for number, one in enumerate(trajectories):
        judging = _judging(one, named)
        of_task.setdefault(id(judging), (judging, []))[1].append(number)
    found: dict[int, Outcome] = {}
    for judging, numbers in of_task.values():
        if reward is not None:
            judging = dataclasses.replace(judging, own_reward=reward)
        chosen = [trajectories[number] for number in numbers]
        found |= zip(numbers, _outcomes(chosen, judging), strict=True)
    return [found[number] for number in range(len(trajectories))]


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


def _outcomes(trajectories: Sequence[Trajectory], task: Task) -> list[Outcome]:
    """The outcome of each trajectory, with em, f1 and cover_em among its findings.

    Without golden answers there are no such findings, and the reward does not count.
    """
    known = [
        one
        if one.golden_answers
        else dataclasses.replace(one, golden_answers=(_UNKNOWN,))
        for one in trajectories
    ]
    _, outcomes, scores = judge(known, task)
    return [
        dataclasses.replace(outcome, findings={**outcome.findings, **values})
        if one.golden_answers
        else outcome
        for one, outcome, values in zip(trajectories, outcomes, scores, strict=True)
    ]
