"""A thread that records finished rollouts, so that decoding does not wait."""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType

from jaxsearch.env.daemon_executor import DaemonExecutor
from jaxsearch.trajectory import Trajectory


class Recorder:
    """Passes finished rollouts to a function in another thread.

    Leaving the context waits until all rollouts are recorded, even after an error.

    Args:
      record: receives the rollouts that have finished since its last call. An error
        that it raises is raised by the next `add`, or on leaving the context.
    """

    def __init__(self, record: Callable[[list[Trajectory]], None]):
        self._record = record
        self._finished: queue.SimpleQueue[Trajectory | None] = queue.SimpleQueue()
        self._executor = DaemonExecutor()
        self._future: Future = self._executor.submit(self._work)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finished.put(None)
        try:
            if self._future.exception() is not None and error is None:
                self._future.result()
        finally:
            self._executor.shutdown()

    def add(self, trajectory: Trajectory) -> None:
        """Queues a finished rollout; can be called from any thread."""
        if self._future.done():
            self._future.result()
        self._finished.put(trajectory)

    def _work(self) -> None:
        is_open = True
        while is_open:
            waiting = [self._finished.get()]
            while not self._finished.empty():
                waiting.append(self._finished.get())
            is_open = waiting[-1] is not None
            if found := [one for one in waiting if one is not None]:
                self._record(found)
