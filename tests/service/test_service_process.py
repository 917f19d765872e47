"""The service as a process of its own: starting, stopping, slow clients, and what is left behind."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

SCRIPT = """
import sys, time
from blemish.service.app import create_app
from blemish.service.http_protocol import PatientConnection
from blemish.service import server
from blemish.service.server import listen, run
server.DRAIN_SECONDS = float(sys.argv[3])
PatientConnection.head_seconds = PatientConnection.leftover_seconds = PatientConnection.answer_seconds = 0.7
app = create_app({"a": sys.argv[1]}, threads=1)
served = app.state.desk.models["a"]
look = served.look
def slowly(batch):
    time.sleep(float(sys.argv[2]))
    return look(batch)
served.look = slowly
listener = listen("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
run(app, listener)
"""


@contextmanager
def process(model, seconds=0.0, cwd=None, drain_seconds=25.0):
    """A server process and its port; killed at the end where it still runs."""
    started = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(model), str(seconds), str(drain_seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
    )
    try:
        port = int(started.stdout.readline())
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if httpx.get(f"http://127.0.0.1:{port}/api/v1/health/ready", timeout=10).status_code == 200:
                break
            time.sleep(0.05)
        yield started, port
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate(timeout=10)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be caught")
def test_sigterm_finishes_what_has_begun_and_refuses_what_is_new(model_folder, tools):
    answers = []

    def ask(port):
        url = f"http://127.0.0.1:{port}/api/v1/predict"
        answers.append(httpx.post(url, files={"image": tools.image()}, timeout=30).status_code)

    with process(model_folder / "resnet.onnx", 1.0) as (running, port):
        thread = threading.Thread(target=ask, args=(port,))
        thread.start()
        time.sleep(0.5)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        time.sleep(0.02)
        try:
            late = httpx.get(f"http://127.0.0.1:{port}/api/v1/health/ready", timeout=5)
            assert late.status_code == 503
            assert late.json()["code"] == "draining"
        except httpx.TransportError:
            pass  # it does not listen any more
        running.wait(30)
        thread.join(10)
        assert answers == [200]
        assert running.returncode == 0
        assert time.monotonic() - began < 30


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be caught")
def test_sigterm_does_not_wait_for_ever(model_folder, tools):
    answers = []

    def ask(port):
        url = f"http://127.0.0.1:{port}/api/v1/predict"
        answers.append(httpx.post(url, files={"image": tools.image()}, timeout=30))

    with process(model_folder / "resnet.onnx", 3.0, drain_seconds=0.5) as (running, port):
        # One is in the network for three seconds, and one behind it would need three more.
        threads = [threading.Thread(target=ask, args=(port,)) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        running.wait(10)
        assert time.monotonic() - began < 0.5 + 2 + 2  # the drain, the network's thread, and Python's own end
        for thread in threads:
            thread.join(10)
    assert running.returncode == 0
    assert [answer.status_code for answer in answers] == [503, 503]
    assert {answer.json()["code"] for answer in answers} == {"draining"}


@pytest.fixture(scope="module")
def port(model_folder, tmp_path_factory):
    with process(model_folder / "resnet.onnx", cwd=tmp_path_factory.mktemp("empty")) as (_, number):
        yield number


def closed_within(connection, seconds):
    """Whether the other side hangs up in time; whatever it says before is read."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_a_head_that_never_ends_is_cut(port, begun):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(begun)
        assert closed_within(connection, 3)


def test_a_head_that_trickles_is_cut(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.monotonic()
        try:
            for letter in b"GET /" + b"a" * 100:
                connection.sendall(bytes([letter]))
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() - began < 3


def test_an_upload_that_goes_on_after_its_refusal_is_cut(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        assert b" 415 " in connection.recv(65536)
        began = time.monotonic()
        try:
            while time.monotonic() - began < 5:
                connection.sendall(b"x")
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() - began < 3


def test_a_client_that_does_not_read_is_cut(port):
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(5)
        began = time.monotonic()
        try:
            for _ in range(3000):  # answers of 40 kB each that nobody reads
                connection.sendall(request)
        except (ConnectionError, TimeoutError):
            pass
        assert time.monotonic() - began < 5
    assert httpx.get(f"http://127.0.0.1:{port}/api/v1/health/live").status_code == 200


def test_requests_one_after_the_other_on_one_connection(port, tools):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert client.post("/api/v1/predict", files={"image": tools.image()}).status_code == 200
            time.sleep(1.0)  # longer than a head may take: a pause between requests is no slow head


def open_files(pid):
    """How many files a process has open; None where nobody tells."""
    folder = Path(f"/proc/{pid}/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else None


def test_an_aborted_upload_leaves_nothing(model_folder, tmp_path):
    with process(model_folder / "resnet.onnx", cwd=tmp_path) as (running, port):
        before = open_files(running.pid)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(
                    b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3000000\r\n\r\n"
                    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
                )
                connection.sendall(bytes(100_000))
        text = ""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and "blemish_upload_bytes 0\n" not in text:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            time.sleep(0.05)
        assert "blemish_upload_bytes 0\n" in text
        assert 'status="499"} 20\n' in text
        assert re.search(r'blemish_photographs_in_progress\{model="a"\} 0\n', text)
        assert list(tmp_path.iterdir()) == []
        if before is not None:
            assert open_files(running.pid) <= before + 2


def resident_megabytes(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's memory so")
def test_memory_stays_flat(model_folder, tools):
    data = tools.image(size=(320, 240), kind="JPEG")
    sizes = []
    with (
        process(model_folder / "resnet.onnx") as (running, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        for _ in range(3):
            for _ in range(1500):
                assert client.post("/api/v1/predict", files={"image": data}).status_code == 200
            sizes.append(resident_megabytes(running.pid))
    kept = 1500 * (len(data) + 2000) / 1e6  # for their links, which have not expired
    assert sizes[2] - sizes[1] < kept + 5, sizes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows closes processes otherwise")
def test_an_address_in_use_is_one_sentence(port):
    from blemish.errors import BadInput
    from blemish.service.server import listen

    with pytest.raises(BadInput, match="take another --port"):
        listen("127.0.0.1", port)
