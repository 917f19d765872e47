"""Take the screenshots of the web page from synthetic images.

    make screenshots                           all, into docs/images
    python docs/make_screenshots.py page.png   one of them

No real image is used and no network is trained: `blemish.data.synthetic` draws the images, and the "model" is
a stub that recognizes them and returns their ground truth, with scores from a seed. Its name on the page
states this. Needs the extras `serve` and `dev`, and Chromium. Only `page.png` belongs in the repository.
"""

# ruff: noqa: S310, S603, T201  (it starts the project's own server on this machine, and prints what it wrote)

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT = Path(__file__).parent / "images"
SEED = 11
IMAGES = 7
SIZE_HW = (750, 1000)
SIDE = 64  # of the stub's input, pixels
GRID = 112  # cells per side of a mask over its box
MAX_OBJECTS = 24


def write_stub_model(path: Path, images: Sequence[Any], ground_truths: Sequence[Any], seed: int = 0) -> Path:
    """Write a model file that recognizes images by their thumbnail and returns their ground truth.

    Args:
        path: the file to write.
        images: (h, w, 3) uint8 each.
        ground_truths: one per image, with masks.
        seed: random seed of the scores.
    """
    from PIL import Image

    from blemish.geometry import mask_to_array
    from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec, write_model_file
    from blemish.structures import Task

    rng = np.random.default_rng(seed)
    spec = InputSpec(size_hw=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))
    count = len(images)
    boxes = np.zeros((count, MAX_OBJECTS, 4), np.float32)
    scores = np.zeros((count, MAX_OBJECTS), np.float32)
    labels = np.full((count, MAX_OBJECTS), -1, np.int64)
    masks = np.zeros((count, MAX_OBJECTS, GRID, GRID), np.float32)
    thumbnails = np.zeros((count, 3 * 16 * 16), np.float32)
    for i, (pixels, ground_truth) in enumerate(zip(images, ground_truths, strict=True)):
        height, width = pixels.shape[:2]
        thumbnail = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX)
        thumbnails[i] = (np.asarray(thumbnail, np.float32) / 255).transpose(2, 0, 1).ravel()
        for k, (box, mask, label) in enumerate(
            zip(
                ground_truth.boxes_xyxy[:MAX_OBJECTS],
                ground_truth.masks[:MAX_OBJECTS],
                ground_truth.label_index[:MAX_OBJECTS],
                strict=True,
            )
        ):
            x1, y1, x2, y2 = np.round(box).astype(int)
            part = mask_to_array(mask)[y1:y2, x1:x2].astype(np.float32)
            grid = Image.fromarray(part).resize((GRID, GRID), Image.Resampling.BILINEAR)
            boxes[i, k] = np.array([x1, y1, x2, y2]) * SIDE / np.array([width, height, width, height])
            scores[i, k] = np.clip(rng.normal(0.8, 0.2), 0.2, 0.98)
            labels[i, k], masks[i, k] = label, np.asarray(grid)
    names = ground_truths[0].labels
    contract = Contract(
        name="placeholder",
        architecture="lookup of synthetic images",
        task=Task.SEGMENTATION,
        labels=tuple(
            LabelSpec(name=n, display_name=t) for n, t in zip(names.names, names.display_names, strict=True)
        ),
        inputs=(spec,),
        outputs=tuple(OutputSpec(name=role, role=role) for role in ("boxes", "scores", "labels", "masks")),
        decoder=DecoderSpec(name="final"),
        thresholds=dict.fromkeys(names.names, 0.5),
        min_score=0.05,
    )
    write_model_file(path, _graph(thumbnails, boxes, scores, labels, masks), contract)
    return path


