"""Many at once: each answer belongs to its image, and the process stays responsive."""

import asyncio
import hashlib
import threading
import time

import httpx
import pytest

from blemish.inference import load
from blemish.service.app import create_app
from blemish.service.settings import Settings


def test_256_clients_at_once_each_get_the_answer_to_their_own_image(model_folder, tools):
    images = [tools.image(((i * 37) % 256, (i * 91) % 256, i)) for i in range(256)]
    alone = load(model_folder / "resnet.onnx", threads=1)
    expected = {hashlib.sha256(p).hexdigest(): alone.predict(p).label_scores.tolist() for p in images}
    assert len(expected) == 256
    settings = Settings(queue_size=300)
    with tools.running(create_app({"a": model_folder / "resnet.onnx"}, settings, threads=1)) as address:

        async def ask_all():
            limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
            async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:

                async def one(data):
                    answer = await client.post("/api/v1/predict", files={"image": data})
                    assert answer.status_code == 200, answer.text
                    return hashlib.sha256(data).hexdigest(), answer.json()

                return await asyncio.gather(*(one(p) for p in images))

        answers = asyncio.run(ask_all())
        metrics = httpx.get(f"{address}/metrics").text
    for digest, answer in answers:
        assert answer["sha256"] == digest
        assert [label["score"] for label in answer["labels"]] == pytest.approx(expected[digest], abs=1e-6)
    count = float(metrics.split('blemish_batch_size_count{model="a"} ')[1].split()[0])
    assert count < 256  # some of them went through the network together


def test_the_process_answers_while_the_network_works(model_folder, tools):
    app = create_app({"a": model_folder / "resnet.onnx"}, Settings(queue_size=64), threads=1)
    served = app.state.desk.models["a"]
    look = served.look

    def heavy(batch):
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            sum(range(1000))  # holds the interpreter's lock as far as Python lets it
        return look(batch)

    served.look = heavy
    stop = threading.Event()

    def load_it(address):
        with httpx.Client(base_url=address, timeout=60) as client:
            while not stop.is_set():
                client.post("/api/v1/predict", files={"image": tools.image(size=(1200, 900), kind="JPEG")})

    with tools.running(app) as address:
        threads = [threading.Thread(target=load_it, args=(address,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        worst = []
        try:
            time.sleep(0.3)
            with httpx.Client(base_url=address, timeout=10) as client:
                # Of three turns one may count: a machine that is busy with others' work now and then gives
                # this process nothing for longer than that. Work on the event loop would hit all three.
                while len(worst) < 3 and min(worst, default=1.0) >= 0.1:
                    worst.append(max(seconds_to_answer(client) for _ in range(40)))
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
    assert min(worst) < 0.1, worst


def seconds_to_answer(client):
    """How long `health/live` takes, asked once; then a pause."""
    began = time.perf_counter()
    assert client.get("/api/v1/health/live").status_code == 200
    took = time.perf_counter() - began
    time.sleep(0.02)
    return took
