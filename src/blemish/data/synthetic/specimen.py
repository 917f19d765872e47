"""`Specimen`: a synthetic image with its ground truth and damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatArray, Mask
from blemish.errors import BadInput
from blemish.geometry import mask_box, mask_from_polygons
from blemish.imaging import LoadedImage
from blemish.structures import GroundTruth, Labels, Task


@dataclass(frozen=True, eq=False)
class Flaw:
    """One piece of damage.

    Attributes:
        label_index: index of the kind of damage among those of the generator.
        polygons: (k, 2) float64 each, x y in pixels; the damage is their union.
        mask: the same as a mask; not empty.
    """

    label_index: int
    polygons: tuple[FloatArray, ...]
    mask: Mask


@dataclass(frozen=True, eq=False)
class Specimen:
    """A synthetic image with its ground truth.

    Attributes:
        id: such as `cell-00012`; unique in one run of a generator.
        image: as `open_image` returns it.
        ground_truth: for the requested task.
        group: the object in the image, which several specimens share.
        flaws: all damage in the image, for every task.
    """

    id: str
    image: LoadedImage
    ground_truth: GroundTruth
    group: str
    flaws: tuple[Flaw, ...] = ()


def make_flaw(label_index: int, polygons: Sequence[FloatArray], size_hw: tuple[int, int]) -> Flaw | None:
    """Return a flaw with these outlines, or None if its area is below four pixels."""
    mask = mask_from_polygons(polygons, size_hw)
    return Flaw(label_index, tuple(polygons), mask) if mask.area >= 4 else None


def make_ground_truth(
    flaws: Sequence[Flaw], labels: Labels, task: Task, size_hw: tuple[int, int]
) -> GroundTruth:
    """Return the ground truth of an image for a task; classification takes the label of the first flaw.

    Args:
        flaws: the damage in the image.
        labels: the labels of the damage; for classification preceded by the label of undamaged images.
        task: the requested task.
        size_hw: height and width of the image, in pixels.
    """
    index = np.array([flaw.label_index for flaw in flaws], np.int64)
    boxes = np.array([mask_box(flaw.mask) for flaw in flaws]).reshape(-1, 4)
    masks = tuple(flaw.mask for flaw in flaws)
    ground_truth: GroundTruth = task.hook("synthesize")(index, boxes, masks, labels, size_hw)
    return ground_truth


def labels_for_task(task: Task, damage: Labels, clean: tuple[str, str]) -> Labels:
    """Return the labels of a task.

    Args:
        task: the requested task.
        damage: the labels of the damage.
        clean: name and display name of undamaged images, which precede `damage` for classification.
    """
    labels: Labels = task.hook("synthetic_labels")(damage, clean)
    return labels


def check_request(count: int, size: int) -> None:
    """Raise `BadInput` for a count or size that is out of range."""
    if count < 0:
        raise BadInput(f"count: expected at least 0 images, got {count}", reason="count")
    if size < 32:
        raise BadInput(f"size: expected at least 32 pixels, got {size}", reason="size")
