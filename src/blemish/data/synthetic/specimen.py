"""What a generator draws: an image, and everything that is true of it."""

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
        label_index: which damage, among the generator's own.
        polygons: (k, 2) float64 each, x y pixels; the damage is all that they cover together.
        mask: the same in pixels; not empty.
    """

    label_index: int
    polygons: tuple[FloatArray, ...]
    mask: Mask


@dataclass(frozen=True, eq=False)
class Specimen:
    """A drawn image with its truth.

    Attributes:
        id: `cell-00012`; unique in one run of a generator.
        image: as `open_image` would give it.
        ground_truth: for the task that was asked for.
        group: the object photographed, shared by several specimens.
        flaws: all that was drawn, whatever the task.
    """

    id: str
    image: LoadedImage
    ground_truth: GroundTruth
    group: str
    flaws: tuple[Flaw, ...] = ()


def make_flaw(label_index: int, polygons: Sequence[FloatArray], size_hw: tuple[int, int]) -> Flaw | None:
    """A flaw of these outlines; None where it would be smaller than four pixels."""
    mask = mask_from_polygons(polygons, size_hw)
    return Flaw(label_index, tuple(polygons), mask) if mask.area >= 4 else None


def ground_truth_of(
    flaws: Sequence[Flaw], labels: Labels, task: Task, size_hw: tuple[int, int]
) -> GroundTruth:
    """What `flaws` mean for a task; classification takes its label from the first flaw.

    Args:
        flaws: in any order.
        labels: of the damage; for classification preceded by the label of images without any.
        task: what is asked.
        size_hw: of the image.
    """
    index = np.array([flaw.label_index for flaw in flaws], np.int64)
    boxes = np.array([mask_box(flaw.mask) for flaw in flaws]).reshape(-1, 4)
    masks = tuple(flaw.mask for flaw in flaws)
    ground_truth: GroundTruth = task.hook("synthesize")(index, boxes, masks, labels, size_hw)
    return ground_truth


def labels_of(task: Task, damage: Labels, clean: tuple[str, str]) -> Labels:
    """The labels a task speaks of: with the name and title of clean ones, without, or only "damage"."""
    labels: Labels = task.hook("synthetic_labels")(damage, clean)
    return labels


def check_request(count: int, size: int) -> None:
    """BadInput for what no generator can draw."""
    if count < 0:
        raise BadInput(f"{count} images cannot be drawn; ask for 0 or more")
    if size < 32:
        raise BadInput(f"images of {size} px are too small to show damage; ask for 32 or more")
