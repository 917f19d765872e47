"""The HTTP server: uvicorn with its signals and its log."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from blemish.errors import BadInput
from blemish.service.connection_dispatcher import ConnectionDispatcher
from blemish.service.http_protocol import TimeoutH11Protocol

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from blemish.service.inference_service import InferenceService

DRAIN_SECONDS = 25  # the end itself takes a few more: container engines kill a process after 30
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "blemish.service": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}


class Server(uvicorn.Server):
    """A uvicorn server that sets `draining` at the first signal, and then ends with exit status 0."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=TimeoutH11Protocol,
                ws="none",
                lifespan="on",
                log_config=_LOGGING,
                access_log=False,  # paths contain private tokens; /metrics counts requests
                server_header=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._service: InferenceService = app.state.service
        self._dispatcher: ConnectionDispatcher | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and accept connections in a thread of their own."""
        await super().startup(sockets=[])
        health_state = _HealthState(self.server_state)

        def protocol(state: ServerState, loop: asyncio.AbstractEventLoop | None = None) -> TimeoutH11Protocol:
            return TimeoutH11Protocol(self.config, state, self.lifespan.state, loop)

        self._dispatcher = ConnectionDispatcher(
            sockets or [],
            server_loop=asyncio.get_running_loop(),
            server_protocol=lambda: protocol(self.server_state),
            health_protocol=lambda: protocol(health_state),
            head_seconds=TimeoutH11Protocol.head_seconds,
        )

    async def on_tick(self, counter: int) -> bool:
        """Record that the event loop runs; called by uvicorn ten times a second."""
        self._service.loop_seen_at = time.monotonic()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and finish the requests in progress."""
        if self._dispatcher is not None:
            self._dispatcher.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests and finish those in progress; a second Ctrl+C does not wait for them."""
        self._service.draining = True
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


class _HealthState(ServerState):
    """The state of connections with a health check: closed after one answer, with the server's headers."""

    def __init__(self, server_state: ServerState) -> None:
        super().__init__()
        self._server_state = server_state

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every answer."""
        return [*self._server_state.default_headers, (b"connection", b"close")]

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        pass  # set by the parent's constructor


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: a host name or IP address of this machine.
        port: the port; 0 selects a free one.

    Raises:
        BadInput: the address does not exist, is in use, or is not one of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadInput(
            f"--host: expected an address of this machine such as 127.0.0.1 or 0.0.0.0, got {host!r}",
            reason="host",
        ) from error
    try:
        if sys.platform != "win32":  # on Windows it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Here, and not after the models are loaded: clients that connect early wait and are not refused.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise BadInput(
            f"{host}:{port} cannot be used ({error.strerror}). Stop the other server, "
            "or choose another --port.",
            reason="address-in-use",
        ) from error
    return listener


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl+C, then finish the requests in progress, for at most 25 seconds."""
    with contextlib.closing(listener):
        Server(app).run([listener])
