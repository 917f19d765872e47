"""Every refusal: its status, its code, its limit, and never a word about the inside."""

import io
import json
import struct
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import httpx
import pytest
from PIL import Image

from blemish.service import routes, schemas
from blemish.service.app import create_app
from blemish.service.settings import Settings

INSIDE = (
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


def refused(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    schemas.ProblemDocument.model_validate(problem)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    for word in INSIDE:
        assert word not in response.text
    return problem


def post(client, data, **params):
    return client.post(
        "/api/v1/predict", files={"image": ("evil<name>.jpg", data, "image/jpeg")}, params=params
    )


def jpeg(size=(320, 240)):
    with io.BytesIO() as buffer:
        Image.effect_noise(size, 80).convert("RGB").save(buffer, "JPEG")
        return buffer.getvalue()


def png_of(width, height):
    """A PNG that says it has so many pixels, and is 100 kB of compressed nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = zlib.compress(bytes(100_000_000), 1)[:100_000]
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_the_type_is_told_by_the_content_and_not_by_the_header(client):
    for data in (
        b"",
        b"GIF89a" + bytes(100),
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"MZ" * 50,
    ):
        response = post(client, data)
        assert response.status_code in (415, 422)
        if data:
            refused(response, 415, "not_a_photograph")
    good = client.post("/api/v1/predict", files={"image": ("notes.txt", jpeg(), "text/plain")})
    assert good.status_code == 200


def test_what_telephones_and_people_send_by_mistake_is_called_by_its_name(client):
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    assert "HEIC" in refused(post(client, heic), 415, "not_a_photograph")["detail"]
    assert "PDF" in refused(post(client, b"%PDF-1.7 \n" + bytes(40)), 415, "not_a_photograph")["detail"]
    assert "JPEG, PNG" in refused(post(client, b"dear server"), 415, "not_a_photograph")["detail"]


def test_a_truncated_image(client):
    data = jpeg()
    refused(post(client, data[: len(data) // 2]), 422, "image_truncated")


def test_a_damaged_image(client):
    response = post(client, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    assert response.status_code == 422
    assert response.json()["code"] in ("image_undecodable", "image_truncated")


def test_a_bomb_is_refused_from_its_header_in_time_and_memory(client):
    bomb = png_of(10_000, 10_000)
    problem = refused(post(client, bomb), 422, "too_many_pixels")
    assert problem["limit"] == {"name": "max_pixels", "value": 64_000_000}
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        post(client, bomb)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05
    from blemish.service.problem_details import Problem
    from blemish.service.served_model import open_upload

    tracemalloc.start()
    with pytest.raises(Problem):
        open_upload(bomb, Settings())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


@pytest.fixture(scope="module")
def small(model_folder, tools):
    """A server with small limits."""
    settings = Settings(max_upload_bytes=20_000, max_pixels=10_000, max_batch=3, read_timeout_seconds=1.0)
    app = create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)
    with tools.running(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def test_an_upload_is_counted_while_it_is_read(small):
    problem = refused(post(small, bytes(30_000)), 413, "upload_too_large")
    assert problem["limit"] == {"name": "max_upload_bytes", "value": 20_000}

    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(20_000):
            sent += 1
            yield bytes(10_000)

    # No Content-Length: nothing but counting can stop it.
    try:
        response = small.post(
            "/api/v1/predict", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        refused(response, 413, "upload_too_large")
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # the server hung up while we were still sending
    assert sent < 20_000


def test_a_declared_length_over_the_limit_is_refused_before_it_is_sent(small, tools):
    import socket

    host, port = small.base_url.host, small.base_url.port
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(
            b"POST /api/v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 1000000000\r\n\r\n"
        )
        assert b" 413 " in connection.recv(4096)


def test_too_many_images(small, tools):
    files = [("image", tools.image())] * 4
    problem = refused(small.post("/api/v1/predict:batch", files=files), 413, "too_many_photographs")
    assert problem["limit"] == {"name": "max_batch", "value": 3}
    refused(small.post("/api/v1/predict", files=files[:2]), 413, "too_many_photographs")


def test_a_slow_upload_is_cut(small):
    def slowly():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(100):
            time.sleep(0.05)
            yield b"x"

    began = time.monotonic()
    try:
        response = small.post(
            "/api/v1/predict", content=slowly(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        refused(response, 408, "upload_too_slow")
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass
    assert time.monotonic() - began < 4


FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{}", "application/json", 415, "not_a_form"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "not_a_form"),
        (b"x", "multipart/form-data", 415, "not_a_form"),
        (b"x", "multipart/form-data; boundary=" + "y" * 300, 400, "bad_upload"),
        (b"garbage", FORM, 400, "bad_upload"),
        (b"--x\r\n", FORM, 400, "bad_upload"),
        (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc', FORM, 400, "bad_upload"),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            FORM,
            422,
            "no_photograph",
        ),
        (b"--x--\r\n", FORM, 422, "no_photograph"),
    ],
)
def test_forms_that_are_none(client, content, kind, status, code):
    response = client.post("/api/v1/predict", content=content, headers={"Content-Type": kind})
    refused(response, status, code)


def test_fields_beside_the_image_are_bounded(client, tools):
    response = client.post("/api/v1/predict", files={"image": tools.image(), "note": bytes(100_000)})
    refused(response, 400, "bad_upload")
    many = client.post(
        "/api/v1/predict", files={"image": tools.image()}, data={f"n{i}": "x" for i in range(90)}
    )
    refused(many, 400, "bad_upload")


def test_unknown_addresses_models_methods_and_parameters(client, tools):
    refused(client.get("/api/v1/nothing"), 404, "not_found")
    refused(client.get("/api/v1/models/nobody"), 404, "unknown_model")
    refused(post(client, tools.image(), model="nobody"), 404, "unknown_model")
    not_allowed = client.get("/api/v1/predict")
    refused(not_allowed, 405, "method_not_allowed")
    assert not_allowed.headers["allow"] == "POST"
    refused(post(client, tools.image(), min_score=1.5), 422, "bad_parameter")
    refused(post(client, tools.image(), explain="everything"), 422, "bad_parameter")
    refused(post(client, tools.image(), label="nobody"), 422, "bad_parameter")
    refused(post(client, tools.image(), model="m" * 101), 422, "bad_parameter")


@pytest.fixture
def slow(model_folder, tools):
    """Make a server whose network takes as long as one says."""

    def make(seconds, *, wait=True, **options):
        app = create_app({"a": model_folder / "resnet.onnx"}, Settings(**options), threads=1)
        served = app.state.desk.models["a"]
        look = served.look

        def slowly(batch):
            time.sleep(seconds)
            return look(batch)

        served.look = slowly
        return tools.running(app, wait=wait)

    return make


def test_past_the_deadline(slow, tools):
    with slow(1.0, deadline_seconds=0.2) as address:
        began = time.monotonic()
        response = httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()})
        problem = refused(response, 504, "deadline_exceeded")
        assert problem["limit"] == {"name": "deadline_seconds", "value": 0.2}
        assert time.monotonic() - began < 0.9
        assert int(response.headers["retry-after"]) >= 1


def test_a_full_queue_refuses_at_once_and_says_when(slow, tools):
    answers, times = [], []

    def call(address):
        began = time.monotonic()
        answer = httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()}, timeout=30)
        times.append(time.monotonic() - began)
        answers.append(answer)

    with slow(0.5, queue_size=2, largest_batch=1) as address:
        threads = [threading.Thread(target=call, args=(address,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    kinds = sorted(answer.status_code for answer in answers)
    assert kinds == [200, 200] + [429] * 6
    for answer, seconds in zip(answers, times, strict=True):
        if answer.status_code == 429:
            problem = refused(answer, 429, "queue_full")
            assert problem["limit"] == {"name": "queue_size", "value": 2}
            assert int(answer.headers["retry-after"]) >= 1
            assert seconds < max(t for a, t in zip(answers, times, strict=True) if a.status_code == 200)


def test_a_link_opened_a_thousand_times_does_not_queue_a_thousand_paintings(slow, tools, monkeypatch):
    real, answers = routes.paint, []

    def slowly(*args):
        time.sleep(0.5)
        return real(*args)

    monkeypatch.setattr(routes, "paint", slowly)
    with slow(0.0, queue_size=3) as address:
        answer = httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()}).json()
        link = address + answer["links"]["overlay"]
        threads = [
            threading.Thread(target=lambda: answers.append(httpx.get(link, timeout=30))) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(a.status_code for a in answers) == [200] * 3 + [429] * 9
        for late in (a for a in answers if a.status_code == 429):
            assert refused(late, 429, "queue_full")["limit"] == {"name": "queue_size", "value": 3}
            assert int(late.headers["retry-after"]) >= 1
        assert httpx.get(link).status_code == 200  # and the way is free again


def test_nobody_works_for_a_client_that_went_away(slow, tools, model_folder):
    app = create_app({"a": model_folder / "resnet.onnx"}, Settings(largest_batch=1), threads=1)
    served, seen = app.state.desk.models["a"], []
    look = served.look

    def slowly(batch):
        seen.append(len(batch))
        time.sleep(0.4)
        return look(batch)

    served.look = slowly
    with tools.running(app) as address:
        seen.clear()
        for _ in range(6):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()}, timeout=0.05)
        stayed = httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()}, timeout=30)
        assert stayed.status_code == 200
        assert len(seen) <= 3  # the one in the network when its client left, perhaps the next, and the last
        assert app.state.desk.models["a"].gate.inside == 0
        assert app.state.desk.budget.held == 0


def test_nothing_is_asked_of_a_model_that_has_not_warmed_up(slow, tools):
    with slow(1.5, wait=False) as address:
        assert httpx.get(f"{address}/api/v1/health/live").status_code == 200
        refused(httpx.get(f"{address}/api/v1/health/ready"), 503, "not_ready")
        answer = httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()})
        refused(answer, 503, "not_ready")
        assert int(answer.headers["retry-after"]) >= 1


def test_a_fault_of_ours_is_told_without_its_inside(model_folder, tools, caplog):
    app = create_app({"a": model_folder / "resnet.onnx"}, threads=1)
    served = app.state.desk.models["a"]
    look, broken = served.look, threading.Event()

    def breaking(batch):
        if broken.is_set():
            raise RuntimeError("secret of /home/somebody")
        return look(batch)

    served.look = breaking
    with tools.running(app) as address:
        broken.set()
        answer = httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()})
        refused(answer, 500, "internal")
        stream = httpx.post(f"{address}/api/v1/predict?stream=1", files={"image": tools.image()})
        last = json.loads(stream.text.splitlines()[-1])
        assert last["problem"]["code"] == "internal"
        assert "secret" not in stream.text
        broken.clear()
        assert httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()}).status_code == 200


def test_uploads_have_a_budget_together(model_folder, tools):
    settings = Settings(upload_memory_bytes=50_000)
    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)) as address:
        answer = httpx.post(f"{address}/api/v1/predict", files={"image": bytes(60_000)})
        refused(answer, 503, "memory_full")
        # and what was refused is not held
        for _ in range(5):
            assert httpx.post(f"{address}/api/v1/predict", files={"image": tools.image()}).status_code == 200


def test_keys(model_folder, tools):
    from blemish.service.api_keys import ApiKeys, new_key

    key, line = new_key("claims")
    keys = ApiKeys(dict([line.split()]))
    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, keys=keys, threads=1)) as address:
        files = {"image": tools.image()}
        missing = httpx.post(f"{address}/api/v1/predict", files=files)
        refused(missing, 401, "key_missing")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        wrong = httpx.post(f"{address}/api/v1/predict", files=files, headers={"X-API-Key": "blemish_no"})
        refused(wrong, 401, "key_unknown")
        assert httpx.post(f"{address}/predict/resnet", files=files).json().keys() == {"detail"}
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            answer = httpx.post(f"{address}/api/v1/predict", files=files, headers=headers)
            assert answer.status_code == 200
        # A link is its own key, or a browser could not show it.
        assert httpx.get(address + answer.json()["links"]["photograph"]).status_code == 200
        for path in ("/metrics", "/api/v1/models", "/api/v1/limits"):
            assert httpx.get(address + path).status_code == 401
        for path in ("/", "/docs", "/openapi.json", "/api/v1/health/live", "/api/v1/health/ready"):
            assert httpx.get(address + path).status_code == 200


def test_other_origins_are_let_in_only_by_name(model_folder, tools):
    settings = Settings(cors_origins=("https://claims.example",))
    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)) as address:
        for origin, allowed in (("https://claims.example", True), ("https://other.example", False)):
            answer = httpx.get(f"{address}/api/v1/limits", headers={"Origin": origin})
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
