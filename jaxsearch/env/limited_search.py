"""A search with a limit of queries per rollout."""

from collections.abc import Sequence

from jaxsearch.data.question import Question
from jaxsearch.env.environment import Done, Environment, Observation, RolloutId
from jaxsearch.trajectory import ToolCall


class LimitedSearch(Environment):
    """Answers the first queries of a rollout, then asks for the answer.

    The first query over the limit receives a text that asks for the answer, which
    counts as a search without a query. A further query ends the rollout.

    Args:
      search: answers the queries.
      max_searches: number of queries per rollout that are answered.
      enough: the text that asks for the answer.
    """

    def __init__(self, search: Environment, max_searches: int, enough: str):
        self.stop_tags = search.stop_tags
        self.control_tags = search.control_tags
        self._search = search
        self._max_searches = max_searches
        self._enough = Observation(call=ToolCall(query=""), parts=(), opening=enough)
        self._num_asked: dict[RolloutId, int] = {}

    def start(self, rollouts: Sequence[tuple[RolloutId, Question]]) -> None:
        """Begins rollouts."""
        self._num_asked.update((one, 0) for one, _ in rollouts)
        self._search.start(rollouts)

    def close(self, rollout_ids: Sequence[RolloutId]) -> None:
        """Ends rollouts."""
        for one in rollout_ids:
            del self._num_asked[one]
        self._search.close(rollout_ids)

    def step(self, turns: Sequence[tuple[RolloutId, str]]) -> list[Observation | Done]:
        """Returns one answer for each turn."""
        allowed = []
        for rollout_id, text in turns:
            self._num_asked[rollout_id] += 1
            if self._num_asked[rollout_id] <= self._max_searches:
                allowed.append((rollout_id, text))
        found = dict(
            zip(
                (one for one, _ in allowed),
                self._search.step(allowed) if allowed else (),
                strict=True,
            )
        )
        return [
            found[one] if one in found else self._refused(self._num_asked[one])
            for one, _ in turns
        ]

    def shortest_observations(self) -> list[Observation]:
        """The observations of the search, and the text that asks for the answer."""
        return [*self._search.shortest_observations(), self._enough]

    def _refused(self, num_asked: int) -> Observation | Done:
        return self._enough if num_asked == self._max_searches + 1 else Done()
