"""Threads that finish many rollouts at once with a model server."""

import queue
import threading
from collections.abc import Iterator, Sequence

from jaxsearch.rollouts.records import Rollout
from jaxsearch.served.rollout import ServedPolicy, ServedRollout
from jaxsearch.trajectory import Trajectory

# A signal just before the main thread begins to wait does not end the wait, so the wait
# is repeated after this time.
_LOOK_S = 1.0


def finished_rollouts(
    policy: ServedPolicy, jobs: Sequence[Rollout], num_threads: int
) -> Iterator[tuple[ServedRollout, Trajectory]]:
    """Finishes rollouts in threads; yields each one as it finishes.

    Closing the iterator ends the threads after their current requests. They do not keep
    the process alive if a request hangs.

    Args:
      policy: state shared by the rollouts.
      jobs: the rollouts to start.
      num_threads: number of rollouts in progress at once.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    finished: queue.SimpleQueue = queue.SimpleQueue()
    stop = threading.Event()
    for _ in range(num_threads):
        arguments = (policy, waiting, finished, stop)
        threading.Thread(target=_work, args=arguments, daemon=True).start()
    try:
        for _ in jobs:
            yield _next(finished)
    finally:
        stop.set()


def _work(
    policy: ServedPolicy,
    waiting: queue.SimpleQueue,
    finished: queue.SimpleQueue,
    stop: threading.Event,
) -> None:
    """Finishes one rollout after another until none is left."""
    while not stop.is_set():
        try:
            rollout = ServedRollout(policy, waiting.get_nowait())
        except queue.Empty:
            return
        try:
            finished.put((rollout, rollout.finish(stop)))
        except BaseException as error:
            # The thread that waits for rollouts raises it.
            finished.put(error)
            return


def _next(finished: queue.SimpleQueue) -> tuple[ServedRollout, Trajectory]:
    """The next finished rollout; raises the error of one that failed."""
    while True:
        try:
            found = finished.get(timeout=_LOOK_S)
        except queue.Empty:
            continue
        if isinstance(found, BaseException):
            raise found
        return found
