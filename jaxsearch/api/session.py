"""The run behind a call of the API, in memory alone: no folder and no config file."""

import dataclasses
import functools
from collections.abc import Sequence

from jax.sharding import Mesh

from jaxsearch.api.policy import Policy
from jaxsearch.api.retrieval import Source, load_retriever
from jaxsearch.config import (
    EnvironmentFunction,
    RLStage,
    RolloutConfig,
    RunConfig,
    SupervisedStage,
)
from jaxsearch.data.tokenizer import Tokenizer
from jaxsearch.env.environment import Environment
from jaxsearch.env.function_tool import FunctionTool
from jaxsearch.env.search import EnvironmentInputs
from jaxsearch.env.tools import Tools
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
    config = policy.config
    task = config.task if task is None else as_task(task)
    if tools:
        if environment is not None:
            raise ValueError(
                "tools and environment exclude each other: tools are added to search, "
                "an environment replaces it"
            )
        check_tools(tools)
        task = _with_calls(task, tools)
        environment = functools.partial(
            _with_tools, tools=tuple(tools), has_search=retriever is not None
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


def check_tools(tools: object) -> None:
    """Checks that this is a list of tools.

    Raises:
      ValueError: if it is something else.
    """
    if isinstance(tools, Environment):
        raise ValueError(f"tools must be a list; write tools=[{tools!r:.80}]")
    for tool in tools if isinstance(tools, tuple | list) else [tools]:
        if not isinstance(tool, Environment):
            raise ValueError(
                "tools must be a list of FunctionTool or other Environment objects, "
                f"got {tool!r:.80}"
            )


def _with_calls(task: Task, tools: Sequence[Environment]) -> Task:
    """The task whose protocol knows the tags of these tools."""
    known = task.protocol.calls
    calls = [tool.tags for tool in tools if isinstance(tool, FunctionTool)]
    calls = (*known, *(tags for tags in calls if tags not in known))
    protocol = dataclasses.replace(task.protocol, calls=calls)
    return dataclasses.replace(task, protocol=protocol)


def _with_tools(
    inputs: EnvironmentInputs, *, tools: tuple[Environment, ...], has_search: bool
) -> Environment:
    """An environment with these tools, after search if there is a retriever."""
    return Tools(inputs.search(), *tools) if has_search else Tools(*tools)
