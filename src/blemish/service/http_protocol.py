"""HTTP connections with a time limit for every slow client.

uvicorn limits the pause between two requests, but not the time in which the head of a request arrives, an
upload that continues after its refusal, or a client that does not read its answer. Here each has a
deadline, after which the connection is closed.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
LEFTOVER_SECONDS = 10.0
ANSWER_SECONDS = 30.0


class TimeoutH11Protocol(H11Protocol):
    """One HTTP/1.1 connection that is closed if its client is too slow.

    Attributes:
        head_seconds: maximum time for the head of a request.
        leftover_seconds: maximum time for the rest of an upload that has been answered already.
        answer_seconds: maximum time during which a client does not read its answer.
    """

    head_seconds: ClassVar[float] = HEAD_SECONDS
    leftover_seconds: ClassVar[float] = LEFTOVER_SECONDS
    answer_seconds: ClassVar[float] = ANSWER_SECONDS

    _read_timer: asyncio.TimerHandle | None = None
    _read_phase: str = ""
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the head of the first request."""
        super().connection_made(transport)
        self._start_read_timer("head", self.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Pass data on, and set the timer for the data that is still missing."""
        super().data_received(data)
        self._update_read_timer()

    def on_response_complete(self) -> None:
        """Set the timer for the rest of the upload or for the next request."""
        super().on_response_complete()
        self._update_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
        self._start_read_timer("", 0)
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read its answer."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.answer_seconds, self._abort)

    def resume_writing(self) -> None:
        """Stop the timer for a client that does not read its answer."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _update_read_timer(self) -> None:
        theirs, ours = self.conn.their_state, self.conn.our_state
        if theirs is h11.IDLE and _has_unread_data(self.conn):
            self._start_read_timer("head", self.head_seconds)  # a head that has begun and not ended
        elif theirs is h11.SEND_BODY and ours in (h11.DONE, h11.MUST_CLOSE):
            self._start_read_timer("leftover", self.leftover_seconds)  # answered, and still uploading
        else:
            self._start_read_timer("", 0)  # the route limits its upload, uvicorn the pause between requests

    def _start_read_timer(self, phase: str, seconds: float) -> None:
        """Close the connection in `seconds`, unless the phase has begun already; "" stops the timer."""
        if phase == self._read_phase:
            return
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        self._read_phase = phase
        if phase:
            self._read_timer = self.loop.call_later(seconds, self._abort)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abort()


def _has_unread_data(connection: h11.Connection) -> bool:
    return bool(connection.trailing_data[0])
