"""Running the service: uvicorn, its signals, and its log."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from blemish.errors import BadInput
from blemish.service.http_protocol import TimeoutH11Protocol

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from blemish.service.inference_service import InferenceService

DRAIN_SECONDS = 25  # and the end itself takes a few: container engines kill after 30
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
    """uvicorn, which tells the service as soon as it has to stop, and then ends without an error."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=TimeoutH11Protocol,
                ws="none",
                lifespan="on",
                log_config=_LOGGING,
                access_log=False,  # paths hold private tokens; /metrics counts requests
                server_header=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._desk: InferenceService = app.state.desk

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse what is new and finish what has begun; a second Ctrl+C does not wait for it."""
        self._desk.draining = True
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to that address; port 0 takes any that is free.

    Raises:
        BadInput: the address is taken or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadInput(f"--host {host}: no such address; take 127.0.0.1 or 0.0.0.0") from error
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Here, and not once the models are loaded: whoever connects early waits and is not refused.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise BadInput(
            f"{host}:{port} cannot be listened on ({error.strerror}); is it in use? take another --port"
        ) from error
    return listener


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl+C, then finish what has begun, for at most 25 seconds."""
    with contextlib.closing(listener):
        Server(app).run([listener])
