"""A thread for each replica, all of which end when one fails."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from jaxsearch.env.background import Background

Result = TypeVar("Result")


class Stop:
    """Given once, to whoever looks."""

    def __init__(self):
        self._given: Future = Future()

    def give(self) -> None:
        """Ends whoever checks or waits from now on."""
        self._given.set_result(None)

    def check(self) -> None:
        """Errors: CancelledError if it was given."""
        if self._given.done():
            raise CancelledError

    def wait(self, futures: Iterable[Future]) -> None:
        """Until all are done. Errors: CancelledError if it is given first."""
        waiting = set(futures)
        while waiting:
            found = concurrent.futures.wait(
                [*waiting, self._given],
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            self.check()
            waiting -= found.done


def side_by_side(calls: Sequence[Callable[[Stop], Result]]) -> list[Result]:
    """What the calls return, each in a thread of its own; one alone in this thread.

    When a call fails, or this thread is interrupted, the others are told to stop and
    waited for: what they work on is free again when this returns.

    Errors: the first of any call.
    """
    stop = Stop()
    if len(calls) == 1:
        return [calls[0](stop)]
    with contextlib.ExitStack() as stack:
        threads = [stack.enter_context(Background()) for _ in calls]
        futures = [
            thread.submit(call, stop)
            for thread, call in zip(threads, calls, strict=True)
        ]
        try:
            ended, _ = concurrent.futures.wait(
                futures, return_when=concurrent.futures.FIRST_EXCEPTION
            )
        finally:
            stop.give()
            concurrent.futures.wait(futures)
        # What has failed by itself first: of the others some were only stopped.
        return [f.result() for f in (*ended, *futures)][len(ended) :]
