"""An executor whose threads do not keep the process alive."""

import concurrent.futures
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class DaemonExecutor(concurrent.futures.Executor):
    """Starts calls in order, in daemon threads.

    The process can exit while a call hangs. The threads of a ThreadPoolExecutor would
    be joined by `shutdown` and at exit, however long a call takes.

    Args:
      num_threads: number of calls that run at once.
    """

    def __init__(self, num_threads: int = 1):
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._num_threads = num_threads
        for _ in range(num_threads):
            threading.Thread(target=_work, args=(self._calls,), daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Queues a call; the returned future gets its result or exception."""
        future: Future = Future()
        self._calls.put((future, functools.partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Cancels the queued calls, without waiting for those that run."""
        with contextlib.suppress(queue.Empty):
            while True:
                future, _ = self._calls.get_nowait()
                future.cancel()
        for _ in range(self._num_threads):
            self._calls.put(None)


def _work(calls: queue.SimpleQueue) -> None:
    while (call := calls.get()) is not None:
        future, function = call
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(function())
        except BaseException as error:
            # Not swallowed: `future.result()` raises it.
            future.set_exception(error)
