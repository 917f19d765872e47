"""What is learned of each image, as arrays; plain objects, so that they travel to worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.errors import BadDataset
from blemish.models._network import Network
from blemish.preprocessing import Placement
from blemish.structures import Sample, Task

TargetEncoder = Callable[[Sample, FloatArray | None, Placement], NDArray[Any]]


@dataclass(frozen=True)
class LabelShares:
    """(L,) float32: 1 for each label that holds, 0 for the others."""

    label_count: int

    def __call__(self, sample: Sample, boxes: FloatArray | None, placement: Placement) -> NDArray[Any]:
        """The target of one image."""
        out = np.zeros(self.label_count, np.float32)
        if sample.ground_truth is not None:
            out[sample.ground_truth.label_index] = 1
        return out


@dataclass(frozen=True)
class OneBox:
    """(4,) float32 `xywh`: shares of the input's sides, or of the set's largest coordinate.

    Attributes:
        coord_max: pixels; None for shares of the input. With it the box is that of the image which
            would give the changed input without any change, since `coord_max` counts its pixels: of
            images of one size, the same input always asks for the same box.
    """

    coord_max: float | None = None

    def __call__(self, sample: Sample, boxes: FloatArray | None, placement: Placement) -> NDArray[Any]:
        """The target of one image.

        Args:
            sample: with its truth.
            boxes: (1, 4) pixels of the changed input.
            placement: of the image without any change, as decoding knows it.
        """
        assert boxes is not None  # noqa: S101  (sets of boxes have them, and their number was checked)
        if self.coord_max is None:
            height, width = placement.input_hw
            left, top, right, bottom = boxes[0] / (width, height, width, height)
        else:
            left, top, right, bottom = placement.to_image(boxes)[0] / self.coord_max
        return np.array([left, top, right - left, bottom - top], np.float32)


def target_of(network: Network) -> TargetEncoder:
    """What this network learns of an image."""
    encoder: TargetEncoder = network.task.hook("target_encoder")(network)
    return encoder


def label_shares_encoder(network: Network) -> LabelShares:
    """Return the target encoder of a network that scores labels."""
    return LabelShares(network.label_count)


def one_box_encoder(network: Network) -> OneBox:
    """Return the target encoder of a network that predicts one box."""
    return OneBox(network.decoder.settings.get("coord_max"))


def largest_coordinate(samples: Sequence[Sample]) -> float:
    """The largest of all x, y, width and height, pixels: what `coord_max` divides by."""
    largest = 0.0
    for sample in samples:
        if sample.ground_truth is not None and sample.ground_truth.boxes_xyxy is not None:
            largest = max(largest, float(sample.ground_truth.boxes_xyxy.max(initial=0)))
    return largest


def check_targets(samples: Sequence[Sample], task: Task) -> None:
    """Refuse images that hold nothing to learn from.

    Raises:
        BadDataset: an image without truth, or for localization without exactly one box.
    """
    for sample in samples:
        where = sample.origin or sample.id
        if sample.ground_truth is None:
            raise BadDataset(f"{where}: the image has no label; label it or leave it out")
        if "check_sample" in task.fields.hooks:
            task.hook("check_sample")(sample, where)


def check_objects(
    train: Sequence[Sample], validation: Sequence[Sample], task: Task, watched: Sequence[str]
) -> None:
    """Refuse to learn to detect where there is nothing to find, or nothing to choose an epoch by.

    Args:
        train: images to learn from.
        validation: images to judge by.
        task: others than detection and segmentation pass.
        watched: metrics that decide on an epoch or the learning rate.

    Raises:
        BadDataset: the message says which images hold no object.
    """
    if not task.has_objects:
        return
    if not _any_object(train):
        raise BadDataset(f"none of {len(train)} training images holds an object: there is nothing to learn")
    names = [name for name in watched if not name.endswith("_loss")]
    if names and not _any_object(validation):
        raise BadDataset(
            f"none of {len(validation)} validation images holds an object, so {names[0]} cannot be "
            "measured: choose another data.split.seed, or watch val_loss (training.monitor)"
        )


def _any_object(samples: Sequence[Sample]) -> bool:
    """Whether there is an object that counts; a crowd does not."""
    return any(s.ground_truth is not None and not s.ground_truth.crowd.all() for s in samples)
