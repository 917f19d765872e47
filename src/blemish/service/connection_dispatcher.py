"""Accepts connections in a thread that answers health checks itself and hands all others to the server.

Uploads keep the server's event loop busy: under many clients an answer waits until every other connection has
had its turn. A health check that waits as long is taken for a dead server, which is then restarted under the
very load that made it slow. So the connections are accepted here; the first bytes of each are inspected and
left in the socket, and the socket goes to the event loop of this thread or to that of the server.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any

HEALTH_PATHS = (b"/api/v1/health/", b"/v2/health/")
_HEALTH_REQUESTS = tuple(method + path for path in HEALTH_PATHS for method in (b"GET ", b"HEAD "))
_NUM_PEEKED = max(map(len, _HEALTH_REQUESTS))
_NUM_ACCEPTED_AT_ONCE = 64
_NUM_GIVEN_UP_AT_ONCE = 16
_RETRY_SECONDS = 0.5  # after the process has run out of file descriptors
_CLOSE_SECONDS = 2.0

ProtocolFactory = Callable[[], asyncio.Protocol]


class ConnectionDispatcher:
    """The thread that accepts connections.

    A connection whose first request is a health check is answered by this thread; the protocol of
    `health_protocol` closes it after one answer. All others, also those that send less than the beginning of
    a request at first, are connections of the server's event loop.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        *,
        server_loop: asyncio.AbstractEventLoop,
        server_protocol: ProtocolFactory,
        health_protocol: ProtocolFactory,
        head_seconds: float,
    ) -> None:
        """Start the thread.

        Args:
            listeners: the listening sockets; `close` does not close them.
            server_loop: the event loop of the server.
            server_protocol: returns the protocol of one connection of the server.
            health_protocol: returns the protocol of one connection with a health check.
            head_seconds: maximum time until the first byte of a connection.
        """
        self._listeners = listeners
        self._server_loop = server_loop
        self._server_protocol, self._health_protocol = server_protocol, health_protocol
        self._head_seconds = head_seconds
        self._tasks: set[asyncio.Future[Any]] = set()
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        # The default loop of Windows cannot wait for a socket that it does not read from.
        self._loop = asyncio.SelectorEventLoop(selectors.DefaultSelector())
        self._thread = threading.Thread(target=self._run, name="blemish-connections", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting connections, and end the thread."""
        try:
            self._loop.call_soon_threadsafe(self._loop.stop)
        except RuntimeError:  # the loop has been closed already
            return
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for listener in self._listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)
        try:
            self._loop.run_forever()
        finally:
            for listener in self._listeners:
                self._loop.remove_reader(listener)
            for connection in list(self._silent):
                self._forget(connection)
                connection.close()
            tasks = asyncio.all_tasks(self._loop)
            if tasks:  # the answers in progress
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSE_SECONDS / 2))
            self._loop.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_NUM_ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # No file descriptor is free. Those that have waited longest for a first byte are given up;
                # without any, the clients wait in the queue of the operating system.
                if self._silent:
                    for oldest in list(self._silent)[:_NUM_GIVEN_UP_AT_ONCE]:
                        self._give_up(oldest)
                    return
                self._loop.remove_reader(listener)
                self._loop.call_later(_RETRY_SECONDS, self._accept_again, listener)
                return
            connection.setblocking(False)
            self._silent[connection] = self._loop.call_later(self._head_seconds, self._give_up, connection)
            self._loop.add_reader(connection, self._dispatch, connection)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept, listener)

    def _dispatch(self, connection: socket.socket) -> None:
        """Hand a connection over once it can be read, without taking anything out of it."""
        self._forget(connection)
        try:
            head = connection.recv(_NUM_PEEKED, socket.MSG_PEEK)
        except OSError:
            head = b""
        if not head:
            connection.close()
        elif head.startswith(_HEALTH_REQUESTS):
            self._adopt(self._loop, self._health_protocol, connection)
        else:
            self._server_loop.call_soon_threadsafe(
                self._adopt, self._server_loop, self._server_protocol, connection
            )

    def _adopt(
        self, loop: asyncio.AbstractEventLoop, protocol: ProtocolFactory, connection: socket.socket
    ) -> None:
        """Make a socket a connection of an event loop, in the thread of that loop."""
        task = loop.create_task(loop.connect_accepted_socket(protocol, connection))
        self._tasks.add(task)
        task.add_done_callback(self._on_adopted)

    def _on_adopted(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the client has disconnected meanwhile

    def _give_up(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        self._silent.pop(connection).cancel()
