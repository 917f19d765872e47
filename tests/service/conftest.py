"""Tiny model files whose answers can be told from the image, and a server that runs on this machine."""

from __future__ import annotations

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
    """Logits are 4 times the mean of red, green and blue: a red image is the first label."""
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
        recipe={"data": {"path": "/home/somebody/secret"}},
        training={"finished": "2026-01-30T10:00:00", "command": "/home/somebody/train"},
        certificate=ParityCertificate(passed=True, images=4, decisions_changed=0, max_difference=1e-7),
    )
    return write_file(path, graph, contract)


BOXES = np.array([[1, 1, 5, 5], [4, 4, 8, 8], [0, 0, 2, 2]], np.float32)  # of 8 x 8 network pixels
SCORES = np.array([0.9, 0.4, 0.2], np.float32)


def write_detector(path, task="detection", names=("dent", "lamp_broken")):
    """Three boxes wherever one looks: dent .9, lamp .4, dent .2; masks are rings with a hole."""
    from onnx import TensorProto, helper, numpy_helper

    ring = np.full((1, 3, 28, 28), 0.1, np.float32)
    ring[:, :, 4:24, 4:24] = 0.9
    ring[:, :, 10:18, 10:18] = 0.1
    constants = {
        "boxes0": BOXES[None],
        "scores0": SCORES[None],
        "labels0": np.array([[0, 1, 0]], np.float32),
        "masks0": ring,
        "nought": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "nought"], ["none4"]),
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


def image(colour=(200, 40, 30), size=(40, 30), kind="PNG", **options):
    """The bytes of an image of one colour; `size` is width and height."""
    with io.BytesIO() as buffer:
        Image.new("RGB", size, colour).save(buffer, kind, **options)
        return buffer.getvalue()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_classifier(folder / "resnet.onnx")
    write_classifier(folder / "fusion.onnx", names=("R_Crushed", "F_Normal", "F_Crushed"))
    write_classifier(folder / "several.onnx", task="multilabel")
    write_detector(folder / "yolo.onnx", names=("dent", "lamp_broken"))
    write_detector(folder / "masks.onnx", task="segmentation")
    return folder


@contextmanager
def running(app, *, wait=True):
    """The address of a server that runs `app` in a thread."""
    from blemish.service.server import Server, listen

    listener = listen("127.0.0.1", 0)
    server = Server(app)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        deadline = time.monotonic() + 30
        while wait and time.monotonic() < deadline:
            if httpx.get(f"{address}/api/v1/health/ready").status_code == 200:
                break
            time.sleep(0.02)
        yield address
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def app(model_folder):
    from blemish.service.app import create_app

    names = ("resnet", "fusion", "several", "yolo", "masks")
    return create_app({name: model_folder / f"{name}.onnx" for name in names}, threads=1)


@pytest.fixture(scope="session")
def address(app):
    """Where the shared server of these tests is, with the five tiny models."""
    with running(app) as where:
        yield where


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=30) as made:
        yield made


@pytest.fixture(scope="session")
def tools():
    """What test files share; there is no package to import it from."""

    class Tools:
        write_classifier = staticmethod(write_classifier)
        write_detector = staticmethod(write_detector)
        image = staticmethod(image)
        running = staticmethod(running)
        boxes, scores = BOXES, SCORES

    return Tools
