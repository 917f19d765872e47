"""Many requests at once: each answer belongs to its image, and the event loop stays free."""

import asyncio
import hashlib

import httpx
import pytest

from blemish.inference import load
from blemish.service import inference_service
from blemish.service.app import create_app
from blemish.service.result_images import render
from blemish.service.settings import Settings


def test_256_concurrent_clients_get_the_answers_to_their_own_images(model_folder, tools):
    images = [tools.image(((i * 37) % 256, (i * 91) % 256, i)) for i in range(256)]
    predictor = load(model_folder / "resnet.onnx", threads=1)
    expected = {hashlib.sha256(p).hexdigest(): predictor.predict(p).label_scores.tolist() for p in images}
    assert len(expected) == 256
    app = create_app(
        {"a": model_folder / "resnet.onnx"}, Settings(queue_size=300, deadline_seconds=100), threads=1
    )
    held = tools.hold_model(app, "a")
    queue = app.state.service.models["a"].queue
    with tools.running(app) as address:
        held.calls.clear()
        held.hold()

        async def ask_all():
            limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
            timeout = tools.timeout_seconds
            async with httpx.AsyncClient(base_url=address, timeout=timeout, limits=limits) as client:

                async def ask(data):
                    answer = await client.post("/api/v1/predict", files={"image": data})
                    assert answer.status_code == 200, answer.text
                    return hashlib.sha256(data).hexdigest(), answer.json()

                requests = asyncio.gather(*(ask(p) for p in images))
                await tools.wait_until_async(lambda: queue.size == 256)
                held.release()
                return await requests

        answers = asyncio.run(ask_all())
    for digest, answer in answers:
        assert answer["sha256"] == digest
        assert [label["score"] for label in answer["labels"]] == pytest.approx(expected[digest], abs=1e-6)
    assert sum(map(len, held.calls)) == 256
    assert len(held.calls) < 256  # some of them shared a forward pass


@pytest.mark.parametrize("stage", ["decoding", "forward pass", "drawing"])
def test_server_answers_while_an_image_is_processed(model_folder, tools, monkeypatch, stage):
    """Work on the event loop would keep `health/live` from answering until the work is released."""
    app = create_app({"a": model_folder / "resnet.onnx"}, threads=1)
    model = app.state.service.models["a"]
    if stage == "decoding":
        held = model.prepare = tools.held_function(model.prepare)
    elif stage == "forward pass":
        held = tools.hold_model(app, "a")
    else:
        held = tools.held_function(render)
        monkeypatch.setattr(inference_service, "render", held)
    with tools.running(app) as address:
        if stage == "drawing":
            answer = tools.post(f"{address}/api/v1/predict", files={"image": tools.image()}).json()
            url, send = address + answer["links"]["overlay"], tools.get
        else:
            url, send = f"{address}/api/v1/predict", lambda u: tools.post(u, files={"image": tools.image()})
        held.calls.clear()
        held.hold()
        request = tools.in_background(send, url)
        tools.wait_until(lambda: held.calls)
        try:
            assert httpx.get(f"{address}/api/v1/health/live", timeout=30).status_code == 200
        finally:
            held.release()
        assert request.result().status_code == 200
