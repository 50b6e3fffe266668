"""One connection, with time limits that uvicorn's own does not have."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def timed_protocol(*, read_s: float, write_s: float) -> type[H11Protocol]:
    """A protocol that closes the connections of clients that are too slow.

    Args:
      read_s: for the head of a request, from the connection or its first byte on.
      write_s: for the client to take what was written.
    """

    class TimedProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            # `pause_writing` is called as soon as anything is left to write.
            transport.set_write_buffer_limits(high=0)
            self._watch_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_head()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._head_timer, self._write_timer):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(write_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def _watch_head(self) -> None:
            """Times the client while no request of this connection is being answered.

            The rest of a body whose request was answered already is timed too.
            """
            is_waiting = self.cycle is None or self.cycle.response_complete
            if is_waiting and self._head_timer is None:
                self._head_timer = self.loop.call_later(read_s, self._close_if_waiting)
            elif not is_waiting and self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _close_if_waiting(self) -> None:
            self._head_timer = None
            self.transport.close()

    return TimedProtocol
