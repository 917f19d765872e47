"""Heatmaps and images behind links beside predictions on a running server, ordered by events."""

import hashlib
import socket
import threading
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from blemish.service import inference_service, result_images
from blemish.service.api_keys import ApiKeys
from blemish.service.app import create_app
from blemish.service.heatmaps import HeatmapService
from blemish.service.settings import Settings

KEYS = {name: {"X-API-Key": f"key-{name}"} for name in ("a", "b")}


@pytest.fixture
def server(model_folder, tools):
    """Run a server with a classifier; yield its address and its service."""

    @contextmanager
    def run(*, keys=False, **options):
        digests = {name: hashlib.sha256(f"key-{name}".encode()).hexdigest() for name in KEYS}
        app = create_app(
            {"resnet": model_folder / "resnet.onnx"},
            Settings(**options),
            keys=ApiKeys(digests) if keys else None,
            threads=1,
        )
        with tools.running(app) as address:
            yield address, app.state.service

    return run


class HeldHeatmaps:
    """Heatmaps that wait until they are released, one by one."""

    def __init__(self, monkeypatch):
        self.started: list[Any] = []
        self._permits = threading.Semaphore(0)
        compute = HeatmapService.compute

        def held(service, predictor, image, *args):
            self.started.append(image)
            assert self._permits.acquire(timeout=120)
            return compute(service, predictor, image, *args)

        monkeypatch.setattr(HeatmapService, "compute", held)

    def release(self, number=1):
        self._permits.release(number)


def predict(address, data, *, key=None, **parameters):
    headers = {} if key is None else KEYS[key]
    url = f"{address}/api/v1/predict"
    return httpx.post(url, files={"image": data}, params=parameters, headers=headers, timeout=120)


def test_64_heatmaps_at_once_starve_neither_predictions_nor_another_key(server, tools, monkeypatch):
    held = HeldHeatmaps(monkeypatch)
    data, other = tools.image(), tools.image((10, 20, 30))
    with server(keys=True, queue_size=80, heatmap_seconds=100, deadline_seconds=120) as (address, service):
        queue = service.models["resnet"].queue
        flood = [tools.in_background(predict, address, data, key="a", explain="heatmap") for _ in range(64)]
        # Half of them wait, the rest has its prediction already; none has a place of the model.
        tools.wait_until(lambda: sum(request.done() for request in flood) == 32)
        tools.wait_until(lambda: service.heatmaps.size == service.settings.max_per_client)
        tools.wait_until(lambda: queue.size == 0)
        assert service.upload_memory.used_bytes == 0
        for key in KEYS:  # while no heatmap ends
            assert predict(address, data, key=key).status_code == 200
        mine = tools.in_background(predict, address, other, key="b", explain="heatmap")
        tools.wait_until(lambda: service.heatmaps.size == service.settings.max_per_client + 1)
        assert len(held.started) == 1
        held.release(2)  # the one that runs, and the next: that of the other key
        answer = mine.result().json()
        assert answer["heatmap"] is not None
        assert held.started[:2] == [data, other]
        held.release(64)
        answers = [request.result().json() for request in flood]
        metrics = tools.get(f"{address}/metrics", headers=KEYS["a"]).text
    explained = sum(answer["heatmap"] is not None for answer in answers)
    assert explained == 32
    assert sum(answer["heatmap_unavailable"] is not None for answer in answers) == 32
    assert all(answer["labels"] for answer in answers)
    assert 'blemish_heatmaps_total{client="a",outcome="refused"} 32.0' in metrics
    assert 'blemish_heatmaps_total{client="b",outcome="done"} 1.0' in metrics


def test_heatmap_that_is_not_done_in_time_leaves_the_prediction(server, tools, monkeypatch):
    held = HeldHeatmaps(monkeypatch)
    with server(heatmap_seconds=0.5) as (address, service):
        answer = predict(address, tools.image(), explain="heatmap")
        assert answer.status_code == 200
        assert answer.json()["heatmap"] is None
        assert "0.5 seconds" in answer.json()["heatmap_unavailable"]
        held.release(5)
        tools.wait_until(lambda: service.heatmaps.size == 0)


def test_heatmap_ends_before_the_deadline_of_the_answer(server, tools, monkeypatch):
    held = HeldHeatmaps(monkeypatch)
    with server(heatmap_seconds=100, deadline_seconds=2) as (address, service):
        answer = predict(address, tools.image(), explain="heatmap")
        assert (answer.status_code, answer.json()["heatmap"]) == (200, None)
        held.release(5)
        tools.wait_until(lambda: service.heatmaps.size == 0)


