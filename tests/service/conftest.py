"""Tiny model files whose predictions follow from the image, and a server that runs in a thread."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image

from blemish.model_file import (
    Contract,
    DecoderSpec,
    InputSpec,
    LabelSpec,
    OutputSpec,
    ParityCertificate,
    write_model_file,
)
from blemish.structures import Task

PLAIN = InputSpec(name="image", size_hw=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))


def write_classifier(
    path, names=("F_Normal", "F_Crushed", "R_Crushed"), display_names=None, task="classification"
):
    """Write a classifier whose logits are 4 times the means of red, green and blue, in this order."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Mul", ["flat", "four"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 3])],
        [numpy_helper.from_array(np.array(4, np.float32), "four")],
    )
    display_names = display_names or tuple(name.replace("_", " ") for name in names)
    contract = Contract(
        name="tiny",
        architecture="tiny",
        task=Task(task),
        labels=tuple(LabelSpec(name=n, display_name=t) for n, t in zip(names, display_names, strict=True)),
        inputs=(PLAIN,),
        outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
        thresholds=dict.fromkeys(names, 0.6) if task == "multilabel" else {},
        recipe={"data": {"path": "/home/operator/secret"}},
        training={"finished": "2026-01-30T10:00:00", "command": "/home/operator/train"},
        certificate=ParityCertificate(passed=True, images=4, decisions_changed=0, max_difference=1e-7),
    )
    return write_file(path, graph, contract)


BOXES = np.array([[1, 1, 5, 5], [4, 4, 8, 8], [0, 0, 2, 2]], np.float32)  # of 8 x 8 network pixels
SCORES = np.array([0.9, 0.4, 0.2], np.float32)


def write_detector(path, task="detection", names=("dent", "lamp_broken")):
    """Write a detector with the same boxes for every image: dent .9, lamp .4, dent .2; masks have a hole."""
    from onnx import TensorProto, helper, numpy_helper

    ring = np.full((1, 3, 28, 28), 0.1, np.float32)
    ring[:, :, 4:24, 4:24] = 0.9
    ring[:, :, 10:18, 10:18] = 0.1
    constants = {
        "boxes0": BOXES[None],
        "scores0": SCORES[None],
        "labels0": np.array([[0, 1, 0]], np.float32),
        "masks0": ring,
        "zero": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["none4"]),
        helper.make_node("Squeeze", ["none4"], ["none2"], axes=[2, 3]),
        helper.make_node("Squeeze", ["none4"], ["none3"], axes=[3]),
        helper.make_node("Add", ["boxes0", "none3"], ["boxes"]),
        helper.make_node("Add", ["scores0", "none2"], ["scores"]),
        helper.make_node("Add", ["labels0", "none2"], ["labels1"]),
        helper.make_node("Cast", ["labels1"], ["labels"], to=TensorProto.INT64),
        helper.make_node("Add", ["masks0", "none4"], ["masks"]),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["b", 3, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", 3]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["b", 3]),
        helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["b", 3, 28, 28]),
    ]
    roles = ["boxes", "scores", "labels", "masks"]
    if task == "detection":
        nodes, outputs, roles = nodes[:-1], outputs[:-1], roles[:-1]
        del constants["masks0"]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, 8, 8])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    contract = Contract(
        name="tiny-detector",
        architecture="tiny",
        task=Task(task),
        labels=tuple(LabelSpec(name=n, display_name=n.replace("_", " ").title()) for n in names),
        inputs=(PLAIN,),
        outputs=tuple(OutputSpec(name=role, role=role) for role in roles),
        decoder=DecoderSpec(name="final"),
        thresholds={"dent": 0.5, "lamp_broken": 0.3},
        min_score=0.05,
    )
    return write_file(path, graph, contract)


def write_file(path, graph, contract):
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)])
    model.ir_version = 8
    write_model_file(path, model.SerializeToString(), contract)
    return path


