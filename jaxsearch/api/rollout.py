"""Rolling out and evaluating a policy."""

import dataclasses
from collections.abc import Sequence

from jaxsearch import processes
from jaxsearch.api.judging import TaskTrajectory, with_task
from jaxsearch.api.policy import Policy
from jaxsearch.api.questions import Questions, as_questions
from jaxsearch.api.retrieval import Source
from jaxsearch.api.session import open_session
from jaxsearch.config import EnvironmentFunction, RolloutConfig
from jaxsearch.env.environment import Environment
from jaxsearch.evaluation import evaluate as evaluation
from jaxsearch.rewards.tasks import Task
from jaxsearch.rollouts.timeline import Timeline


def rollout(
    policy: Policy,
    questions: Questions,
    *,
    retriever: Source | None = None,
    task: Task | str | None = None,
    group_size: int = 1,
    temperature: float = 1.0,
    budgets: RolloutConfig | None = None,
    environment: EnvironmentFunction | None = None,
    tools: Sequence[Environment] = (),
    num_passages: int | None = None,
    seed: int = 0,
    timeline: Timeline | None = None,
) -> list[TaskTrajectory]:
    """Answers questions with a policy that searches.

    Programs are compiled when they are first needed; the next call with the same
    policy, budgets and task runs them again.

    Args:
      policy: from `load_policy`.
      questions: a text, a pair (text, golden answer or answers) or a `Question`; or a
        list of them.
      retriever: what to search: anything that `load_retriever` takes.
      task: prompt, tags and reward, or their name (see `load_task`); None for those of
        the policy: its run's, else research.
      group_size: G, answers per question.
      temperature: of sampling; 0 is greedy.
      budgets: tokens, slots and searches; None for those of the policy: its run's, else
        ReSearch's, as far as the model has positions.
      environment: (EnvironmentInputs) -> Environment, the tools that answer the policy;
        None for those of the policy: its run's, else search.
      tools: further tools, such as `FunctionTool`s, next to search (if there is a
        retriever); the task learns the tags of a `FunctionTool`.
      num_passages: passages per search; None for the policy's.
      seed: of the sampling.
      timeline: receives what slots, tools and cache pages do; see `Timeline`.

    Returns:
      Trajectories by question, then by sample: tokens, `is_policy`, log-probs,
      searches, and the text by author. Jupyter shows them in colour.

    Raises:
      ValueError: if an argument is invalid, there is nothing to search, or a prompt
        exceeds its budget.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> [trajectory] = jaxsearch.rollout(
      ...     policy,
      ...     "What is the birthplace of Parruk?",
      ...     retriever=["Parruk\\nParruk was born in Zegbol and married Sevviz."],
      ...     temperature=0.0,
      ... )
      >>> trajectory.outcome.prediction, [call.query for call in trajectory.searches]
      (' Zegbol ', ['Parruk'])
      >>> trajectory.logprobs.shape == trajectory.is_policy.shape
      True
    """
    run = open_session(
        policy,
        retriever=retriever,
        task=task,
        budgets=budgets,
        environment=environment,
        tools=tools,
        num_passages=num_passages,
        seed=seed,
    )
    asked = list(enumerate(as_questions(questions)))
    trajectories, _ = run.sampler.run(
        run.rollout_params(policy.params),
        processes.process_shard(asked),
        run.environments.training,
        group_size=group_size,
        stage=0,
        temperature=temperature,
        timeline=timeline,
    )
    parts = processes.all_gather_objects(trajectories)
    everyones = [trajectory for part in parts for trajectory in part]
    everyones.sort(key=lambda one: (one.prompt_index, one.sample_index))
    return with_task(everyones, run.task)


def evaluate(
    policy: Policy,
    questions: Questions,
    *,
    retriever: Source | None = None,
    task: Task | str | None = None,
    temperature: float = 0.0,
    budgets: RolloutConfig | None = None,
    environment: EnvironmentFunction | None = None,
    tools: Sequence[Environment] = (),
    num_passages: int | None = None,
    seed: int = 0,
) -> evaluation.Evaluation:
    """Answers each question once, greedily by default, and judges the answers.

    Args:
      policy: from `load_policy`, or `trainer.policy`.
      questions: pairs (text, golden answer or answers) or `Question`s, such as those of
        `read_questions`.
      retriever, task, temperature, budgets, environment, tools, num_passages, seed: as
        in `rollout`.

    Returns:
      The evaluation: `results` (n, em, f1, cover_em, mean_reward,
      searches_per_question and more), and trajectories, outcomes and scores by
      question.

    Raises:
      ValueError: as in `rollout`, or if a question has no golden answer.

    Example:
      >>> policy = jaxsearch.load_policy("jaxsearch:quickstart")
      >>> evaluation = jaxsearch.evaluate(
      ...     policy,
      ...     [("What is the birthplace of Parruk?", "Zegbol")],
      ...     retriever=["Parruk\\nParruk was born in Zegbol and married Sevviz."],
      ... )
      >>> evaluation.results["em"], evaluation.results["searches_per_question"]
      (1.0, 1.0)
    """
    run = open_session(
        policy,
        retriever=retriever,
        task=task,
        budgets=budgets,
        environment=environment,
        tools=tools,
        num_passages=num_passages,
        seed=seed,
    )
    found = evaluation.evaluate(
        run.sampler,
        run.rollout_params(policy.params),
        as_questions(questions, need_answers=True),
        run.environments.heldout,
        run.task,
        temperature=temperature,
    )
    return dataclasses.replace(
        found, trajectories=with_task(found.trajectories, run.task)
    )
