"""The event loop of `async` rewards."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Coroutine, Sequence
from typing import Any


def gathered(values: Sequence[Any]) -> list[Any]:
    """The values, with the results of coroutines in their place."""

    async def gather() -> list[Any]:
        return await asyncio.gather(
            *(value for value in values if inspect.iscoroutine(value)),
            return_exceptions=True,
        )

    if not any(map(inspect.iscoroutine, values)):
        return list(values)
    results = iter(run(gather()))
    found = [next(results) if inspect.iscoroutine(v) else v for v in values]
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine in the event loop of rewards.

    A notebook has a loop of its own in this thread; and what a reward keeps between
    steps, such as connections, belongs to the loop in which it was made.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _event_loop())
    try:
        return future.result()
    finally:
        future.cancel()  # after Ctrl-C; without effect once it is done


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="rewards", daemon=True).start()
    return loop