def image(color=(200, 40, 30), size=(40, 30), kind="PNG", **options):
    """Return the bytes of an image of one color; `size` is width and height."""
    with io.BytesIO() as buffer:
        Image.new("RGB", size, color).save(buffer, kind, **options)
        return buffer.getvalue()


TIMEOUT_SECONDS = 120  # of a test that waits for an event; only a failing test takes so long


def wait_until(condition, what="the condition"):
    """Wait until a function returns a true value, and return that value."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)
    return value


async def wait_until_async(condition):
    """Wait until a function returns a true value, without blocking the event loop."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


class HeldFunction:
    """A function that waits while it is held, so that tests need no clock.

    Attributes:
        calls: the first argument of every call.
    """

    def __init__(self, function, *, held=False):
        self.function = function
        self.calls = []
        self._open = threading.Event()
        if not held:
            self._open.set()

    def __call__(self, *args):
        self.calls.append(args[0])
        assert self._open.wait(TIMEOUT_SECONDS), "the test released the function too late"
        return self.function(*args)

    def hold(self):
        """Let later calls wait."""
        self._open.clear()

    def release(self):
        """Let every call run."""
        self._open.set()


def hold_model(app, name, *, held=False):
    """Replace the forward pass of a model by a `HeldFunction` and return it."""
    model = app.state.service.models[name]
    model.predict_batch = HeldFunction(model.predict_batch, held=held)
    return model.predict_batch


class InBackground:
    """A function in a thread; `result` waits for its value."""

    def __init__(self, function, *args, **options):
        self._value = None
        self._thread = threading.Thread(target=self._run, args=(function, args, options), daemon=True)
        self._thread.start()

    def _run(self, function, args, options):
        self._value = function(*args, **options)

    def done(self):
        """Return whether the function has ended."""
        return not self._thread.is_alive()

    def result(self):
        """Return the value of the function."""
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive(), "the thread did not end"
        return self._value


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_classifier(folder / "resnet.onnx")
    write_classifier(folder / "fusion.onnx", names=("R_Crushed", "F_Normal", "F_Crushed"))
    write_classifier(folder / "multilabel.onnx", task="multilabel")
    write_detector(folder / "yolo.onnx", names=("dent", "lamp_broken"))
    write_detector(folder / "masks.onnx", task="segmentation")
    return folder


@contextmanager
def running(app, *, wait=True):
    """Run `app` on a server in a thread, and yield its address once it is ready."""
    from blemish.service.server import Server, listen

    listener = listen("127.0.0.1", 0)
    server = Server(app)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        if wait:
            wait_until(
                lambda: get(f"{address}/api/v1/health/ready").status_code == 200, "a server that is ready"
            )
        yield address
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_SECONDS)
        listener.close()
        assert not thread.is_alive()


def get(url, **options):
    """Send a GET request that fails only after a long time."""
    return httpx.get(url, timeout=TIMEOUT_SECONDS, **options)


def post(url, **options):
    """Send a POST request that fails only after a long time."""
    return httpx.post(url, timeout=TIMEOUT_SECONDS, **options)


@pytest.fixture(scope="session")
def app(model_folder):
    from blemish.service.app import create_app

    names = ("resnet", "fusion", "multilabel", "yolo", "masks")
    return create_app({name: model_folder / f"{name}.onnx" for name in names}, threads=1)


@pytest.fixture(scope="session")
def address(app):
    """The address of a server with the five tiny models that all tests share."""
    with running(app) as address:
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS) as client:
        yield client


@pytest.fixture(scope="session")
def tools():
    """The helpers of these tests; test files cannot import them, because there is no package."""

    class Tools:
        timeout_seconds = TIMEOUT_SECONDS
        boxes, scores = BOXES, SCORES
        held_function, in_background = HeldFunction, InBackground

    for function in (
        write_classifier,
        write_detector,
        image,
        running,
        hold_model,
        wait_until,
        wait_until_async,
        get,
        post,
    ):
        setattr(Tools, function.__name__, staticmethod(function))
    return Tools
