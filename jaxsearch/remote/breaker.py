"""A circuit breaker: a server that keeps failing is left alone for a while."""

import time

_NUM_FAILURES = 3
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 30.0
_FORGIVEN_S = 1.0


class Breaker:
    """Counts a server's failures in a row.

    After three, or one that took the whole time limit, it opens: the server rests for a
    second. Then it is to be probed, and rests twice as long after each probe that
    fails, up to half a minute. Not thread-safe: its owner has a lock.
    """

    def __init__(self):
        self._num_failures = 0
        self._failed_at = -_FORGIVEN_S
        self._rest_s = _FIRST_REST_S
        self._rests_until = 0.0
        self.is_open = False

    @property
    def seconds_left(self) -> float:
        """Seconds for which the server rests; 0.0 if it may be asked or probed."""
        return max(0.0, self._rests_until - time.monotonic())

    @property
    def recent_failures(self) -> int:
        """Failures in a row, if the last one was within a second."""
        is_recent = time.monotonic() - self._failed_at < _FORGIVEN_S
        return self._num_failures if is_recent else 0

    def answered(self) -> None:
        """Closes the breaker."""
        self._num_failures = 0
        self._rest_s = _FIRST_REST_S
        self._rests_until = 0.0
        self.is_open = False

    def failed(self, *, took_long: bool) -> None:
        """Counts a failure of a request or a probe, and may open the breaker."""
        self._failed_at = time.monotonic()
        self._num_failures += 1
        # Requests in progress when the breaker opened do not count as further failures.
        if self._num_failures < _NUM_FAILURES and not took_long or self.seconds_left:
            return
        self.is_open = True
        self._rests_until = self._failed_at + self._rest_s
        self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)

    def is_busy_for(self, seconds: float) -> None:
        """Lets the server rest because it asked for it, which is not a failure."""
        rests_until = time.monotonic() + min(seconds, 2 * _LONGEST_REST_S)
        self._rests_until = max(self._rests_until, rests_until)
