"""Every refusal: its status, code and limit, without internals of the server."""

import io
import json
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageFile

from blemish.service import inference_service, schemas
from blemish.service.app import create_app
from blemish.service.result_images import render
from blemish.service.served_model import open_upload
from blemish.service.settings import Settings
from blemish.testing import raises

FORM = "multipart/form-data; boundary=x"
INTERNALS = (
    "Traceback",
    "/home/",
    "/tmp",
    str(Path(__file__).parents[2]),
    ".py",
    "Error",
    "Exception",
    "object at 0x",
    "onnx",
    "PIL",
)


def check_refusal(response, status, code):
    """Check that a response is a complete problem document, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    schemas.ProblemDocument.model_validate(problem)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    for word in INTERNALS:
        assert word not in response.text
    return problem


def predict(client, data, **params):
    return client.post(
        "/api/v1/predict", files={"image": ("evil<name>.jpg", data, "image/jpeg")}, params=params
    )


def jpeg(size=(320, 240)):
    with io.BytesIO() as buffer:
        Image.effect_noise(size, 80).convert("RGB").save(buffer, "JPEG")
        return buffer.getvalue()


def png_of(width, height):
    """Return a PNG whose header claims this size, with 100 kB of compressed zeros."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = zlib.compress(bytes(100_000_000), 1)[:100_000]
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_file_type_is_detected_from_the_content(client):
    for data in (
        b"",
        b"GIF89a" + bytes(100),
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"MZ" * 50,
    ):
        code = (415, "image-undecodable.unsupported-format") if data else (422, "bad-image.empty-file")
        check_refusal(predict(client, data), *code)
    good = client.post("/api/v1/predict", files={"image": ("notes.txt", jpeg(), "text/plain")})
    assert good.status_code == 200


def test_unsupported_format_is_named(client):
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    assert (
        "HEIC" in check_refusal(predict(client, heic), 415, "image-undecodable.unsupported-format")["detail"]
    )
    assert (
        "PDF"
        in check_refusal(
            predict(client, b"%PDF-1.7 \n" + bytes(40)), 415, "image-undecodable.unsupported-format"
        )["detail"]
    )
    assert (
        "JPEG, PNG"
        in check_refusal(predict(client, b"dear server"), 415, "image-undecodable.unsupported-format")[
            "detail"
        ]
    )


def test_truncated_image(client):
    data = jpeg()
    check_refusal(predict(client, data[: len(data) // 2]), 422, "image-truncated")


def test_damaged_image(client):
    response = predict(client, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    assert response.status_code == 422
    assert response.json()["code"].partition(".")[0] in ("image-undecodable", "image-truncated")


def test_decompression_bomb_is_refused_from_its_header(client, monkeypatch):
    decoded = []
    load = ImageFile.ImageFile.load

    def recording_load(self):
        decoded.append(self.size)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", recording_load)
    bomb = png_of(10_000, 10_000)
    problem = check_refusal(predict(client, bomb), 422, "image-too-large.max-pixels")
    assert problem["limit"] == {"name": "max_pixels", "value": 64_000_000}
    assert decoded == []
    assert predict(client, jpeg()).status_code == 200
    assert set(decoded) == {(320, 240)}  # an image within the limit is decoded: the check sees it
    tracemalloc.start()
    with raises("image-too-large.max-pixels"):
        open_upload(bomb, Settings())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


@pytest.fixture(scope="module")
def small(model_folder, tools):
    """A server with small limits."""
    settings = Settings(max_upload_bytes=20_000, max_pixels=10_000, max_images=3)
    app = create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)
    timeout = tools.timeout_seconds
    with tools.running(app) as address, httpx.Client(base_url=address, timeout=timeout) as client:
        yield client


def test_upload_size_is_counted_during_the_upload(small):
    problem = check_refusal(predict(small, bytes(30_000)), 413, "upload-too-large")
    assert problem["limit"] == {"name": "max_upload_bytes", "value": 20_000}

    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(20_000):
            sent += 1
            yield bytes(10_000)

    # Without Content-Length only counting can stop it.
    try:
        response = small.post(
            "/api/v1/predict", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        check_refusal(response, 413, "upload-too-large")
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # the server closed the connection during the upload
    assert sent < 20_000


def test_upload_size_is_checked_in_the_header(small, tools):
    host, port = small.base_url.host, small.base_url.port
    with socket.create_connection((host, port), timeout=tools.timeout_seconds) as connection:
        connection.sendall(
            b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 1000000000\r\n\r\n"
        )
        assert b" 413 " in connection.recv(4096)


def test_too_many_images_in_a_form(small, tools):
    files = [("image", tools.image())] * 4
    problem = check_refusal(small.post("/api/v1/predict:batch", files=files), 413, "too-many-images")
    assert problem["limit"] == {"name": "max_images", "value": 3}
    check_refusal(small.post("/api/v1/predict", files=files[:2]), 413, "too-many-images")


def test_slow_upload_is_refused(model_folder, tools):
    settings = Settings(read_timeout_seconds=0.5)
    sent = 0

    def slow_body():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(1000):
            time.sleep(0.05)
            sent += 1
            yield b"x"

    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)) as address:
        try:
            response = tools.post(
                f"{address}/api/v1/predict", content=slow_body(), headers={"Content-Type": FORM}
            )
            check_refusal(response, 408, "upload-too-slow")
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            pass  # the server closed the connection during the upload
        assert sent < 1000
        metrics = tools.get(f"{address}/metrics").text
        assert 'blemish_requests_total{route="/api/v1/predict",status="408"} 1.0' in metrics


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{}", "application/json", 415, "not-multipart"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "not-multipart"),
        (b"x", "multipart/form-data", 415, "not-multipart"),
        (b"x", "multipart/form-data; boundary=" + "y" * 300, 400, "bad-upload"),
        (b"garbage", FORM, 400, "bad-upload.preamble"),
        (b"--x\r\n", FORM, 400, "bad-upload"),
        (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc', FORM, 400, "bad-upload"),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            FORM,
            422,
            "bad-parameter.unknown",
        ),
        (b"--x--\r\n", FORM, 422, "image-missing"),
    ],
)
def test_malformed_form(client, content, kind, status, code):
    response = client.post("/api/v1/predict", content=content, headers={"Content-Type": kind})
    check_refusal(response, status, code)


