"""Calls in threads that do not keep the process alive."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(function: Callable[[], T]) -> "Future[T]":
    """Calls a function in a daemon thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            # Not swallowed: `future.result()` raises it.
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
