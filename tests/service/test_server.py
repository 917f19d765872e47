"""The service in a process of its own: start, stop, slow clients, and what stays behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from blemish.testing import raises

# After the warm-up, the forward pass writes a line and waits for a byte on standard input if "held" is set.
# It reads without Python's lock of sys.stdin, which would stop the interpreter from ending.
SCRIPT = """
import os, sys
from blemish.service import server
from blemish.service.app import create_app
from blemish.service.http_protocol import TimeoutH11Protocol
model, held, drain_seconds, client_seconds = sys.argv[1:]
server.DRAIN_SECONDS = float(drain_seconds)
for name in ("head_seconds", "leftover_seconds", "answer_seconds"):
    setattr(TimeoutH11Protocol, name, float(client_seconds))
app = create_app({"a": model}, threads=1)
served = app.state.service.models["a"]
predict_batch = served.predict_batch
def held_batch(batch):
    if held == "held" and served.ready:
        print("running", flush=True)
        os.read(0, 1)
    return predict_batch(batch)
served.predict_batch = held_batch
listener = server.listen("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
server.run(app, listener)
"""
CLIENT_SECONDS = 1.5  # of a client's slowness, after which the connection is closed


@contextmanager
def process(tools, model, *, held=False, cwd=None, drain_seconds=25.0, client_seconds=30.0):
    """Run a server in a process, and yield the process and its port."""
    arguments = [str(model), "held" if held else "", str(drain_seconds), str(client_seconds)]
    server = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
    )
    try:
        port = int(server.stdout.readline())
        ready = f"http://127.0.0.1:{port}/api/v1/health/ready"
        tools.wait_until(lambda: tools.get(ready).status_code == 200)
        yield server, port
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate(timeout=tools.timeout_seconds)


def ready_code(port):
    """Return the problem code of `health/ready`, "" if it is ready, or "closed" if no server listens."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/v1/health/ready", timeout=30).json().get("code", "")
    except httpx.TransportError:
        return "closed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be caught")
def test_server_finishes_requests_in_progress_at_sigterm(model_folder, tools):
    with process(tools, model_folder / "resnet.onnx", held=True) as (server, port):
        url = f"http://127.0.0.1:{port}/api/v1/predict"
        request = tools.in_background(tools.post, url, files={"image": tools.image()})
        assert server.stdout.readline() == "running\n"
        server.send_signal(signal.SIGTERM)
        tools.wait_until(lambda: ready_code(port) in ("draining", "closed"))
        assert server.poll() is None
        os.write(server.stdin.fileno(), b"x")
        assert request.result().status_code == 200
        assert server.wait(tools.timeout_seconds) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be caught")
def test_server_stops_after_the_drain_time_at_sigterm(model_folder, tools):
    model = model_folder / "resnet.onnx"
    with process(tools, model, held=True, drain_seconds=0.5) as (server, port):
        url = f"http://127.0.0.1:{port}/api/v1/predict"
        # One is in the network, which never finishes, and one waits behind it.
        requests = [tools.in_background(tools.post, url, files={"image": tools.image()}) for _ in range(2)]
        assert server.stdout.readline() == "running\n"
        in_progress = 'blemish_images_in_progress{model="a"} 2.0\n'
        tools.wait_until(lambda: in_progress in tools.get(f"http://127.0.0.1:{port}/metrics").text)
        server.send_signal(signal.SIGTERM)
        assert server.wait(tools.timeout_seconds) == 0
        answers = [request.result() for request in requests]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert {answer.json()["code"] for answer in answers} == {"draining"}


@pytest.fixture(scope="module")
def port(model_folder, tools, tmp_path_factory):
    """The port of a server that soon closes the connections of slow clients."""
    folder = tmp_path_factory.mktemp("empty")
    model = model_folder / "resnet.onnx"
    with process(tools, model, cwd=folder, client_seconds=CLIENT_SECONDS) as (_, number):
        yield number


@pytest.fixture
def connection(port, tools):
    with socket.create_connection(("127.0.0.1", port), timeout=tools.timeout_seconds) as connected:
        yield connected


def is_closed(connection):
    """Return whether the server closes the connection in time, after reading what it sends."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def send_slowly(connection, data):
    """Send bytes one by one until the server closes the connection, and return whether it does."""
    try:
        for i in range(len(data)):
            connection.sendall(data[i : i + 1])
            time.sleep(0.05)
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_connection_with_an_incomplete_head_is_closed(connection, begun):
    connection.sendall(begun)
    assert is_closed(connection)


def test_connection_with_a_slow_head_is_closed(connection):
    assert send_slowly(connection, b"GET /" + b"a" * 1000)


def test_connection_that_uploads_after_its_refusal_is_closed(connection):
    connection.sendall(
        b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 1000000\r\n\r\n"
    )
    assert b" 415 " in connection.recv(65536)
    assert send_slowly(connection, bytes(1000))


def test_connection_that_does_not_read_is_closed(port, tools, connection):
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with pytest.raises(ConnectionError):
        while True:  # answers of 40 kB each that the client does not read
            connection.sendall(request)
    assert tools.get(f"http://127.0.0.1:{port}/api/v1/health/live").status_code == 200


def test_connection_may_pause_between_requests(port, tools):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=tools.timeout_seconds) as client:
        for _ in range(2):
            assert client.post("/api/v1/predict", files={"image": tools.image()}).status_code == 200
            time.sleep(CLIENT_SECONDS + 0.5)  # a pause between requests is not a slow head


def open_files(pid):
    """Return the number of open files of a process, or None if the operating system does not report it."""
    folder = Path(f"/proc/{pid}/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else None


def test_aborted_uploads_leave_nothing(model_folder, tools, tmp_path):
    with process(tools, model_folder / "resnet.onnx", cwd=tmp_path) as (server, port):
        before = open_files(server.pid)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(
                    b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3000000\r\n\r\n"
                    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
                )
                connection.sendall(bytes(100_000))
        url = f"http://127.0.0.1:{port}/metrics"
        aborted = 'blemish_requests_total{route="/api/v1/predict",status="499"} 20.0\n'
        tools.wait_until(lambda: aborted in tools.get(url).text)
        metrics = tools.get(url).text
        assert "blemish_upload_bytes 0.0\n" in metrics
        assert 'blemish_images_in_progress{model="a"} 0.0\n' in metrics
        assert list(tmp_path.iterdir()) == []
        if before is not None:
            tools.wait_until(lambda: open_files(server.pid) <= before + 2)


def resident_megabytes(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the memory this way")
def test_memory_does_not_grow(model_folder, tools):
    data = tools.image(size=(320, 240), kind="JPEG")
    sizes = []
    with (
        process(tools, model_folder / "resnet.onnx") as (server, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=tools.timeout_seconds) as client,
    ):
        for _ in range(3):
            for _ in range(1500):
                assert client.post("/api/v1/predict", files={"image": data}).status_code == 200
            sizes.append(resident_megabytes(server.pid))
    for_links = 1500 * (len(data) + 2000) / 1e6  # they have not expired
    assert sizes[2] - sizes[1] < for_links + 5, sizes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports an address in use differently")
def test_listen_at_an_address_in_use(port):
    from blemish.service.server import listen

    with raises("bad-input.address-in-use", f"127.0.0.1:{port}", "--port"):
        listen("127.0.0.1", port)