def test_unknown_address_model_method_and_parameter(client, tools):
    check_refusal(client.get("/api/v1/unknown"), 404, "not-found")
    check_refusal(client.get("/api/v1/models/unknown"), 404, "unknown-model")
    check_refusal(predict(client, tools.image(), model="unknown"), 404, "unknown-model")
    not_allowed = client.get("/api/v1/predict")
    check_refusal(not_allowed, 405, "method-not-allowed")
    assert not_allowed.headers["allow"] == "POST"
    check_refusal(predict(client, tools.image(), min_score=1.5), 422, "bad-parameter")
    check_refusal(predict(client, tools.image(), explain="everything"), 422, "bad-parameter")
    check_refusal(predict(client, tools.image(), label="unknown"), 422, "bad-parameter")
    check_refusal(predict(client, tools.image(), model="m" * 101), 422, "bad-parameter")


@pytest.fixture
def held_server(model_folder, tools):
    """Run a server whose forward pass can be held; yield its address, the held function and the service."""

    @contextmanager
    def run(*, held=False, wait=True, **options):
        app = create_app({"a": model_folder / "resnet.onnx"}, Settings(**options), threads=1)
        forward_pass = tools.hold_model(app, "a", held=held)
        with tools.running(app, wait=wait) as address:
            try:
                yield address, forward_pass, app.state.service
            finally:
                forward_pass.release()

    return run


def test_deadline_exceeded(held_server, tools):
    with held_server(deadline_seconds=0.2) as (address, forward_pass, _):
        forward_pass.hold()
        response = tools.post(f"{address}/api/v1/predict", files={"image": tools.image()})
        problem = check_refusal(response, 504, "deadline-exceeded")
        assert problem["limit"] == {"name": "deadline_seconds", "value": 0.2}
        assert int(response.headers["retry-after"]) >= 1


def test_full_queue_refuses_at_once(held_server, tools):
    with held_server(queue_size=2, max_batch_size=1) as (address, forward_pass, service):
        url, files = f"{address}/api/v1/predict", {"image": tools.image()}
        forward_pass.hold()
        admitted = [tools.in_background(tools.post, url, files=files) for _ in range(2)]
        tools.wait_until(lambda: service.models["a"].queue.size == 2)
        for _ in range(6):  # answered although the network is held
            answer = tools.post(url, files=files)
            problem = check_refusal(answer, 429, "queue-full")
            assert problem["limit"] == {"name": "queue_size", "value": 2}
            assert int(answer.headers["retry-after"]) >= 1
        forward_pass.release()
        assert [request.result().status_code for request in admitted] == [200, 200]


def test_link_opened_many_times_does_not_fill_the_drawing_threads(held_server, tools, monkeypatch):
    held = tools.held_function(render)
    monkeypatch.setattr(inference_service, "render", held)
    with held_server(queue_size=3) as (address, _, service):
        answer = tools.post(f"{address}/api/v1/predict", files={"image": tools.image()}).json()
        link = address + answer["links"]["overlay"]
        held.hold()
        admitted = [tools.in_background(tools.get, link) for _ in range(3)]
        tools.wait_until(lambda: service.renderings.size == 3)
        for _ in range(9):
            refused = tools.get(link)
            problem = check_refusal(refused, 429, "queue-full")
            assert problem["limit"] == {"name": "queue_size", "value": 3}
            assert int(refused.headers["retry-after"]) >= 1
        held.release()
        assert [request.result().status_code for request in admitted] == [200] * 3
        assert tools.get(link).status_code == 200  # there is room again


