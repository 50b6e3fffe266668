"""Tools that a call adds to the search of a policy."""

import dataclasses
import functools
from collections.abc import Sequence

from jaxsearch.config import EnvironmentFunction
from jaxsearch.env.environment import Environment
from jaxsearch.env.function_tool import FunctionTool
from jaxsearch.env.search import EnvironmentInputs
from jaxsearch.env.tools import Tools
from jaxsearch.rewards.tasks import Task


def add_tools(
    task: Task,
    environment: EnvironmentFunction | None,
    tools: Sequence[Environment],
    *,
    has_search: bool,
) -> tuple[Task, EnvironmentFunction]:
    """The task whose protocol knows the tools, and the environment that has them.

    Args:
      task: the task without them.
      environment: None, because it would exclude them.
      tools: one or more.
      has_search: whether there is something to search.

    Raises:
      ValueError: if there is an environment, or a tool is something else.
    """
    if environment is not None:
        raise ValueError(
            "tools and environment exclude each other: tools are added to search, an "
            "environment replaces it"
        )
    check_tools(tools)
    known = task.protocol.calls
    calls = [tool.tags for tool in tools if isinstance(tool, FunctionTool)]
    calls = (*known, *(tags for tags in calls if tags not in known))
    protocol = dataclasses.replace(task.protocol, calls=calls)
    added = functools.partial(_environment, tools=tuple(tools), has_search=has_search)
    return dataclasses.replace(task, protocol=protocol), added


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


def _environment(
    inputs: EnvironmentInputs, *, tools: tuple[Environment, ...], has_search: bool
) -> Environment:
    """An environment with these tools, after search if there is something to search."""
    return Tools(inputs.search(), *tools) if has_search else Tools(*tools)