def test_server_without_heatmaps_states_it(server, tools):
    with server(heatmap_seconds=0) as (address, _):
        model = tools.get(f"{address}/api/v1/models/resnet").json()
        assert model["heatmaps"] is False
        answer = predict(address, tools.image(), explain="heatmap").json()
        assert answer["heatmap"] is None and answer["heatmap_unavailable"]


def test_rendering_stops_when_the_client_disconnects(server, tools, monkeypatch):
    stops = []
    released = threading.Event()

    def render(result, kind, settings, stop):
        stops.append(stop)
        assert released.wait(120)
        stop.check()
        return b"", "image/png"

    monkeypatch.setattr(inference_service, "render", render)
    with server() as (address, service):
        link = predict(address, tools.image()).json()["links"]["overlay"]
        url = httpx.URL(address)
        connection = socket.create_connection((url.host, url.port))
        connection.sendall(f"GET {link} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        tools.wait_until(lambda: stops)
        connection.close()
        tools.wait_until(lambda: stops[0].is_set)
        released.set()
        tools.wait_until(lambda: service.renderings.size == 0)
        metrics = tools.get(f"{address}/metrics").text
    assert 'blemish_linked_images_total{client="address",kind="overlay",outcome="canceled"} 1.0' in metrics


def test_rendering_that_is_too_slow_has_a_status(server, tools, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(inference_service, "render", lambda *_: released.wait(120) and (b"", "image/png"))
    with server(rendering_seconds=0.2) as (address, service):
        link = predict(address, tools.image()).json()["links"]["image"]
        refused = tools.get(address + link)
        assert (refused.status_code, refused.json()["code"]) == (504, "deadline-exceeded")
        assert refused.json()["limit"]["name"] == "rendering_seconds"
        released.set()
        tools.wait_until(lambda: service.renderings.size == 0)


def test_links_of_one_client_are_limited(server, tools, monkeypatch):
    held = tools.held_function(result_images.render, held=True)
    monkeypatch.setattr(inference_service, "render", held)
    with server(keys=True, max_per_client=2) as (address, service):
        link = address + predict(address, tools.image(), key="a").json()["links"]["overlay"]
        admitted = [tools.in_background(tools.get, link, headers=KEYS["a"]) for _ in range(2)]
        tools.wait_until(lambda: service.renderings.size == 2)
        refused = tools.get(link, headers=KEYS["a"])
        assert refused.status_code == 429
        assert refused.json()["limit"] == {"name": "queue_size_per_client", "value": 2}
        others = [tools.in_background(tools.get, link, headers=headers) for headers in (KEYS["b"], {})]
        tools.wait_until(lambda: service.renderings.size == 4)
        held.release()
        assert [request.result().status_code for request in admitted + others] == [200] * 4
        metrics = tools.get(f"{address}/metrics", headers=KEYS["a"]).text
    counts = (("a", "done", 2), ("a", "refused", 1), ("b", "done", 1), ("address", "done", 1))
    for client, outcome, number in counts:
        row = (
            f'blemish_linked_images_total{{client="{client}",kind="overlay",outcome="{outcome}"}} {number}.0'
        )
        assert row in metrics


@pytest.mark.parametrize("required", [False, True])
def test_links_require_the_key_of_the_answer_if_asked(server, tools, required):
    with server(keys=True, links_require_key=required) as (address, _):
        links = predict(address, tools.image(), key="a").json()["links"]
        for name in ("image", "overlay"):
            answers = [tools.get(address + links[name], headers=h) for h in (KEYS["a"], {}, KEYS["b"])]
            codes = [None if a.status_code == 200 else a.json()["code"] for a in answers]
            expected = [None, "api-key-missing", "api-key-unknown.other-key"] if required else [None] * 3
            assert codes == expected
            assert [a.status_code for a in answers] == ([200, 401, 401] if required else [200] * 3)


def test_image_of_one_row_has_its_links(server, tools):
    with server() as (address, _):
        for width in (70_000, 1_000_000):
            links = predict(address, tools.image(size=(width, 1))).json()["links"]
            assert links["reduction"] == -(-width // 16_384)
            for name in ("image", "overlay"):
                assert tools.get(address + links[name]).status_code == 200
