"""Metrics of one predicted box per image: IoU, and the error of each coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput
from blemish.metrics.classification import ones_if_none, ratio, weighted_mean

Array = NDArray[Any]
COORDINATES = ("x", "y", "width", "height")


@dataclass(frozen=True, eq=False)
class BoxErrors:
    """The errors of predicted boxes, one box per image.

    Attributes:
        iou: (n,) float64 in [0, 1].
        absolute: (n, 4) float64 pixels, the absolute errors of x, y (upper left corner), width and height.
        relative: (n, 4) float64, `absolute` divided by the true coordinate; NaN if that is 0.
    """

    iou: NDArray[np.float64]
    absolute: NDArray[np.float64]
    relative: NDArray[np.float64]

    @classmethod
    def of(cls, predicted: Array, ground_truth: Array) -> BoxErrors:
        """Compare predicted boxes with true boxes.

        Args:
            predicted: (n, 4) float, xyxy in pixels.
            ground_truth: (n, 4) float, xyxy in pixels.

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
                f"predicted boxes of shape {predicted.shape} and true boxes of shape {ground_truth.shape}: "
                "expected two arrays of the same shape (n, 4)",
                reason="shape",
            )
        absolute = np.abs(_xywh(predicted) - _xywh(ground_truth))
        true = np.abs(_xywh(ground_truth))
        relative = np.divide(absolute, true, out=np.full(true.shape, np.nan), where=true > 0)
        return cls(paired_iou(predicted, ground_truth), absolute, relative)

    @property
    def zero_ground_truths(self) -> int:
        """The number of true coordinates that are 0, which the relative accuracy leaves out."""
        return int(np.isnan(self.relative).sum())

    def metrics(self, weights: Array | None = None) -> dict[str, Array]:
        """Return every metric of localization.

        Args:
            weights: (n,) or (n, r), the number of times that each image counts [default: 1].

        Returns:
            `mean_iou`; `iou_50` and `iou_75` (shares of images whose IoU is at least 0.5 and 0.75);
            `error_x`, `error_y`, `error_width` and `error_height` (mean absolute errors in pixels); and
            `relative_accuracy` (1 minus the mean of error / true value; below 0 if errors exceed the true
            values). Each is () or (r,) float64.
        """
        weights = ones_if_none(weights, len(self.iou))
        errors = weighted_mean(self.absolute, weights)
        defined = ~np.isnan(self.relative)
        sums = np.where(defined, self.relative, 0).sum(1) @ weights
        return {
            "mean_iou": weighted_mean(self.iou, weights),
            "iou_50": weighted_mean(self.iou >= 0.5, weights),
            "iou_75": weighted_mean(self.iou >= 0.75, weights),
            **{f"error_{name}": errors[i] for i, name in enumerate(COORDINATES)},
            "relative_accuracy": 1 - ratio(sums, defined.sum(1).astype(np.float64) @ weights),
        }


def paired_iou(first: Array, second: Array) -> NDArray[np.float64]:
    """Return the IoU of each box with the box in the same row.

    Args:
        first: (n, 4) xyxy.
        second: (n, 4) xyxy.

    Returns:
        (n,) float64 in [0, 1]; 0 if both boxes have zero area.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    corner = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.maximum(corner, 0).prod(1)
    whole = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - shared
    return ratio(shared, whole)


def _xywh(boxes: Array) -> Array:
    """Return (n, 4) x, y, width and height of (n, 4) xyxy boxes."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
