"""The run behind a call of the API, in memory alone: no folder and no config file."""

import dataclasses
from collections.abc import Sequence

from jax.sharding import Mesh

from jaxsearch.api.policy import Policy
from jaxsearch.api.retrieval import Source, load_retriever
from jaxsearch.api.tools import add_tools
from jaxsearch.config import (
    EnvironmentFunction,
    RLStage,
    RolloutConfig,
    RunConfig,
    SupervisedStage,
)
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.environment import Environment
from jaxsearch.models.architecture import Architecture
from jaxsearch.rewards.tasks import Task, task_named
from jaxsearch.run.build import Run
from jaxsearch.run.inputs import Inputs
from jaxsearch.run.network import make_transformer
from jaxsearch.run.prompting import run_protocol, with_opened
from jaxsearch.run.signatures import check_signatures


def make_run(
    config: RunConfig, tokenizer: Tokenizer, architecture: Architecture, mesh: Mesh
) -> Run:
    """A run without questions and passages, whose inputs are given and not read."""
    protocol = run_protocol(config, tokenizer)
    return Run(
        config=with_opened(config, protocol.opened),
        inputs=Inputs(
            tokenizer=tokenizer,
            protocol=protocol,
            questions={},
            heldout=[],
            passages=None,
            heldout_passages=[],
        ),
        transformer=make_transformer(config.model, architecture, mesh),
        mesh=mesh,
    )


def open_session(
    policy: Policy,
    stage: RLStage | SupervisedStage | None = None,
    *,
    retriever: Source | None,
    task: Task | str | None,
    budgets: RolloutConfig | None,
    environment: EnvironmentFunction | None,
    tools: Sequence[Environment] = (),
    num_passages: int | None,
    seed: int,
) -> Run:
    """The run of a call: the policy's settings, with those that the call names.

    Args:
      policy: the policy.
      stage: the stage that trains it; None if nothing is trained.
      retriever, task, budgets, environment, tools, num_passages, seed: as in `rollout`.

    Raises:
      ValueError: if a setting is invalid, or there is nothing to search.
    """
    if not isinstance(policy, Policy):
        raise ValueError(
            f"expected a policy, as `jaxsearch.load_policy` returns it, got {policy!r}"
        )
    config = policy.config
    task = config.task if task is None else as_task(task)
    if tools:
        task, environment = add_tools(
            task, environment, tools, has_search=retriever is not None
        )
    if stage is None:
        stage = RLStage(name="none", steps=1)
    if budgets is None:
        # The mesh may not be that of the run from which the policy comes.
        tensor = policy.mesh.shape["tensor"]
        budgets = dataclasses.replace(config.rollout, tensor=tensor, replicas=None)
    retrieval = dataclasses.replace(
        config.retrieval,
        corpus="",
        index="",
        heldout_index="",
        url="",
        heldout_url="",
        encoder="tfidf",
        retriever=None if retriever is None else load_retriever(retriever),
        num_passages=num_passages or config.retrieval.num_passages,
    )
    config = dataclasses.replace(
        config,
        rollout=budgets,
        retrieval=retrieval,
        environment=environment or config.environment,
        stages=(dataclasses.replace(stage, task=task),),
        seed=seed,
        out="",
    )
    check_signatures(config)
    run = make_run(config, policy.tokenizer, policy.architecture, policy.mesh)
    if run.environments.has_search and retriever is None:
        raise ValueError(
            "there is nothing to search: give retriever=, a list of texts, a corpus "
            "file, the folder of an index, the address of a search server, or an "
            "object with search(queries, k)"
        )
    return run


def as_task(task: Task | str) -> Task:
    """The task, or the one with this name."""
    return task_named(task) if isinstance(task, str) else task
