"""What an epoch of training costs per image, against the best loop by hand and against Ultralytics."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.peers.quiet_ultralytics import import_quietly
from bench.pictures import photo, save_jpeg
from bench.row import Call, Contest, Cost, Row, Setting
from bench.rows.detector_validation import write_panels

EPOCHS = 2  # the first fills caches and is not counted
IMAGES, VALIDATION = 384, 32
PANELS, PANELS_VALIDATION = 96, 8
SIDE = 128
BATCH = 32


class Clock:
    """The CPU and wall time at the end of each epoch; a callback of our trainings."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def record(self) -> None:
        """Record the end of an epoch."""
        self.ends.append((time.process_time(), time.perf_counter()))

    def on_train_start(self, recipe: object, folder: Path) -> None:
        """Do nothing; part of the interface."""

    def on_epoch_end(self, metrics: Mapping[str, float]) -> None:
        """Record the end of an epoch."""
        self.record()

    def on_train_end(self) -> None:
        """Do nothing; part of the interface."""

    def cost(self, images: int) -> Cost:
        """Return the cost per training image of the epochs after the first."""
        (cpu, wall), (last_cpu, last_wall) = self.ends[0], self.ends[-1]
        seen = images * (len(self.ends) - 1)
        return Cost((last_cpu - cpu) / seen, (last_wall - wall) / seen)


def ours(setting: Setting, data: Path, settings: Mapping[str, Any], images: int, counter: Any) -> Call:
    """Return a training by Blemish; its export is left out, which costs no epoch anything."""
    from types import SimpleNamespace

    from blemish import export
    from blemish.training import read_recipe
    from blemish.training.run import train

    os.environ["BLEMISH_CACHE"] = str(setting.folder / "cache")
    export.export_trained = lambda network, *, output, **_: SimpleNamespace(path=output / "model.onnx")
    recipe = read_recipe().changed({"training.epochs": EPOCHS, "training.patience": None, **settings})

    def call() -> Cost:
        clock = Clock()
        output = setting.folder / f"run{next(counter)}"
        train(recipe, data=data, output=output, device="cpu", callbacks=[clock], progress=False)
        return clock.cost(images)

    return call


def classifier(setting: Setting) -> Contest:
    """Return the sides: ours in the memory format that its trial chooses, and loops by hand in each format.

    The loops keep every image in memory as one tensor of bytes, flip and normalize whole batches, and after
    each epoch validate and save what a resumed training needs, as we do.
    """
    import torch

    from blemish.models import create
    from blemish.training.memory_format import choose_channels_last

    torch.set_num_threads(1)
    root = setting.folder / "data"
    for split, count in (("train", IMAGES), ("val", VALIDATION)):
        for number in range(count):
            place = root / split / ("clean" if number % 2 else "damaged")
            place.mkdir(parents=True, exist_ok=True)
            save_jpeg(photo(number, (300, 300)), place / f"{split}{number}.jpg")
    network = create("resnet18", task="classification", label_count=2, input_size=SIDE)
    channels_last = choose_channels_last(network, BATCH, "fp32")
    settings = {
        "model.name": "resnet18", "model.weights": "none", "model.input_size": SIDE,
        "augmentation.horizontal_flip": 0.5, "augmentation.vertical_flip": 0.5,
        "training.batch_size": BATCH, "training.workers": 0, "training.channels_last": channels_last,
    }  # fmt: skip
    sides: dict[str, Call] = {"blemish train": ours(setting, root, settings, IMAGES, iter(range(10**6)))}
    for label, memory_format in (
        ("a loop by hand", torch.contiguous_format),
        ("a loop by hand, channels-last", torch.channels_last),
    ):
        sides[label] = by_hand(root, memory_format, setting.folder / "checkpoint.pt")
    chosen = "channels-last" if channels_last else "NCHW"
    return Contest("blemish train", sides, accuracy=f"our trial chose {chosen}")


