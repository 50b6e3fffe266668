"""The search environment, which answers queries with passages."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from jaxsearch.env.checked_retriever import CheckedRetriever
from jaxsearch.env.environment import (
    Done,
    Environment,
    Observation,
    RolloutId,
)
from jaxsearch.protocol import Protocol
from jaxsearch.search.index import Retriever, SearchError, Unanswered
from jaxsearch.search.passages import Passage
from jaxsearch.trajectory import Status, ToolCall

# Placeholder for an observation's text, to find the text that the protocol adds.
_BODY = "\0"

# Shown instead of passages, so that every protocol renders it in its format.
_FAILURE = Passage(id="", contents="\nThe search failed: nothing was looked up.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchEnvironment(Environment):
    """Answers queries with passages, in the format of a protocol.

    Attributes:
      retriever: answers the queries; it is checked, unless it is a `CheckedRetriever`.
      num_passages: passages per query to request from the retriever.
      on_search_failure: "drop" ends the rollouts whose search failed; "observe" answers
        with an observation that reports the failure.
      has_reminder: answer an empty query with the protocol's reminder instead of a
        search.

    Raises:
      ValueError: for `has_reminder` if the protocol has no reminder.
    """

    retriever: Retriever
    protocol: Protocol
    num_passages: int
    on_search_failure: Literal["drop", "observe"]
    has_reminder: bool = False

    def __post_init__(self):
        if not isinstance(self.retriever, CheckedRetriever):
            object.__setattr__(self, "retriever", CheckedRetriever(self.retriever))
        if self.has_reminder and not self.protocol.reminder:
            raise ValueError(
                f"protocol {self.protocol.name!r} has no reminder for turns without a "
                "query; leave out rollout.has_reminder"
            )

    @property
    def stop_tags(self) -> tuple[str, ...]:
        """The stop tags of the protocol, without those of other tools."""
        return self.protocol.own_stop_tags

    def step(self, turns: Sequence[tuple[RolloutId, str]]) -> list[Observation | Done]:
        """One observation for each turn; equal queries are sent to the retriever once.

        Raises:
          SearchStoppedError: of the retriever.
        """
        queries = [self.protocol.query(text) for _, text in turns]
        distinct = list(dict.fromkeys(queries))
        answers: dict[str, Observation | Done] = {}
        if self.has_reminder and "" in distinct:
            distinct.remove("")
            answers[""] = self._reminder()
        if distinct:
            answers |= self._searched(distinct)
        return [answers[query] for query in queries]

    def shortest_observations(self) -> list[Observation]:
        """An empty result, and the reminder if it is in use."""
        reminders = [self._reminder()] if self.has_reminder else []
        return [observation_of(self.protocol, "", []), *reminders]

    def _searched(self, queries: Sequence[str]) -> dict[str, Observation | Done]:
        """The retriever's answers by query; the queries are distinct."""
        try:
            found = self.retriever.search(queries, self.num_passages)
        except SearchError as error:
            return {query: self._failed(query, str(error)) for query in queries}
        return {
            query: self._failed(query, hits.reason)
            if isinstance(hits, Unanswered)
            else observation_of(self.protocol, query, [hit.passage for hit in hits])
            for query, hits in zip(queries, found, strict=True)
        }

    def _failed(self, query: str, failure: str) -> Observation | Done:
        call = ToolCall(query=query, has_failed=True, failure=failure)
        if self.on_search_failure == "drop":
            return Done(status=Status.TOOL_FAILED, call=call)
        observation = observation_of(self.protocol, query, [_FAILURE])
        return dataclasses.replace(observation, call=call)

    def _reminder(self) -> Observation:
        return Observation(
            call=ToolCall(query=""), parts=(), opening=self.protocol.reminder
        )


def observation_of(
    protocol: Protocol, query: str, passages: Sequence[Passage]
) -> Observation:
    """The observation of a search that found these passages."""

    def render(parts: Sequence[str]) -> str:
        # There are fewer parts than passages if the observation is cut.
        shown = [
            dataclasses.replace(passage, contents=part)
            for passage, part in zip(passages, parts, strict=False)
        ]
        return protocol.render(shown)

    opening, _, closing = protocol.frame(_BODY).partition(_BODY)
    return Observation(
        call=ToolCall(
            query=query, passage_ids=tuple(passage.id for passage in passages)
        ),
        parts=tuple(passage.contents for passage in passages),
        opening=opening,
        closing=closing,
        render=render,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentInputs:
    """The inputs of the function that makes a run's environment.

    Attributes:
      protocol: the protocol of the run's task.
      search: a function that opens the run's search, a `SearchEnvironment` unless the
        protocol limits searches. If the environment does not call it, the run needs
        no passages.
    """

    protocol: Protocol
    search: Callable[[], Environment]


def search_only(inputs: EnvironmentInputs) -> Environment:
    """The default environment of a run, which has only search."""
    return inputs.search()
