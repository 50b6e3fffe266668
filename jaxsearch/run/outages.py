"""Outages of search: rollouts whose searches failed are not used, but repeated.

What is left of a step are the rollouts that did not search, and a policy that learns
from those unlearns searching. An evaluation would count the failures as wrong answers.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxsearch import processes
from jaxsearch.config import RetrievalConfig
from jaxsearch.trajectory import Trajectory
from jaxsearch.try_again import TryAgainError

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


@runtime_checkable
class _HasTrajectories(Protocol):
    """A result of rollouts, such as `Judged` or `Evaluation`."""

    @property
    def trajectories(self) -> Sequence[Trajectory]: ...


Rolled = TypeVar("Rolled", bound=_HasTrajectories)


class Outages:
    """Repeats rollouts until enough of them are kept.

    Args:
      retrieval: has the share that must be kept, and how long to wait for it.
      say: receives a line at each pause, and one when searches succeed again.
      what: what is repeated, for these lines.

    Attributes:
      num_repeats: how many times rollouts were repeated.
    """

    num_repeats: int

    def __init__(
        self, retrieval: RetrievalConfig, say: Callable[..., Any], what: str = "step"
    ):
        self._retrieval = retrieval
        self._say = say
        self._what = what
        self.num_repeats = 0

    def wait_through(self, roll_out: Callable[[], Rolled]) -> Rolled:
        """The first result of which enough rollouts are kept.

        The pauses between tries double up to a minute. All processes call this
        together.

        Args:
          roll_out: returns the rollouts of all processes, always of the same questions
            with the same random keys.

        Raises:
          TryAgainError: if searches fail for longer than `max_outage_s`.
        """
        began, pause_s = time.monotonic(), _FIRST_PAUSE_S
        is_repeated = False
        while True:
            found = roll_out()
            share = kept_share(found.trajectories)
            if share >= self._retrieval.min_kept:
                if is_repeated:
                    self._say(f"searches succeed again: {share:.0%} of rollouts kept")
                return found
            is_repeated = True
            # The clocks of processes differ, and all must decide alike.
            waited_s = processes.broadcast_from_primary(time.monotonic() - began)
            left_s = self._retrieval.max_outage_s - waited_s
            failed = (
                f"searches failed in {1.0 - share:.0%} of a {self._what}'s rollouts, "
                f"and retrieval.min_kept is {self._retrieval.min_kept:g}"
            )
            if left_s <= 0.0:
                raise TryAgainError(
                    f"{failed}, for {waited_s:.0f} s; the same command continues when "
                    "they succeed again"
                )
            pause_s = min(pause_s, left_s)
            self._say(f"{failed}: the {self._what} is repeated in {pause_s:.0f} s")
            time.sleep(pause_s)
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
            self.num_repeats += 1


def kept_share(trajectories: Sequence[Trajectory]) -> float:
    """The share of rollouts whose tools did not fail."""
    return sum(one.is_kept for one in trajectories) / len(trajectories)
