"""An executor whose thread does not keep the process alive."""

import concurrent.futures
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class DaemonExecutor(concurrent.futures.Executor):
    """Runs calls in order, in one daemon thread.

    The process can exit while a call hangs. The threads of a ThreadPoolExecutor would
    be joined by `shutdown` and at exit, however long a call takes.
    """

    def __init__(self):
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._calls,), daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Queues a call; the returned future gets its result or exception."""
        future: Future = Future()
        self._calls.put((future, functools.partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Cancels the queued calls, without waiting for the running one."""
        with contextlib.suppress(queue.Empty):
            while True:
                future, _ = self._calls.get_nowait()
                future.cancel()
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
