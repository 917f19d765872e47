"""What the validation of one epoch costs while a detector is trained, against an earlier commit."""

from __future__ import annotations

import functools
import json
import pstats
import sys
from collections.abc import Mapping
from pathlib import Path

from bench import profiles
from bench.pictures import save_jpeg
from bench.row import Call, Contest, Cost, Hotspot, Row, Setting, require, run_quietly

# Trains until the first validation has ended, and prints its cost.
VALIDATION = """
import cProfile, json, os, time
import torch
torch.set_num_threads(1)
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop

run = _EvaluationLoop.run

def timed(self):
    profile = cProfile.Profile(time.process_time) if "PROFILE_FILE" in os.environ else None
    cpu, wall = time.process_time(), time.perf_counter()
    run(self) if profile is None else profile.runcall(run, self)
    cost = time.process_time() - cpu, time.perf_counter() - wall
    if profile is not None:
        profile.dump_stats(os.environ["PROFILE_FILE"])
    with open(os.environ["COST_FILE"], "w") as file:
        json.dump(cost, file)
    os._exit(0)

_EvaluationLoop.run = timed
from blemish.cli import main
main()
"""
VALIDATION_IMAGES = 16
TRAINING_IMAGES = 8


def write_panels(folder: Path, task: str, count: Mapping[str, int] | None = None) -> Path:
    """Write images with boxes or masks in the layout of YOLO and return the folder.

    Args:
        folder: to create.
        task: `detection` or `segmentation`.
        count: number of images by split, `train` and `val`.
    """
    from PIL import Image

    from blemish.data.synthetic import panels

    count = count or {"train": TRAINING_IMAGES, "val": VALIDATION_IMAGES}
    specimens = panels(sum(count.values()), 3, size_hw=(480, 640), task=task)
    for split, number in count.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(number):
            specimen = next(specimens)
            ground_truth = specimen.ground_truth
            save_jpeg(Image.fromarray(specimen.image.pixels), folder / "images" / split / f"{i}.jpg")
            lines = []
            for label, (x1, y1, x2, y2) in zip(
                ground_truth.label_index, ground_truth.boxes_xyxy, strict=True
            ):
                x1, x2, y1, y2 = x1 / 640, x2 / 640, y1 / 480, y2 / 480
                corners = (x1, y1, x2, y1, x2, y2, x1, y2)
                box = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
                numbers = corners if task == "segmentation" else box
                lines.append(" ".join([str(label), *(f"{value:.6f}" for value in numbers)]))
            (folder / "labels" / split / f"{i}.txt").write_text("".join(f"{line}\n" for line in lines))
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(("chip", "dent", "scratch")))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return folder


def validation(
    setting: Setting,
    *,
    model: str,
    task: str,
    side: int,
    weights: str = "",
    options: tuple[str, ...] = (),
    images: int = VALIDATION_IMAGES,
) -> Contest:
    """Return the sides of one architecture; training takes half as many images as the validation."""
    if model.startswith("yolo"):
        require("ultralytics")
    data = write_panels(setting.folder / "panels", task, {"train": images // 2, "val": images})
    script = setting.folder / "validation.py"
    script.write_text(VALIDATION, encoding="utf-8")
    start = str(setting.data_file(weights)) if weights else "none"
    words = ["train", "--data", str(data), "--model", model, "--weights", start, "--epochs", "1"]
    keys = [
        f"task={task}",
        f"model.input_size={side}",
        f"training.batch_size={min(8, images // 2)}",
        "training.workers=0",
        *options,
    ]
    for key in keys:
        words += ["--set", key]
    counter = iter(range(10**6))

    def run(source: Path | None, **extra: str) -> Call:
        def call() -> Cost:
            number = next(counter)
            cost = setting.folder / f"cost{number}.json"
            more = {"COST_FILE": str(cost), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", **extra}
            environment = setting.environment(source, **more) if source else setting.environment(**more)
            command = [sys.executable, str(script), *words, "--output", str(setting.folder / f"run{number}")]
            run_quietly(command, environment)
            cpu, wall = json.loads(cost.read_text())
            return Cost(cpu / images, wall / images)

        return call

    sides = {"now": run(None), f"commit {setting.before}": run(setting.source_before())}

    def profile() -> list[Hotspot]:
        target = str(setting.folder / "validation.prof")
        run(None, PROFILE_FILE=target)()
        return profiles.of_stats(pstats.Stats(target), images)

    return Contest("now", sides, profile=profile)


TWICE = (
    "The earlier commit runs the network twice a batch. What remains is one forward pass, mostly its "
    "convolutions, and reading the images."
)


def row(name: str, model: str, title: str, explanation: str = TWICE, **settings: object) -> Row:
    """Return the row of one architecture."""
    return Row(
        f"validation-{name}", f"validation while training, {title}, per image", "itself at an earlier commit",
        0.5, functools.partial(validation, model=model, **settings), needs=("torch",), lower=True,
        explanation=explanation,
    )  # fmt: skip


ROWS = (
    row("ssd", "ssd300-resnet50", "SSD300 on ResNet-18", task="detection", side=300,
        options=("model.options.backbone=resnet18",)),
    row("maskrcnn", "maskrcnn-resnet18-fpn", "Mask R-CNN on ResNet-18 at 192 px", task="segmentation",
        side=192, images=4,
        explanation="The backbone runs once instead of twice (106 and 192 convolutions in a validation "
        "of four images), but the two sides are not alike: after one step from random weights, with the "
        "preset here and without one there, the mask head gets far more boxes (its transposed convolution "
        "takes .41 s here and .03 s there). The box head, on the proposals and those of the loss, costs "
        "both the same."),
    row("yolo11n", "yolo11n", "YOLO11n at 320 px from COCO weights", task="detection", side=320,
        weights="weights/yolo11n_coco_state_dict.pth"),
)  # fmt: skip
