"""Threads for replicas, which all stop when one of them fails."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from jaxsearch.env.daemon_executor import DaemonExecutor

Result = TypeVar("Result")

# A signal that arrives just before the main thread begins to wait does not end the
# wait, so it waits again after this time.
_LOOK_S = 1.0


class Stop:
    """A signal between threads, set at most once."""

    def __init__(self):
        self._signal: Future = Future()

    def set(self) -> None:
        """Makes `check` and `wait` raise from now on."""
        self._signal.set_result(None)

    def check(self) -> None:
        """Checks the signal.

        Raises:
          CancelledError: if it is set.
        """
        if self._signal.done():
            raise CancelledError

    def wait(self, futures: Iterable[Future]) -> None:
        """Waits until all futures are done.

        Raises:
          CancelledError: if the signal is set first.
        """
        waiting = set(futures)
        while waiting:
            found = concurrent.futures.wait(
                [*waiting, self._signal],
                timeout=_LOOK_S,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            self.check()
            waiting -= found.done


def run_in_threads(calls: Sequence[Callable[[Stop], Result]]) -> list[Result]:
    """Runs calls in parallel, one thread each; a single call runs in this thread.

    If a call fails or this thread is interrupted, the signal is set for the other calls
    and they are joined, so that their resources are free afterwards. The first
    exception is raised.

    Returns:
      The results, in the order of the calls.
    """
    stop = Stop()
    if len(calls) == 1:
        return [calls[0](stop)]
    with contextlib.ExitStack() as stack:
        threads = [stack.enter_context(DaemonExecutor()) for _ in calls]
        futures = [
            thread.submit(call, stop)
            for thread, call in zip(threads, calls, strict=True)
        ]
        try:
            ended = _until_first_failure(futures)
        finally:
            stop.set()
            concurrent.futures.wait(futures)
        # The call that failed comes first; the others may only have been stopped.
        return [f.result() for f in (*ended, *futures)][len(ended) :]


def _until_first_failure(futures: Sequence[Future]) -> set[Future]:
    """Waits until a call has failed or all are done; returns those that are done."""
    while True:
        ended, running = concurrent.futures.wait(
            futures,
            timeout=_LOOK_S,
            return_when=concurrent.futures.FIRST_EXCEPTION,
        )
        if not running or any(f.exception() is not None for f in ended):
            return ended
