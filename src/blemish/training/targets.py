"""Target encoders: what a network is trained to predict for an image. Worker processes pickle them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.models._network import Network
from blemish.preprocessing import Placement
from blemish.structures import Sample

TargetEncoder = Callable[[Sample, "FloatArray | None", Placement], NDArray[Any]]


@dataclass(frozen=True)
class LabelShares:
    """The labels of an image, (L,) float32: 1 for each present label, else 0.

    Attributes:
        label_count: L.
    """

    label_count: int

    def __call__(self, sample: Sample, boxes: FloatArray | None, placement: Placement) -> NDArray[Any]:
        """Return the target of one image."""
        out = np.zeros(self.label_count, np.float32)
        if sample.ground_truth is not None:
            out[sample.ground_truth.label_index] = 1
        return out


@dataclass(frozen=True)
class OneBox:
    """The one box of an image, (4,) float32 xywh.

    Attributes:
        coord_max: None for shares of the input's sides. Otherwise the coordinates are divided by it, in
            pixels of the image that would give the augmented input without augmentation: for images of one
            size, the same input then always has the same target.
    """

    coord_max: float | None = None

    def __call__(self, sample: Sample, boxes: FloatArray | None, placement: Placement) -> NDArray[Any]:
        """Return the target of one image.

        Args:
            sample: the image with its ground truth.
            boxes: (1, 4) xyxy in pixels of the augmented input.
            placement: of the image without augmentation, as in decoding.
        """
        assert boxes is not None  # noqa: S101  (the data were checked to have one box per image)
        if self.coord_max is None:
            height, width = placement.input_hw
            left, top, right, bottom = boxes[0] / (width, height, width, height)
        else:
            left, top, right, bottom = placement.to_image(boxes)[0] / self.coord_max
        return np.array([left, top, right - left, bottom - top], np.float32)


def encoder_of(network: Network) -> TargetEncoder:
    """Return the target encoder of a network's task."""
    encoder: TargetEncoder = network.task.hook("target_encoder")(network)
    return encoder


def label_shares_encoder(network: Network) -> LabelShares:
    """Return the target encoder of a network that scores labels."""
    return LabelShares(network.label_count)


def one_box_encoder(network: Network) -> OneBox:
    """Return the target encoder of a network that predicts one box."""
    return OneBox(network.decoder.settings.get("coord_max"))


def largest_coordinate(samples: Sequence[Sample]) -> float:
    """Return the largest box coordinate in pixels, which `coord_max` stands for; 0 without boxes."""
    largest = 0.0
    for sample in samples:
        if sample.ground_truth is not None and sample.ground_truth.boxes_xyxy is not None:
            largest = max(largest, float(sample.ground_truth.boxes_xyxy.max(initial=0)))
    return largest
