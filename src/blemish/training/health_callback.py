"""Warnings of what keeps a network from learning, each once, with a remedy; examples of the best epoch."""

from __future__ import annotations

import io
import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from blemish.errors import BlemishError
from blemish.model_file import InputSpec
from blemish.preprocessing import place

if TYPE_CHECKING:
    from blemish.structures import Prediction, Sample
    from blemish.training.lightning_module import ImageLightningModule

MIN_OBJECT_SIDE = 8  # pixels of the input: one cell of the finest map of most detectors
MAX_TINY_SHARE = 0.1
MAX_DEAD_SHARE = 0.5
MAX_UNMATCHED_SHARE = 0.05
GRADIENT_JUMP = 100.0  # times the median of the epoch
WATCHED_BATCHES = 8  # of the validation images, for dead channels
EXAMPLES = 4
EXAMPLES_FILE = "best_epoch.jpg"
_log = logging.getLogger("blemish.training")


class TrainingHealth(Callback):  # type: ignore[misc]
    """Warns of what keeps a network from learning, and draws predictions of the best epoch.

    It watches for dead channels, jumping gradients, and images whose objects get no positive example.

    The training does not change: nothing that is measured here is used by it.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._warned: set[str] = set()
        self._norms: list[Tensor] = []
        self._ranges: tuple[Tensor, Tensor] | None = None
        self._batches = 0
        self._hook: Any = None
        self._unmatched: list[Tensor] = []
        self._images = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of a batch whose objects get no positive example."""
        unmatched = pl_module.network.unmatched
        if unmatched is not None:
            self._unmatched.append(unmatched.sum())
            self._images += sum(len(target["boxes"]) > 0 for target in batch["target"])

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Keep the norm of the gradient of a step."""
        if pl_module.recipe.training.gradient_clip_val is None and "gradient" not in self._warned:
            gradients = [p.grad for p in pl_module.network.parameters() if p.grad is not None]
            if gradients:
                self._norms.append(torch.nn.utils.get_total_norm(gradients))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Watch the last feature map."""
        names = pl_module.network.feature_layers
        self._ranges, self._batches = None, 0
        if names and not pl_module.from_features and "channels" not in self._warned:
            layer = pl_module.eval_network.get_submodule(names[-1])
            self._hook = layer.register_forward_hook(self._watch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop watching."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: ImageLightningModule) -> None:
        """Warn, and draw the examples of an epoch that is the best so far."""
        if not trainer.is_global_zero:
            return
        if jump := describe_gradient_jump([float(norm) for norm in self._norms]):
            self._warn("gradient", jump)
        self._norms = []
        count = int(sum(map(int, self._unmatched)))
        if text := describe_unmatched_images(count, self._images, pl_module.network.inputs[0]):
            self._warn("unmatched", text)
        self._unmatched, self._images = [], 0
        if self._ranges is not None and pl_module.progress.epoch > 1:
            low, high = self._ranges
            if dead := describe_dead_channels((high - low).cpu().numpy()):
                self._warn("channels", dead)
        examples = getattr(pl_module, "examples", ())
        if pl_module.is_best and examples:
            draw_examples(examples, self.folder / EXAMPLES_FILE)

    def _watch(self, layer: Any, inputs: Any, output: Any) -> None:
        self._batches += 1
        if self._batches > WATCHED_BATCHES or not isinstance(output, Tensor) or output.ndim != 4:
            return
        values = output.detach().float().transpose(0, 1).flatten(1)
        low, high = values.amin(1), values.amax(1)
        if self._ranges is not None:
            low, high = torch.minimum(low, self._ranges[0]), torch.maximum(high, self._ranges[1])
        self._ranges = low, high

    def _warn(self, name: str, text: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            _log.warning("%s", text)


def describe_tiny_objects(samples: Sequence[Sample], spec: InputSpec) -> str:
    """Return a warning if many objects are too small at the network's input size, else "".

    Args:
        samples: of the training; those without boxes or without a known size are ignored.
        spec: the network's first input.
    """
    tiny: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for sample in samples:
        objects = sample.ground_truth
        if objects is None or objects.boxes_xyxy is None or objects.size_hw is None or not len(objects):
            continue
        scale = place(objects.size_hw, spec).scale_xy
        sides = (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]) * np.asarray(scale)
        is_tiny = np.sqrt(sides.prod(1)) < MIN_OBJECT_SIDE
        for index, flag in zip(objects.label_index.tolist(), is_tiny.tolist(), strict=True):
            name = objects.labels.names[index] if len(objects.labels) else "object"
            total[name] += 1
            tiny[name] += flag
    found, count = sum(tiny.values()), sum(total.values())
    if found <= MAX_TINY_SHARE * count:
        return ""
    most = [name for name, number in tiny.most_common(3) if number]
    worst = ", ".join(f"{name} {tiny[name] / total[name]:.0%}" for name in most)
    height, width = spec.size_hw
    return (
        f"{found} of {count} objects are smaller than {MIN_OBJECT_SIDE} x {MIN_OBJECT_SIDE} pixels at the "
        f"input size of {width} x {height} ({worst}): networks hardly find them. Raise model.input_size, or "
        "train on tiles (data.tiles)"
    )


def describe_dead_channels(ranges: np.ndarray) -> str:
    """Return a warning if many channels never change, else "".

    Args:
        ranges: (c,) the difference between the largest and the smallest activation of each channel.
    """
    dead = int((ranges <= 1e-6 * max(float(ranges.max(initial=0.0)), 1e-12)).sum())
    if dead <= MAX_DEAD_SHARE * len(ranges):
        return ""
    return (
        f"{dead} of {len(ranges)} channels of the last feature map are the same for all validation images: "
        "most of the network is silent. Lower the learning rate, above all of pretrained layers "
        "(training.optimizer.lr_by_stage), or warm up (training.schedule.warmup_steps)"
    )


def describe_unmatched_images(unmatched: int, images: int, spec: InputSpec) -> str:
    """Return a warning if objects of many images are trained as background, else "".

    Args:
        unmatched: images of an epoch whose objects all lack a positive example.
        images: images of the epoch with objects.
        spec: the network's first input.
    """
    if unmatched <= MAX_UNMATCHED_SHARE * images:
        return ""
    height, width = spec.size_hw
    return (
        f"{unmatched} of {images} training images with objects gave no positive example in an epoch: all "
        f"their objects are smaller than a cell at the input size of {width} x {height}, and are trained as "
        "background. Raise model.input_size, train on tiles (data.tiles), or scale images down less "
        "(augmentation.scale_jitter, mosaic)"
    )


def describe_gradient_jump(norms: Sequence[float]) -> str:
    """Return a warning if the gradient of a step is far larger than usual, else "".

    Args:
        norms: of the steps of an epoch.
    """
    finite = [norm for norm in norms if math.isfinite(norm)]
    if len(finite) < 8:
        return ""
    usual, largest = float(np.median(finite)), max(finite)
    if largest <= GRADIENT_JUMP * max(usual, 1e-12):
        return ""
    return (
        f"the norm of the gradient is usually {usual:.2g}, and {largest:.2g} in one step, which can undo "
        "what was learned. Limit it, for example --set "
        f"training.gradient_clip_val={2 * usual:.1g}"
    )


def draw_examples(examples: Sequence[tuple[Sample, Prediction]], path: Path) -> None:
    """Draw validation images with ground truth and prediction side by side into one file.

    An image that cannot be drawn is left out with a warning; the training continues.

    Args:
        examples: validation images and their predictions.
        path: the JPEG file to write.
    """
    from PIL import Image

    from blemish.drawing import draw, reduce_image, side_by_side
    from blemish.imaging import open_image
    from blemish.model_file import write_atomically

    rows = []
    for sample, prediction in examples:
        try:
            image = reduce_image(open_image(sample.path), 400_000, 800).to_pil()
        except (BlemishError, OSError) as error:
            _log.warning("%s: not drawn into %s: %s", sample.path, path.name, error)
            continue
        pair = [draw(prediction.filter_scores(), image.copy())]
        captions = ["predicted"]
        if sample.ground_truth is not None:
            pair, captions = [draw(sample.ground_truth, image), *pair], ["labeled", *captions]
        rows.append(side_by_side(pair, captions))
    if not rows:
        return
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)
    write_atomically(path, buffer.getvalue())
