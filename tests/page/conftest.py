"""A server in a process, with models that recognize colors, and Chromium with checks of every page."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = '<img src=x onerror="document.title=1">'
TIMEOUT_SECONDS = 60  # of a wait for an event; only a failing test takes so long
expect.set_options(timeout=1000 * TIMEOUT_SECONDS)
SCORES = (0.92, 0.56, 0.2)  # of red, green and blue
SIZE_HW = (60, 80)  # of the finder's input


def pytest_collection_modifyitems(items):
    reason = "Chromium, which runs the page, is not installed: apt-get install chromium"
    for item in items:
        if CHROMIUM is None and "tests/page/" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=reason))


def _serialize_graph(nodes, inputs, outputs, constants):
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"labels": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", *s]) for n, s in inputs.items()],
        [
            helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), ["b", *s])
            for n, s in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def write_finder(path, size_hw=SIZE_HW):
    """Write a model that finds red, green and blue rectangles: dent .92, scratch .56 with a hole, lamp .2."""
    from onnx import TensorProto, helper

    from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec, write_model_file
    from blemish.structures import Task

    height, width = size_hw
    node = helper.make_node
    ring = np.ones((1, 3, 28, 28), np.float32)
    ring[:, 1, 9:19, 9:19] = 0
    constants = {
        "channel": np.array([1], np.int64),
        "some": np.float32(0.4),
        "zero": np.float32(0),
        "right": np.arange(1, width + 1, dtype=np.float32),  # x + 1
        "left": np.arange(width, 0, -1, dtype=np.float32),  # width - x
        "below": np.arange(1, height + 1, dtype=np.float32),
        "above": np.arange(height, 0, -1, dtype=np.float32),
        "width": np.float32(width),
        "height": np.float32(height),
        "score": np.array([SCORES], np.float32),
        "number": np.array([[0, 1, 2]], np.float32),
        "last": np.array([-1], np.int64),
        "grid": ring,
        "shape": np.array([-1, 3, 1, 1], np.int64),
    }
    nodes = [
        node("ReduceSum", ["image", "channel"], ["total"], keepdims=1),
        node("Sub", ["total", "image"], ["others"]),
        node("Sub", ["image", "others"], ["more"]),
        node("Greater", ["more", "some"], ["is"]),
        node("Cast", ["is"], ["seen"], to=TensorProto.FLOAT),  # (b, 3, h, w)
        node("ReduceMax", ["seen"], ["columns"], axes=[2], keepdims=0),
        node("ReduceMax", ["seen"], ["rows"], axes=[3], keepdims=0),
        node("ReduceMax", ["rows"], ["present"], axes=[2], keepdims=0),  # (b, 3)
    ]
    for name, line, weights, size in (
        ("x2", "columns", "right", None),
        ("x1", "columns", "left", "width"),
        ("y2", "rows", "below", None),
        ("y1", "rows", "above", "height"),
    ):
        nodes.append(node("Mul", [line, weights], [f"{name}_all"]))
        nodes.append(node("ReduceMax", [f"{name}_all"], [f"{name}_far"], axes=[2], keepdims=0))
        nodes.append(
            node("Identity", [f"{name}_far"], [f"{name}_at"])
            if size is None
            else node("Sub", [size, f"{name}_far"], [f"{name}_at"])
        )
        nodes.append(node("Unsqueeze", [f"{name}_at", "last"], [name]))
    nodes += [
        node("Concat", ["x1", "y1", "x2", "y2"], ["boxes"], axis=2),
        node("Mul", ["present", "score"], ["scores"]),
        node("Mul", ["present", "zero"], ["none"]),
        node("Add", ["none", "number"], ["numbers"]),
        node("Cast", ["numbers"], ["labels"], to=TensorProto.INT64),
        node("Reshape", ["none", "shape"], ["none4"]),
        node("Add", ["none4", "grid"], ["masks"]),
    ]
    outputs = {"boxes": (3, 4), "scores": (3,), "labels": (3,), "masks": (3, 28, 28)}
    labels = (("dent", "Dent"), ("scratch", "Scratch"), ("lamp", "Broken Lamp"))
    contract = Contract(
        name="colors",
        architecture="tiny",
        task=Task.SEGMENTATION,
        labels=tuple(LabelSpec(name=n, display_name=t) for n, t in labels),
        inputs=(InputSpec(size_hw=size_hw, mean=(0, 0, 0), std=(1, 1, 1)),),
        outputs=tuple(OutputSpec(name=role, role=role) for role in outputs),
        decoder=DecoderSpec(name="final", settings={"mask_threshold": 0.45}),  # up to the box
        thresholds={"dent": 0.5, "scratch": 0.5, "lamp": 0.5},
        min_score=0.05,
    )
    write_model_file(path, _serialize_graph(nodes, {"image": (3, *size_hw)}, outputs, constants), contract)


def write_classifier(path):
    """Write a classifier of red, green and blue, with a display name that would be markup in HTML."""
    from onnx import helper

    from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec, write_model_file
    from blemish.structures import Task

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Mul", ["flat", "nine"], ["logits"]),
    ]
    graph = _serialize_graph(nodes, {"image": (3, 8, 8)}, {"logits": (3,)}, {"nine": np.float32(9)})
    labels = (("crushed", HOSTILE), ("normal", "Normal"), ("broken", "Broken"))
    contract = Contract(
        name="classifier",
        architecture="tiny",
        task=Task.CLASSIFICATION,
        labels=tuple(LabelSpec(name=n, display_name=t) for n, t in labels),
        inputs=(InputSpec(size_hw=(8, 8), mean=(0, 0, 0), std=(1, 1, 1)),),
        outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
    )
    write_model_file(path, graph, contract)


@pytest.fixture(scope="session")
def page_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page-models")
    write_finder(folder / "finder.onnx")
    write_classifier(folder / "classifier.onnx")
    return folder


class Server:
    """`blemish serve` in a process; it can be killed and started again at the same address."""

    def __init__(self, models, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        named = [f"--model={name}={models / name}.onnx" for name in ("finder", "classifier")]
        self.command = [
            sys.executable,
            "-m",
            "blemish",
            "serve",
            *named,
            f"--port={self.port}",
            "--threads=1",
        ]
        self.command += options
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server ended at once"
            try:
                ready = httpx.get(f"{self.address}/api/v1/health/ready", timeout=TIMEOUT_SECONDS)
                if ready.status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server did not become ready")

    def kill(self):
        """End the process without warning."""
        os.kill(self.process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self.process.wait(TIMEOUT_SECONDS)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()


@contextmanager
def serving(models, *options):
    server = Server(models, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def server(page_models):
    with serving(page_models) as started:
        yield started


@pytest.fixture
def own_server(page_models):
    """Start a server with options, for one test."""
    started = []

    def start(*options):
        started.append(Server(page_models, *options))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def chromium():
    # Not for the whole session: while it runs, no other test in this process can run an event loop.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Watch:
    """Records what a page must never do: errors, warnings, and requests to other servers."""

    def __init__(self, page, origin):
        self.page, self.origin = page, origin
        self.bad: list[str] = []
        self.refusals = 0  # answers with status 4xx and 5xx, which Chromium also writes to the console
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.bad.append(f"error: {error}"))
        page.on("request", self._request)

    def _console(self, message):
        if message.type in ("error", "warning"):
            if message.text.startswith("Failed to load resource"):
                self.refusals += 1
            else:
                self.bad.append(f"console: {message.text}")

    def _request(self, request):
        if not request.url.startswith((f"{self.origin}/", f"blob:{self.origin}/", "data:")):
            self.bad.append(f"foreign request: {request.url}")


@pytest.fixture
def visit(chromium, server):
    """Open the page in its own context; at the end of the test the page must have caused no error."""
    contexts, watches = [], []

    def open_page(address=None, context=None, wait=True, **options):
        if context is None:
            context = chromium.new_context(
                **{"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **options}
            )
            context.set_default_timeout(1000 * TIMEOUT_SECONDS)
            contexts.append(context)
        page = context.new_page()
        watches.append(Watch(page, address or server.address))
        page.watch = watches[-1]
        page.goto(address or server.address)
        if wait:
            page.locator("#about-model h2").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    for watch in watches:
        assert watch.bad == []


RECTANGLES = {  # x1, y1, x2, y2 in 640 x 480: multiples of a network pixel
    "red": (64, 96, 384, 336),
    "green": (432, 40, 592, 200),
    "blue": (448, 280, 608, 440),
}


def damaged(colors=("red", "green", "blue"), kind="PNG", orientation=1, size=(640, 480)):
    """Return an image with rectangles that the finder detects, stored with this EXIF orientation."""
    image = Image.new("RGB", (640, 480), (120, 120, 120))
    draw = ImageDraw.Draw(image)
    for color in colors:
        x1, y1, x2, y2 = RECTANGLES[color]
        rgb = tuple(235 if name == color else 15 for name in ("red", "green", "blue"))
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=rgb)
    if size != image.size:
        image = image.resize(size, Image.Resampling.NEAREST)
    transposition = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    if transposition is not None:
        image = image.transpose(transposition)
    exif = Image.Exif()
    exif[0x0112] = orientation
    with io.BytesIO() as buffer:
        image.save(buffer, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
        return buffer.getvalue()


def file(name="car.png", data=None, mime="image/png"):
    """Return a file as Playwright passes it to the page."""
    return {"name": name, "mimeType": mime, "buffer": damaged() if data is None else data}


def downloaded_image(download):
    """Return a downloaded image as (h, w, 3) int."""
    with Image.open(download.path()) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def drop(page, files):
    """Drop files on the page."""
    import base64

    page.evaluate(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, type, text] of files) {
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type }));
            }
            const send = (name, target) => target.dispatchEvent(
                new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }));
            send("dragenter", document.body);
            window.overlayShown = !document.getElementById("drop-overlay").hidden;
            send("drop", document.body);
        }""",
        [[f["name"], f["mimeType"], base64.b64encode(f["buffer"]).decode()] for f in files],
    )


def settled(page, count):
    """Wait until `count` photos are done, failed or canceled."""
    page.locator(".photo.done, .photo.failed, .photo.cancelled").nth(count - 1).wait_for()


@pytest.fixture(scope="session")
def tools():
    """The helpers of these tests; test files cannot import them, because there is no package."""

    class Tools:
        rectangles, hostile, scores = RECTANGLES, HOSTILE, SCORES

    for function in (damaged, file, downloaded_image, drop, settled, serving):
        setattr(Tools, function.__name__, staticmethod(function))
    return Tools
