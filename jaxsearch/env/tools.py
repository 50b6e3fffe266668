"""Several tools in one environment."""

from collections.abc import Sequence

from jaxsearch.data.question import Question
from jaxsearch.env.checks import (
    check_answers,
    check_observations,
    check_own_tags,
)
from jaxsearch.env.environment import (
    Done,
    Environment,
    Observation,
    RolloutId,
)
from jaxsearch.protocol.tags import closing_tag


class Tools(Environment):
    """Sends each turn to the tool whose stop tag ended it.

    A turn that ended with none of their stop tags goes to the first tool.

    Args:
      tools: one or more tools, with distinct stop tags.

    Raises:
      ValueError: if there are no tools, a tool has no or malformed stop tags, or two
        tools share one.
    """

    def __init__(self, *tools: Environment):
        if not tools:
            raise ValueError("Tools needs at least one tool, got none")
        self._tools = tools
        self._number_of: dict[str, int] = {}
        for number, tool in enumerate(tools):
            check_own_tags(tool)
            if not tool.stop_tags:
                raise ValueError(
                    f"{type(tool).__name__} has no stop tags, so no turn would reach "
                    "it; add the closing tag of its calls"
                )
            for tag in tool.stop_tags:
                if tag in self._number_of:
                    other = type(tools[self._number_of[tag]]).__name__
                    raise ValueError(
                        f"stop tag {tag!r} belongs to both {other} and "
                        f"{type(tool).__name__}; each tool needs different stop tags"
                    )
                self._number_of[tag] = number
        self.stop_tags = tuple(self._number_of)
        self.control_tags = tuple(tag for tool in tools for tag in tool.control_tags)

    def step(self, turns: Sequence[tuple[RolloutId, str]]) -> list[Observation | Done]:
        """Returns one answer for each turn; each tool gets its turns in one batch.

        Raises:
          RuntimeError: if a tool does not answer every turn with an observation or
            `Done`.
        """
        indices: list[list[int]] = [[] for _ in self._tools]
        for i, (_, text) in enumerate(turns):
            tag = closing_tag(text, self.stop_tags)
            indices[self._number_of.get(tag, 0)].append(i)
        answers: dict[int, Observation | Done] = {}
        for tool, own in zip(self._tools, indices, strict=True):
            if not own:
                continue
            found = tool.step([turns[i] for i in own])
            check_answers(tool, found, len(own))
            answers |= zip(own, found, strict=True)
        return [answers[i] for i in range(len(turns))]

    def start(self, rollouts: Sequence[tuple[RolloutId, Question]]) -> None:
        """Begins rollouts in every tool."""
        for tool in self._tools:
            tool.start(rollouts)

    def close(self, rollout_ids: Sequence[RolloutId]) -> None:
        """Ends rollouts in every tool."""
        for tool in self._tools:
            tool.close(rollout_ids)

    def shortest_observations(self) -> list[Observation]:
        """The shortest observations of all tools."""
        shortest = []
        for tool in self._tools:
            own = tool.shortest_observations()
            check_observations(tool, own)
            shortest += own
        return shortest
