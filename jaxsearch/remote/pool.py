"""Several servers of one index: the one with the least to do is asked."""

import concurrent.futures
import contextlib
import functools
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from jaxsearch.remote.breaker import Breaker
from jaxsearch.remote.connection import Connection, TimedOutError
from jaxsearch.remote.threads import in_thread
from jaxsearch.search.index import (
    BusySearchError,
    Hit,
    RefusedSearchError,
    SearchError,
)

# A server that has kept a request for four times the usual time is slow: another one
# is asked as well. Bounds of that time, in seconds, the second without any answer yet.
_SLOW_FACTOR = 4.0
_SHORTEST_PATIENCE_S = 0.5
_FIRST_PATIENCE_S = 1.0
_NUM_TIMES = 64
_SHORTEST_RETRY_S = 0.25

Ask = Callable[[Connection], list[list[Hit]]]
Probe = Callable[[Connection], None]


class ServerState(NamedTuple):
    """Counts of a server so far, and whether its circuit breaker is open."""

    url: str
    num_requests: int
    num_errors: int
    is_open: bool


class Server:
    """A server of a pool, which alone changes it, under its lock."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.breaker = Breaker()
        self.started: list[float] = []
        self.is_probed = False
        self.num_requests = 0
        self.num_errors = 0
        self.last_error = ""

    def load(self, patience: float) -> tuple[bool, int, int, int]:
        """Sort key of the servers; the smallest is asked next."""
        oldest = min(self.started, default=time.monotonic())
        is_slow = time.monotonic() - oldest > patience
        failures = self.breaker.recent_failures
        return is_slow, failures, len(self.started), self.num_requests


class ServerPool:
    """Asks the servers of one index, each for a share of the requests.

    Several threads may ask at once. Threads of requests do not keep the process alive.

    Args:
      servers: the servers.
      max_requests: maximum number of requests in progress at once.
      probe: checks a server that has rested; raises SearchError if it is not to be used
        again yet.
    """

    def __init__(self, servers: Sequence[Server], *, max_requests: int, probe: Probe):
        self._servers = servers
        self._probe = probe
        self._max_requests = max_requests
        self._slots = threading.BoundedSemaphore(max_requests)
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=_NUM_TIMES)

    @property
    def states(self) -> list[ServerState]:
        """The state of each server, in their order."""
        with self._lock:
            return [
                ServerState(
                    url=one.connection.url,
                    num_requests=one.num_requests,
                    num_errors=one.num_errors,
                    is_open=one.breaker.is_open,
                )
                for one in self._servers
            ]

    def answer(self, ask: Ask, timeout_s: float) -> list[list[Hit]]:
        """The answer of a server, or of the first of two if the first one is slow.

        Raises:
          SearchError: that of the server, or if none can be asked; a subclass says
            whether to ask again.
        """
        if not self._slots.acquire(timeout=timeout_s):
            raise SearchError(
                f"{self._max_requests} requests are under way, and none ended within "
                f"{timeout_s:g} s"
            )
        first = self._reserved(())
        if len(self._servers) == 1:
            return self._asked(first, ask)
        asked = [in_thread(lambda: self._asked(first, ask))]
        concurrent.futures.wait(asked, self._patience)
        # A free slot for the second request is not waited for.
        if not asked[0].done() and self._slots.acquire(blocking=False):
            # Without another server at the moment, the first one is waited for.
            with contextlib.suppress(BusySearchError):
                second = self._reserved((first,), asked)
                asked.append(in_thread(lambda: self._asked(second, ask)))
        return _first_good(asked)

    def _reserved(
        self, excluded: Collection[Server], answers: Collection[Future] = ()
    ) -> Server:
        """The server to ask next, for which a request is counted.

        Args:
          excluded: servers that are not asked.
          answers: requests whose end makes another server unnecessary, so that probes
            are not waited for any longer.

        Raises:
          BusySearchError: if all of them rest; the slot is free again then.
        """
        probes = set(self._start_probes())
        server = self._chosen(excluded)
        # One server that answers its probe is enough; others may hang in theirs.
        while server is None and probes and not any(one.done() for one in answers):
            ended, _ = concurrent.futures.wait(
                {*probes, *answers}, return_when=concurrent.futures.FIRST_COMPLETED
            )
            probes -= ended
            server = self._chosen(excluded)
        if server is not None:
            return server
        self._slots.release()
        with self._lock:
            seconds = min(one.breaker.seconds_left for one in self._servers)
            errors = "; ".join(filter(None, (one.last_error for one in self._servers)))
        seconds = max(seconds, _SHORTEST_RETRY_S)
        raise BusySearchError(
            f"no server to ask for {seconds:.1f} s: {errors}", seconds
        )

    def _start_probes(self) -> list[Future]:
        """Starts to probe the servers that have rested."""
        with self._lock:
            due = [
                one
                for one in self._servers
                if one.breaker.is_open
                and not one.breaker.seconds_left
                and not one.is_probed
            ]
            for one in due:
                one.is_probed = True
        return [in_thread(functools.partial(self._probed, one)) for one in due]

    def _chosen(self, excluded: Collection[Server]) -> Server | None:
        """The server with the least to do, for which a request is counted; or None."""
        patience = self._patience
        with self._lock:
            ready = [
                one
                for one in self._servers
                if one not in excluded
                and not one.breaker.is_open
                and not one.breaker.seconds_left
            ]
            if not ready:
                return None
            chosen = min(ready, key=lambda one: one.load(patience))
            chosen.num_requests += 1
            return chosen

    def _probed(self, server: Server) -> None:
        try:
            self._probe(server.connection)
        except SearchError as error:
            with self._lock:
                server.last_error = str(error)
                server.breaker.failed(took_long=True)
        else:
            with self._lock:
                server.breaker.answered()
        finally:
            with self._lock:
                server.is_probed = False

    def _asked(self, server: Server, ask: Ask) -> list[list[Hit]]:
        """The answer of a server, whose breaker counts what happened."""
        started = time.monotonic()
        with self._lock:
            server.started.append(started)
        try:
            hits = ask(server.connection)
        except SearchError as error:
            with self._lock:
                server.num_errors += 1
                server.last_error = str(error)
                if isinstance(error, BusySearchError):
                    server.breaker.is_busy_for(error.retry_after_s)
                elif not isinstance(error, RefusedSearchError):
                    took_long = isinstance(error, TimedOutError)
                    server.breaker.failed(took_long=took_long)
            raise
        else:
            with self._lock:
                server.breaker.answered()
                self._times.append(time.monotonic() - started)
        finally:
            with self._lock:
                server.started.remove(started)
            self._slots.release()
        return hits

    @property
    def _patience(self) -> float:
        """Seconds after which a request takes unusually long."""
        with self._lock:
            times = list(self._times)
        if not times:
            return _FIRST_PATIENCE_S
        return max(_SHORTEST_PATIENCE_S, _SLOW_FACTOR * statistics.median(times))


def _first_good(asked: list[Future]) -> list[list[Hit]]:
    """The first answer; if all requests failed, the error of the first one."""
    for future in concurrent.futures.as_completed(asked):
        if future.exception() is None:
            return future.result()
    return asked[0].result()
