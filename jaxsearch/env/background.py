"""Calls beside the caller's own thread, which nobody has to wait for."""

import concurrent.futures
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Background(concurrent.futures.Executor):
    """One daemon thread that makes the calls it is given, in order.

    The process may end while one hangs. (Threads of a ThreadPoolExecutor are waited
    for, by `shutdown` and when the process exits, however long a call takes.)
    """

    def __init__(self):
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._calls,), daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        self._calls.put((future, functools.partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Drops the calls that wait, and leaves the one under way to itself."""
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
            # Handed over, not swallowed: `future.result()` raises it.
            future.set_exception(error)
