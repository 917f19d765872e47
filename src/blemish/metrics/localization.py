"""One box beside one box: overlap, and how far each coordinate is off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput
from blemish.metrics.classification import mean, ones_if_none, ratio

Array = NDArray[Any]
COORDINATES = ("x", "y", "width", "height")


@dataclass(frozen=True, eq=False)
class BoxErrors:
    """Predicted boxes beside true ones, one pair an image.

    Attributes:
        iou: (n,) float64 in [0, 1].
        absolute: (n, 4) float64 pixels, of x, y (upper left corner), width and height.
        relative: (n, 4) float64, `absolute` as a share of the true coordinate; nan where that is 0.
    """

    iou: NDArray[np.float64]
    absolute: NDArray[np.float64]
    relative: NDArray[np.float64]

    @classmethod
    def of(cls, predicted: Array, ground_truth: Array) -> BoxErrors:
        """Compare (n, 4) predicted with (n, 4) true boxes, both xyxy in pixels of the image.

        Raises:
            BadInput: the shapes differ.

        Example:
            >>> errors = BoxErrors.of(np.array([[0, 0, 10, 10]]), np.array([[0, 5, 10, 10]]))
            >>> errors.iou.tolist(), errors.absolute.tolist()
            ([0.5], [[0.0, 5.0, 0.0, 5.0]])
        """
        predicted, ground_truth = np.asarray(predicted, np.float64), np.asarray(ground_truth, np.float64)
        if predicted.shape != ground_truth.shape or predicted.ndim != 2 or predicted.shape[1] != 4:
            raise BadInput(
                f"predicted boxes of shape {predicted.shape} for true boxes of {ground_truth.shape}: both are (n, 4)"
            )
        absolute = np.abs(_xywh(predicted) - _xywh(ground_truth))
        true = np.abs(_xywh(ground_truth))
        relative = np.divide(absolute, true, out=np.full(true.shape, np.nan), where=true > 0)
        return cls(paired_iou(predicted, ground_truth), absolute, relative)

    @property
    def zero_ground_truths(self) -> int:
        """How many true coordinates are 0, and take no part in the relative accuracy."""
        return int(np.isnan(self.relative).sum())

    def figures(self, weights: Array | None = None) -> dict[str, Array]:
        """Every figure.

        Args:
            weights: (n,) or (n, r), how often each image counts; once where not given.

        Returns:
            `mean_iou`, `iou_50` and `iou_75` (shares of images at or above), `error_x`, `error_y`,
            `error_width`, `error_height` (mean absolute, pixels) and `relative_accuracy` (1 less the mean of
            error / truth; below 0 for errors larger than the truth); each () or (r,) float64.
        """
        weights = ones_if_none(weights, len(self.iou))
        off = mean(self.absolute, weights)
        defined = ~np.isnan(self.relative)
        sums = np.where(defined, self.relative, 0).sum(1) @ weights
        return {
            "mean_iou": mean(self.iou, weights),
            "iou_50": mean(self.iou >= 0.5, weights),
            "iou_75": mean(self.iou >= 0.75, weights),
            **{f"error_{name}": off[i] for i, name in enumerate(COORDINATES)},
            "relative_accuracy": 1 - ratio(sums, defined.sum(1).astype(np.float64) @ weights),
        }


def paired_iou(first: Array, second: Array) -> NDArray[np.float64]:
    """Overlap of each box with the one in the same row.

    Args:
        first: (n, 4) xyxy.
        second: (n, 4) xyxy.

    Returns:
        (n,) float64 in [0, 1]; 0 where both boxes have no area.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    corner = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.maximum(corner, 0).prod(1)
    whole = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - shared
    return ratio(shared, whole)


def _xywh(boxes: Array) -> Array:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