def by_hand(root: Path, memory_format: Any, checkpoint: Path) -> Call:
    """Return a tuned loop over images in memory."""
    import numpy as np
    import torch
    from PIL import Image

    from blemish.models import create

    def load(split: str) -> tuple[Any, Any]:
        paths = sorted((root / split).rglob("*.jpg"))
        pixels = [
            np.asarray(Image.open(p).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            for p in paths
        ]
        labels = torch.tensor([int(path.parent.name == "damaged") for path in paths])
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), labels

    (images, target), (val_images, val_target) = load("train"), load("val")
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None] * 255
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None] * 255

    def normalized(batch: Any) -> Any:
        return batch.float().sub_(mean).div_(std).contiguous(memory_format=memory_format)

    def flipped(batch: Any, dim: int) -> Any:
        which = torch.rand(len(batch)) < 0.5
        batch[which] = batch[which].flip(dim)
        return batch

    def call() -> Cost:
        torch.manual_seed(0)
        network = create("resnet18", task="classification", label_count=2, input_size=SIDE)
        network = network.to(memory_format=memory_format)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        clock = Clock()
        for _ in range(EPOCHS):
            network.train()
            order = torch.randperm(len(images))
            for first in range(0, len(order), BATCH):
                rows = order[first : first + BATCH]
                x = normalized(flipped(flipped(images[rows], 3), 2))
                loss = torch.nn.functional.cross_entropy(network(x)[0], target[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            network.eval()
            with torch.inference_mode():
                for first in range(0, len(val_images), BATCH):
                    logits = network(normalized(val_images[first : first + BATCH]))[0]
                    (logits.argmax(1) == val_target[first : first + BATCH]).float().mean().item()
            torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
            clock.record()
        return clock.cost(len(images))

    return call


def detector_with_flips(setting: Setting) -> Contest:
    """Return the sides: YOLO11n at 320 px from random weights, flips only, validated after each epoch."""
    mine = {"augmentation.horizontal_flip": 0.5, "training.batch_size": 8}
    off = dict.fromkeys(("mosaic", "hsv_h", "hsv_s", "hsv_v", "translate", "scale", "erasing"), 0.0)
    theirs = {"batch": 8, "optimizer": "AdamW", "pretrained": False, "fliplr": 0.5, **off}
    return detector(setting, mine, theirs, "flips only on both sides")


def detector_with_mosaic(setting: Setting) -> Contest:
    """Return the sides: YOLO11n at 320 px from random weights, with the preset and Ultralytics' defaults.

    Both have mosaic in the epoch that is measured, although a training of two epochs would end it before.
    """
    mine = {"preset": "yolo", "augmentation.close_share": 0.0, "augmentation.close_steps": 0}
    theirs = {"batch": 16, "close_mosaic": 0}
    how = "the preset and Ultralytics' defaults with mosaic, batches of 16"
    return detector(setting, mine, theirs, how)


def detector(setting: Setting, mine: Mapping[str, Any], theirs: Mapping[str, Any], described: str) -> Contest:
    """Return the sides of a training of YOLO11n at 320 px, ours in the memory format of its own trial.

    Args:
        setting: of the row.
        mine: our recipe keys.
        theirs: arguments of Ultralytics' `train`.
        described: the augmentation of both sides.
    """
    import torch

    from blemish.models import create
    from blemish.training import read_recipe
    from blemish.training.memory_format import choose_channels_last

    torch.set_num_threads(1)
    YOLO = import_quietly(setting.folder)  # noqa: N806  (a class)
    data = write_panels(setting.folder / "panels", "detection", {"train": PANELS, "val": PANELS_VALIDATION})
    chosen = {
        "task": "detection", "model.name": "yolo11n", "model.weights": "none", "model.input_size": 320,
        "training.workers": 0, **mine,
    }  # fmt: skip
    network = create("yolo11n", task="detection", label_count=3, input_size=320)
    batch_size = read_recipe().changed(chosen).training.batch_size
    channels_last = choose_channels_last(network.train(), int(batch_size), "fp32")
    chosen["training.channels_last"] = channels_last
    our_call = ours(setting, data, chosen, PANELS, iter(range(10**6)))
    cache = "ram" if find_spec("psutil") else False
    how = {
        "data": str(data / "data.yaml"), "imgsz": 320, "epochs": EPOCHS, "workers": 0, "device": "cpu",
        "amp": False, "cache": cache, "plots": False, "verbose": False, "save": False,
        "project": str(setting.folder), **theirs,
    }  # fmt: skip
    file = data / "data.yaml"
    file.write_text(file.read_text().replace("path: .", f"path: {data}"))

    def their_call() -> Cost:
        model, clock = YOLO("yolo11n.yaml"), Clock()
        model.add_callback("on_fit_epoch_end", lambda _: clock.record())
        model.train(**how)
        clock.ends = clock.ends[:EPOCHS]  # without the last validation of the finished run
        return clock.cost(PANELS)

    accuracy = (
        f"{described}, a validation after each epoch, images in memory from the second on; our trial chose "
        f"{'channels-last' if channels_last else 'NCHW'}"
    )
    sides = {"blemish train": our_call, "Ultralytics train": their_call}
    return Contest("blemish train", sides, accuracy=accuracy)


ROWS = (
    Row(
        "train-resnet18", f"training ResNet-18 at {SIDE} px, per image", "the best loop by hand", 0.98,
        classifier, needs=("torch", "lightning"),
    ),
    Row(
        "train-yolo11n", "training YOLO11n at 320 px, per image", "Ultralytics at equal augmentation", 1.15,
        detector_with_flips, needs=("torch", "lightning", "ultralytics"),
    ),
    Row(
        "train-yolo11n-mosaic", "the same with the preset and mosaic", "Ultralytics with its defaults", 0.95,
        detector_with_mosaic, needs=("torch", "lightning", "ultralytics"),
    ),
)  # fmt: skip