def test_requests_of_disconnected_clients_are_canceled(held_server, tools):
    with held_server(max_batch_size=1) as (address, forward_pass, service):
        queue = service.models["a"].queue
        forward_pass.calls.clear()
        forward_pass.hold()
        request = httpx.Request("POST", f"{address}/api/v1/predict", files={"image": tools.image()})
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join([f"POST {request.url.path} HTTP/1.1", *lines, "", ""]).encode()
        connections = []
        for _ in range(6):
            connections.append(socket.create_connection((request.url.host, request.url.port)))
            connections[-1].sendall(head + request.read())
        # One is in the network, five are in the queue of the batcher.
        tools.wait_until(lambda: forward_pass.calls and service.models["a"].batcher.num_queued == 5)
        for connection in connections:
            connection.close()
        tools.wait_until(lambda: queue.size == 0)
        forward_pass.release()
        answer = tools.post(f"{address}/api/v1/predict", files={"image": tools.image()})
        assert answer.status_code == 200
        assert len(forward_pass.calls) == 2  # the one in the network when its client left, and the last
        tools.wait_until(lambda: queue.size == 0)
        assert service.upload_memory.used_bytes == 0


def test_model_that_is_not_ready_is_not_used(held_server, tools):
    with held_server(held=True, wait=False) as (address, forward_pass, service):
        assert tools.get(f"{address}/api/v1/health/live").status_code == 200
        tools.wait_until(lambda: forward_pass.calls)  # the warm-up
        check_refusal(tools.get(f"{address}/api/v1/health/ready"), 503, "not-ready")
        answer = tools.post(f"{address}/api/v1/predict", files={"image": tools.image()})
        check_refusal(answer, 503, "not-ready")
        assert int(answer.headers["retry-after"]) >= 1
        forward_pass.release()
        tools.wait_until(lambda: service.models["a"].ready)
        assert tools.get(f"{address}/api/v1/health/ready").status_code == 200


def test_internal_error_does_not_reveal_its_cause(model_folder, tools, caplog):
    app = create_app({"a": model_folder / "resnet.onnx"}, threads=1)
    served = app.state.service.models["a"]
    predict_batch, broken = served.predict_batch, threading.Event()

    def broken_batch(batch):
        if broken.is_set():
            raise RuntimeError("secret of /home/operator")
        return predict_batch(batch)

    served.predict_batch = broken_batch
    with tools.running(app) as address:
        url, files = f"{address}/api/v1/predict", {"image": tools.image()}
        broken.set()
        check_refusal(tools.post(url, files=files), 500, "internal-error")
        stream = tools.post(f"{url}?stream=1", files=files)
        last = json.loads(stream.text.splitlines()[-1])
        assert last["problem"]["code"] == "internal-error"
        assert "secret" not in stream.text
        broken.clear()
        assert tools.post(url, files=files).status_code == 200


def test_memory_of_all_uploads_is_limited(model_folder, tools):
    settings = Settings(upload_memory_bytes=50_000)
    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)) as address:
        answer = tools.post(f"{address}/api/v1/predict", files={"image": bytes(60_000)})
        check_refusal(answer, 503, "memory-full")
        # The refused upload needs no memory any more.
        for _ in range(5):
            assert tools.post(f"{address}/api/v1/predict", files={"image": tools.image()}).status_code == 200


def test_api_keys_are_required(model_folder, tools):
    from blemish.service.api_keys import ApiKeys, new_key

    key, line = new_key("claims")
    keys = ApiKeys(dict([line.split()]))
    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, keys=keys, threads=1)) as address:
        files = {"image": tools.image()}
        missing = tools.post(f"{address}/api/v1/predict", files=files)
        check_refusal(missing, 401, "api-key-missing")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        wrong = tools.post(f"{address}/api/v1/predict", files=files, headers={"X-API-Key": "blemish_no"})
        check_refusal(wrong, 401, "api-key-unknown")
        assert tools.post(f"{address}/predict/resnet", files=files).json().keys() == {"detail"}
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            answer = tools.post(f"{address}/api/v1/predict", files=files, headers=headers)
            assert answer.status_code == 200
        # A link needs no key: a browser has to show it.
        assert tools.get(address + answer.json()["links"]["image"]).status_code == 200
        for path in ("/metrics", "/api/v1/models", "/api/v1/limits"):
            assert tools.get(address + path).status_code == 401
        for path in ("/", "/docs", "/openapi.json", "/api/v1/health/live", "/api/v1/health/ready"):
            assert tools.get(address + path).status_code == 200


def test_cors_origins_are_allowed_by_name(model_folder, tools):
    settings = Settings(cors_origins=("https://claims.example",))
    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)) as address:
        for origin, allowed in (("https://claims.example", True), ("https://other.example", False)):
            answer = tools.get(f"{address}/api/v1/limits", headers={"Origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
