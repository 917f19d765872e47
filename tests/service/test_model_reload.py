"""Models are exchanged while the service answers."""

import asyncio
import shutil

import httpx
import pytest
from tests.service.conftest import (
    get,
    hold_model,
    image,
    post,
    running,
    wait_until,
    write_classifier,
    write_detector,
)

from blemish.model_file import read_model_file
from blemish.service.app import create_app
from blemish.service.model_reload import check_may_reload
from blemish.service.settings import Settings
from blemish.testing import raises

NAMES = ("F_Normal", "F_Crushed", "R_Crushed")


@pytest.fixture
def folder(tmp_path):
    """Two model files with different answers, and the one that is served."""
    write_classifier(tmp_path / "a.onnx", names=NAMES)
    write_classifier(tmp_path / "b.onnx", names=NAMES[::-1])
    shutil.copy(tmp_path / "a.onnx", tmp_path / "served.onnx")
    return tmp_path


def put(folder, name):
    """Exchange the served file at once, as a deployment should."""
    shutil.copy(folder / name, folder / "next")
    (folder / "next").replace(folder / "served.onnx")


def digest_of(folder, name):
    return read_model_file(folder / name).digest


def predict(address):
    answer = post(f"{address}/api/v1/predict", files={"image": image((250, 0, 0))}).json()
    return answer["model_digest"], answer["labels"][0]["label"], answer["decision"]["labels"]


def test_reload_exchanges_the_model(folder):
    app = create_app({"car": folder / "served.onnx"}, threads=1)
    with running(app) as address:
        assert predict(address) == (digest_of(folder, "a.onnx"), NAMES[0], [NAMES[0]])
        unchanged = post(f"{address}/api/v1/models/car/reload")
        assert unchanged.json()["model_digest"] == digest_of(folder, "a.onnx")
        put(folder, "b.onnx")
        assert predict(address)[0] == digest_of(folder, "a.onnx")  # nobody has asked for it
        assert post(f"{address}/v2/repository/models/car/load", json={}).status_code == 200
        assert predict(address) == (digest_of(folder, "b.onnx"), NAMES[2], [NAMES[2]])
        assert get(f"{address}/v2/models/car").json()["versions"] == [digest_of(folder, "b.onnx")[:12]]
        metrics = get(f"{address}/metrics").text
        assert 'blemish_reloads_total{model="car",outcome="replaced"} 1.0' in metrics
        assert 'blemish_ready{model="car"} 1.0' in metrics


def test_a_bad_file_leaves_the_old_model(folder):
    app = create_app({"car": folder / "served.onnx"}, threads=1)
    with running(app) as address:
        (folder / "bad.onnx").write_bytes((folder / "b.onnx").read_bytes()[:-40])
        for bad in ("bad.onnx", None):
            if bad is None:
                (folder / "served.onnx").unlink()
            else:
                put(folder, bad)
            response = post(f"{address}/api/v1/models/car/reload")
            assert (response.status_code, response.json()["code"]) == (409, "reload-failed")
            assert predict(address)[0] == digest_of(folder, "a.onnx")
        put(folder, "b.onnx")
        assert post(f"{address}/api/v1/models/car/reload").status_code == 200
        assert predict(address)[0] == digest_of(folder, "b.onnx")
        assert post(f"{address}/api/v1/models/van/reload").json()["code"] == "unknown-model"


def test_an_image_in_the_queue_is_answered_by_its_own_model(folder, tools):
    app = create_app({"car": folder / "served.onnx"}, threads=1)
    with running(app) as address:
        old = app.state.service.models["car"]
        held = hold_model(app, "car")
        old.batcher._run = held  # the batcher has the method itself
        held.hold()
        waiting = tools.in_background(predict, address)
        wait_until(lambda: held.calls)
        put(folder, "b.onnx")
        assert post(f"{address}/api/v1/models/car/reload").status_code == 200
        assert predict(address)[0] == digest_of(folder, "b.onnx")
        assert not old.batcher._closed
        held.release()
        assert waiting.result()[0] == digest_of(folder, "a.onnx")
        wait_until(lambda: old.batcher._closed, "the end of the old model")


def test_watch_loads_changed_files_under_load_without_a_failure(folder):
    """Clients send images all the time; the file changes five times, once to a damaged one."""
    settings = Settings(watch_seconds=0.05)
    app = create_app({"car": folder / "served.onnx"}, settings, threads=1)
    known = {digest_of(folder, "a.onnx"): NAMES, digest_of(folder, "b.onnx"): NAMES[::-1]}
    (folder / "bad.onnx").write_bytes((folder / "b.onnx").read_bytes()[:-40])
    answers = []

    async def send(client, done):
        while not done.is_set():
            response = await client.post("/api/v1/predict", files={"image": image((250, 0, 0))})
            assert response.status_code == 200, response.text
            answers.append(response.json())

    async def change(client, done):
        for name in ("b.onnx", "a.onnx", "bad.onnx", "b.onnx", "a.onnx"):
            put(folder, name)
            expected = digest_of(folder, name) if name != "bad.onnx" else None
            async with asyncio.timeout(60):
                while True:
                    described = (await client.get("/api/v1/models/car")).json()
                    failures = 'outcome="failed"' in (await client.get("/metrics")).text
                    if described["model_digest"] == expected or (expected is None and failures):
                        break
                    await asyncio.sleep(0.01)
        done.set()

    async def both(address):
        done = asyncio.Event()
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            await asyncio.gather(*(send(client, done) for _ in range(4)), change(client, done))

    with running(app) as address:
        asyncio.run(both(address))
    assert {answer["model_digest"] for answer in answers} == set(known)
    for answer in answers:
        labels = tuple(row["label"] for row in answer["labels"])
        assert labels == known[answer["model_digest"]]
        assert answer["decision"]["labels"] == [labels[0]]


def test_reload_to_another_task(folder):
    app = create_app({"car": folder / "served.onnx"}, threads=1)
    with running(app) as address:
        write_detector(folder / "c.onnx")
        put(folder, "c.onnx")
        post(f"{address}/api/v1/models/car/reload")
        answer = post(f"{address}/api/v1/predict", files={"image": image()}).json()
        assert (answer["task"], len(answer["detections"])) == ("detection", 3)


def test_check_may_reload_needs_a_key_or_the_own_machine():
    for client in ("key:ops", "address:127.0.0.1", "address:::/64"):
        check_may_reload(client)
    with raises("reload-forbidden"):
        check_may_reload("address:192.0.2.7")
