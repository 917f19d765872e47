"""Connections: health checks while the event loop of the server is stuck, and all others on that loop."""

import asyncio
import errno
import socket
import sys
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest

from blemish.service import server
from blemish.service.app import create_app
from blemish.service.connection_dispatcher import ConnectionDispatcher

LIVE, READY = "/api/v1/health/live", "/api/v1/health/ready"


@pytest.fixture
def stuck(app, address, tools):
    """The address of a server whose event loop does nothing until the end of the test."""
    blocked, release = threading.Event(), threading.Event()
    served = app.state.service.models["resnet"]
    submit = served.batcher.submit

    async def submit_and_block(*args, **options):
        blocked.set()
        release.wait(tools.timeout_seconds)
        return await submit(*args, **options)

    served.batcher.submit = submit_and_block
    request = tools.in_background(tools.post, f"{address}/api/v1/predict", files={"image": tools.image()})
    assert blocked.wait(tools.timeout_seconds)
    try:
        yield address
    finally:
        served.batcher.submit = submit
        release.set()
        assert request.result().status_code == 200


@pytest.mark.parametrize("path", [LIVE, READY])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_while_the_event_loop_is_stuck(stuck, path, method):
    answer = httpx.request(method, stuck + path, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_health_and_other_requests_on_one_client(client, tools):
    for _ in range(2):
        assert client.get(LIVE).json() == {"schema_version": 1, "status": "live"}
        assert client.post("/api/v1/predict", files={"image": tools.image()}).status_code == 200
    assert client.get("/api/v1/health/other").status_code == 404
    assert client.get(LIVE, params={"x": 1}).status_code == 422


def exchange(address, *pieces):
    """Send pieces on one connection, then return everything that the server sends until it closes it."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("pieces", [(b"GE", b"T "), (b"GET /api/v1/hea", b"lth/live ")])
def test_health_in_pieces(address, pieces):
    path = b"" if pieces[-1].endswith(b"live ") else LIVE.encode() + b" "
    answer = exchange(address, *pieces, path + b"HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b'"live"') == 1


def test_second_request_behind_a_health_check_is_not_answered(address):
    request = f"GET {LIVE} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    assert exchange(address, request + b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", [LIVE, "/api/v1/predict", "/", "/unknown"])
def test_content_length_with_transfer_encoding_closes_the_connection(address, path):
    hidden = f"GET {LIVE} HTTP/1.1\r\nHost: a\r\n\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(hidden)}\r\nTransfer-Encoding: chunked\r\n"
    )
    answer = exchange(address, f"{head}\r\n0\r\n\r\n{hidden}".encode())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"ambiguous-length" in answer or b'"detail"' in answer


def test_live_reports_an_event_loop_that_is_stuck_for_long(model_folder, monkeypatch):
    app = create_app({"a": model_folder / "resnet.onnx"}, threads=1)

    async def get():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            return await client.get(LIVE)

    assert asyncio.run(get()).status_code == 200
    app.state.service.loop_seen_at = time.monotonic() - 30
    assert asyncio.run(get()).status_code == 200
    app.state.service.loop_seen_at = time.monotonic() - 61
    answer = asyncio.run(get())
    assert (answer.status_code, answer.json()["code"]) == (503, "not-live")


@contextmanager
def dispatcher(head_seconds=60.0):
    """Run a dispatcher whose connections close at once, and yield its address and itself."""
    listener = server.listen("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    class Answer(asyncio.Protocol):
        def __init__(self, text):
            self.text = text

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(self.text)
            self.transport.close()

    made = ConnectionDispatcher(
        [listener],
        server_loop=loop,
        server_protocol=lambda: Answer(b"server"),
        health_protocol=lambda: Answer(b"health"),
        head_seconds=head_seconds,
    )
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", made
    finally:
        made.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
        listener.close()


def test_connections_are_dispatched_by_their_first_bytes():
    with dispatcher() as (address, _):
        for head, answer in (
            (b"GET /api/v1/health/live HTTP/1.1\r\n", b"health"),
            (b"HEAD /api/v1/health/ready HTTP/1.1\r\n", b"health"),
            (b"POST /api/v1/health/live HTTP/1.1\r\n", b"server"),
            (b"GET /api/v1/healthy HTTP/1.1\r\n", b"server"),
            (b"G", b"server"),
            (b"\0", b"server"),
        ):
            assert exchange(address, head) == answer


def test_silent_connection_is_closed():
    with dispatcher(head_seconds=0.1) as (address, _):
        assert exchange(address) == b""


def test_close_ends_silent_connections(tools):
    with dispatcher() as (address, made):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            tools.wait_until(lambda: made._silent)
            made.close()
            made.close()  # a second time has no effect
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit file descriptors this way")
def test_silent_connections_do_not_use_up_the_file_descriptors(monkeypatch):
    accept, held = socket.socket.accept, []

    def accept_few(listener):
        accepted = accept(listener)
        held.append(weakref.ref(accepted[0]))
        if sum(ref() is not None and ref().fileno() >= 0 for ref in held) > 20:
            accepted[0].close()
            raise OSError(errno.EMFILE, "Too many open files")
        return accepted

    with dispatcher() as (address, _), ExitStack() as stack:
        monkeypatch.setattr(socket.socket, "accept", accept_few)
        host, port = address.removeprefix("http://").split(":")
        for _ in range(40):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
        answers: list[Any] = []
        while b"health" not in answers and len(answers) < 100:  # one attempt may be the one that is refused
            with suppress(ConnectionResetError):
                answers.append(exchange(address, b"GET /api/v1/health/live HTTP/1.1\r\n"))
        assert b"health" in answers