def _graph(thumbnails: Any, boxes: Any, scores: Any, labels: Any, masks: Any) -> bytes:
    """Nearest thumbnail by squared distance, then what is stored for it."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "known": (-2 * thumbnails.T).astype(np.float32),  # (features, images)
        "norms": (thumbnails**2).sum(1)[None].astype(np.float32),
        **{
            f"all_{name}": v
            for name, v in zip(
                ("boxes", "scores", "labels", "masks"), (boxes, scores, labels, masks), strict=True
            )
        },
    }
    pool = SIDE // 16
    nodes = [
        helper.make_node(
            "AveragePool", ["image"], ["small"], kernel_shape=[pool, pool], strides=[pool, pool]
        ),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "known"], ["crossed"]),
        helper.make_node("Add", ["crossed", "norms"], ["distance"]),
        helper.make_node("ArgMin", ["distance"], ["which"], axis=1, keepdims=0),
        *(
            helper.make_node("Gather", [f"all_{name}", "which"], [name], axis=0)
            for name in ("boxes", "scores", "labels", "masks")
        ),
    ]
    kinds = {"labels": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "placeholder",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), ["batch", *shape])
            for name, shape in (
                ("boxes", (MAX_OBJECTS, 4)),
                ("scores", (MAX_OBJECTS,)),
                ("labels", (MAX_OBJECTS,)),
                ("masks", (MAX_OBJECTS, GRID, GRID)),
            )
        ],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def drawn(folder: Path) -> tuple[list[Path], Path]:
    """Images of painted panels, and a model file that knows them."""
    from PIL import Image

    from blemish.data.synthetic import panels

    specimens = list(panels(IMAGES, SEED, size_hw=SIZE_HW))
    paths = []
    for number, specimen in enumerate(specimens, 1):
        paths.append(folder / f"panel-{number:02d}.jpg")
        Image.fromarray(specimen.image.pixels).save(paths[-1], quality=92)
    pixels = [specimen.image.pixels for specimen in specimens]
    model = write_stub_model(folder / "placeholder.onnx", pixels, [s.ground_truth for s in specimens], SEED)
    return paths, model


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The address of `blemish serve` with this model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "blemish", "serve", f"--model=placeholder={model}", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{address}/api/v1/health/ready"):
                    break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def save(page: Any, path: Path) -> None:
    """Save a screenshot of the page as a small PNG."""
    from PIL import Image

    page.wait_for_timeout(1500)  # thumbnails and crops are drawn one after another
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # Without dithering, whose noise PNG compresses poorly.
    quantized = image.quantize(200, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    quantized.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def upload(page: Any, paths: Sequence[Path]) -> None:
    """Upload the images and wait for all results."""
    page.set_input_files("#files", [str(path) for path in paths])
    page.locator(".photo.done").nth(len(paths) - 1).wait_for()


def batch(page: Any, paths: Sequence[Path]) -> None:
    """Show a batch with the detections of one image."""
    upload(page, paths)
    page.locator(".face").nth(3).click()


def scores(page: Any, paths: Sequence[Path]) -> None:
    """Show the scores of one image."""
    upload(page, paths[:1])
    page.keyboard.press("1")


SHOTS: dict[str, tuple[dict[str, Any], Callable[[Any, Sequence[Path]], None]]] = {
    "page.png": ({"viewport": {"width": 1120, "height": 660}}, batch),
    "page-dark.png": ({"viewport": {"width": 1120, "height": 660}, "color_scheme": "dark"}, batch),
    "page-phone.png": (
        {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True},
        scores,
    ),
    "page-start.png": ({"viewport": {"width": 1120, "height": 660}}, lambda page, paths: None),
}


def main(wanted: Sequence[str]) -> int:
    """Take the screenshots with these names, or all of them."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("Chromium is not installed. Run apt-get install chromium.", file=sys.stderr)
        return 2
    OUTPUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        paths, model = drawn(Path(name))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        with served(model) as address:
            for name in wanted or SHOTS:
                options, act = SHOTS[name]
                context = browser.new_context(**options)
                page = context.new_page()
                page.goto(address)
                page.locator("#about-model h2").wait_for()
                act(page, paths)
                save(page, OUTPUT / name)
                context.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
