"""The HTTP connection, with an end to every client's slowness.

uvicorn bounds the pause between two requests, but neither the time in which a request's head arrives, nor
an upload nobody reads any more, nor a client that does not read its answer. Here each has a deadline,
after which the connection is cut.
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
    """One connection; patient, but not for ever."""

    head_seconds: ClassVar[float] = HEAD_SECONDS
    leftover_seconds: ClassVar[float] = LEFTOVER_SECONDS
    answer_seconds: ClassVar[float] = ANSWER_SECONDS

    _reading_deadline: asyncio.TimerHandle | None = None
    _reading_for: str = ""
    _writing_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request's head."""
        super().connection_made(transport)
        self._expect("head", self.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Take what came, and expect what is still missing."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Begin to wait for what is left of the upload, or for the next request."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect("", 0)
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Expect the client to read its answer."""
        super().pause_writing()
        if self._writing_deadline is None:
            self._writing_deadline = self.loop.call_later(self.answer_seconds, self._cut)

    def resume_writing(self) -> None:
        """The client reads."""
        if self._writing_deadline is not None:
            self._writing_deadline.cancel()
            self._writing_deadline = None
        super().resume_writing()

    def _look(self) -> None:
        theirs, ours = self.conn.their_state, self.conn.our_state
        if theirs is h11.IDLE and _has_unread(self.conn):
            self._expect("head", self.head_seconds)  # a head that began and has not ended
        elif theirs is h11.SEND_BODY and ours in (h11.DONE, h11.MUST_CLOSE):
            self._expect("leftover", self.leftover_seconds)  # answered, and they are still sending
        else:
            self._expect("", 0)  # the route bounds its reading, uvicorn the pause between requests

    def _expect(self, what: str, seconds: float) -> None:
        """Cut the connection in `seconds`; what is expected already keeps its deadline."""
        if what == self._reading_for:
            return
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
            self._reading_deadline = None
        self._reading_for = what
        if what:
            self._reading_deadline = self.loop.call_later(seconds, self._cut)

    def _cut(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abort()


def _has_unread(connection: h11.Connection) -> bool:
    return bool(connection.trailing_data[0])
