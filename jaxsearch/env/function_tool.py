"""A tool made of one function, from text to text."""

import inspect
from collections.abc import Callable, Sequence

from jaxsearch.env.environment import (
    Done,
    Environment,
    Observation,
    RolloutId,
    text_between,
)
from jaxsearch.protocol.tags import ToolTags, xml_tags
from jaxsearch.trajectory import ToolCall

# What a function raises for a call that makes no sense. Others are defects.
_BAD_CALL = (ValueError, ArithmeticError, LookupError, SyntaxError)


class FunctionTool(Environment):
    """A tool that a policy calls by writing text between two tags.

    The default tags of a function `calc` are `<calc> 2 * 3 </calc>` for the call and
    ` <calc_result> 6 </calc_result>` for the observation that answers it. The `tools`
    of `rollout`, `evaluate` and `Trainer` also tell the task about these tags: a reward
    then ignores calls, and does not pay for a result that the policy wrote itself.

    Args:
      function: text of a call -> text of its result. It is called from several threads.
        If it raises ValueError, ArithmeticError, LookupError or SyntaxError, the policy
        reads "error: ..." and the call counts as failed; other exceptions end the run.
      name: name of the tool in metrics and trajectories; "" for the function's.
      tags: tags of calls and results; None for those made of the name.

    Raises:
      ValueError: if a name is needed and the function has none, or the tags have none
        for results.

    Example:
      >>> tool = jaxsearch.FunctionTool(str.upper, name="shout")
      >>> tool.stop_tags
      ('</shout>',)
      >>> tool.answer("hello").text(["HELLO"])
      ' <shout_result> HELLO </shout_result>'
    """

    def __init__(
        self,
        function: Callable[[str], str],
        *,
        name: str = "",
        tags: ToolTags | None = None,
    ):
        self.name = _name_of(function, name)
        self.tags = tags or ToolTags(
            call=xml_tags(self.name), result=xml_tags(f"{self.name}_result")
        )
        if self.tags.result is None:
            raise ValueError(
                f"tool {self.name!r} needs tags for its results: "
                "ToolTags(call=..., result=...)"
            )
        self._function = function
        self._opening = f" {self.tags.result.open}"
        self._closing = self.tags.result.close
        self.stop_tags = (self.tags.call.close,)
        self.control_tags = (self.tags.call.open, *self.tags.result)

    def step(self, turns: Sequence[tuple[RolloutId, str]]) -> list[Observation | Done]:
        """Calls the function once for each turn."""
        return [self.answer(text_between(text, *self.tags.call)) for _, text in turns]

    def answer(self, text: str | None) -> Observation:
        """The observation of one call; None stands for a call without opening tag."""
        failure = "" if text is not None else f"error: no {self.tags.call.open}"
        result = failure
        if text is not None:
            try:
                result = str(self._function(text))
            except _BAD_CALL as error:
                result = failure = f"error: {error}"
        return Observation(
            call=ToolCall(
                tool=self.name,
                query=text or "",
                has_failed=bool(failure),
                failure=failure,
            ),
            parts=(result,),
            opening=self._opening,
            closing=self._closing,
            render=_spaced,
        )

    def shortest_observations(self) -> list[Observation]:
        """An observation without a result."""
        return [
            Observation(
                call=ToolCall(tool=self.name, query=""),
                parts=(),
                opening=self._opening,
                closing=self._closing,
                render=_spaced,
            )
        ]

    def __repr__(self) -> str:
        call, result = ("".join(pair) for pair in self.tags.pairs.values())
        return f"FunctionTool({self.name!r}, {call} -> {result})"


def _spaced(parts: Sequence[str]) -> str:
    """The result between spaces, which small vocabularies need before each word."""
    return " ".join(["", *parts, ""])


def _name_of(function: object, name: str) -> str:
    """The name of a tool: the given one, or that of its function.

    Raises:
      ValueError: if this is no function, or has no usable name.
    """
    if not callable(function):
        raise ValueError(
            f"a tool needs a function from text to text, got {function!r:.80}"
        )
    if not name and inspect.isroutine(function):
        name = function.__name__
    if not name.isidentifier():
        raise ValueError(
            f"a tool needs a name of letters and digits, got {name!r:.80}: give name="
        )
    return name
