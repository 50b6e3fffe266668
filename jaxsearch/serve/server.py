"""Runs the application with uvicorn until a signal ends it."""

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn

from jaxsearch.serve.app import SearchApp
from jaxsearch.serve.connection import timed_protocol

# After `limits.stop_s`, requests are refused. If the server has not ended this many
# seconds later, because the machine is busy with other work, it is ended.
_LATE_S = 2.0
# Seconds for which a thread may hold Python's lock while others wait for it. With the
# default of 5 ms, the event loop waits that long after each of its system calls while
# a thread encodes queries.
_SWITCH_INTERVAL = 0.0005
_BACKLOG = 2048


class SearchServer(uvicorn.Server):
    """A server that can be stopped from any thread.

    Stopping closes the port and idle connections. Requests under way have
    `limits.stop_s` to be answered; those that wait still are refused then.

    Args:
      app: the application.
      listener: the socket that listens.
      at_deadline: called in another thread if the event loop has not ended two seconds
        after that.
    """

    def __init__(
        self,
        app: SearchApp,
        listener: socket.socket,
        *,
        at_deadline: Callable[[], None] = lambda: None,
    ):
        limits = app.limits
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=timed_protocol(read_s=limits.read_s, write_s=limits.write_s),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=limits.max_connections,
                backlog=_BACKLOG,
                timeout_keep_alive=limits.idle_s,
                timeout_graceful_shutdown=limits.stop_s + 1,
                h11_max_incomplete_event_size=limits.max_header_bytes,
            )
        )
        self._app = app
        self._listener = listener
        self._at_deadline = at_deadline
        self._is_stopping = threading.Event()
        self._ended = threading.Event()

    def serve_until_stopped(self) -> None:
        """Answers requests in this thread until `stop` or SIGTERM."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        try:
            self.run(sockets=[self._listener])
        finally:
            sys.setswitchinterval(interval)
            self._ended.set()

    def stop(self) -> None:
        """Begins to stop."""
        self.should_exit = True
        if not self._is_stopping.is_set():
            self._is_stopping.set()
            # Not a timer of the event loop, which is what may be late.
            threading.Thread(target=self._watch_deadline, daemon=True).start()

    def _watch_deadline(self) -> None:
        if not self._ended.wait(self._app.limits.stop_s + _LATE_S):
            self._at_deadline()

    def wait(self) -> None:
        """Waits until the server has stopped, or is late."""
        # Less than to the deadline: whoever waits may end the process otherwise.
        self._ended.wait(self._app.limits.stop_s + _LATE_S / 2)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn to stop."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._app.limits.stop_s, self._app.stop)
        await super().shutdown(sockets)
        timer.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Called by uvicorn; its own would end the process with SIGTERM's status."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handler = signal.signal(signal.SIGTERM, lambda number, frame: self.stop())
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, handler)
