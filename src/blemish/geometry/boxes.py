"""Area, IoU, clipping and conversion of boxes: (n, 4) arrays, x1 y1 x2 y2 in pixels of the upright image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def box_area(boxes: ArrayLike) -> FloatArray:
    """Return the area of every box.

    Args:
        boxes: (n, 4) float, x1 y1 x2 y2 in pixels, x1 <= x2 and y1 <= y2.

    Returns:
        (n,) float64 >= 0, in square pixels.

    Raises:
        BadInput: the shape is not (n, 4), or a box has x1 > x2, y1 > y2 or a number that is not finite; the
            message names its row.
    """
    valid = _validate_boxes(boxes, "box")
    return np.asarray((valid[:, 2] - valid[:, 0]) * (valid[:, 3] - valid[:, 1]))


def pairwise_iou(boxes_a: ArrayLike, boxes_b: ArrayLike) -> FloatArray:
    """Return the intersection over union of every box in `boxes_a` with every box in `boxes_b`.

    Args:
        boxes_a: (n, 4) float, x1 y1 x2 y2 in pixels, x1 <= x2 and y1 <= y2.
        boxes_b: (m, 4) float, same layout.

    Returns:
        (n, m) float64 in [0, 1]; 0 where both boxes have zero area.

    Raises:
        BadInput: the shape is not (n, 4), or a box has x1 > x2, y1 > y2 or a number that is not finite; the
            message names its row.

    Source:
        Jaccard index; equals torchvision.ops.box_iou where that is finite.

    Example:
        >>> pairwise_iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])).round(3).tolist()
        [[0.333]]
    """
    a, b = _validate_boxes(boxes_a, "boxes_a, box"), _validate_boxes(boxes_b, "boxes_b, box")
    intersection, union = _intersection_and_union(a, b)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def generalized_iou(boxes_a: ArrayLike, boxes_b: ArrayLike) -> FloatArray:
    """Return the generalized IoU of every box in `boxes_a` with every box in `boxes_b`.

    It is the IoU minus the share of the smallest enclosing box that neither box covers.

    Args:
        boxes_a: (n, 4) float, x1 y1 x2 y2 in pixels, x1 <= x2 and y1 <= y2.
        boxes_b: (m, 4) float, same layout.

    Returns:
        (n, m) float64 in [-1, 1]; 0 where both boxes and their enclosing box have zero area.

    Raises:
        BadInput: the shape is not (n, 4), or a box has x1 > x2, y1 > y2 or a number that is not finite; the
            message names its row.

    Source:
        Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 1; equals
        torchvision.ops.generalized_box_iou where that is finite.
    """
    a, b = _validate_boxes(boxes_a, "boxes_a, box"), _validate_boxes(boxes_b, "boxes_b, box")
    intersection, union = _intersection_and_union(a, b)
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    low = np.minimum(a[:, None, :2], b[None, :, :2])
    high = np.maximum(a[:, None, 2:], b[None, :, 2:])
    enclosing = (high - low).prod(2)
    uncovered = np.divide(enclosing - union, enclosing, out=np.zeros_like(enclosing), where=enclosing > 0)
    return np.asarray(iou - uncovered)


def clip_boxes(boxes: ArrayLike, size_hw: tuple[int, int]) -> FloatArray:
    """Return the part of every box that is inside the image.

    Args:
        boxes: (n, 4) float, x1 y1 x2 y2 in pixels.
        size_hw: height and width of the image, in pixels.

    Returns:
        (n, 4) float64, x in [0, width] and y in [0, height]; a box outside the image gets zero area.

    Raises:
        BadInput: the shape is not (n, 4).

    Example:
        >>> clip_boxes([[-5, -5, 30, 30]], (10, 20)).tolist()
        [[0.0, 0.0, 20.0, 10.0]]
    """
    height, width = size_hw
    return np.clip(_as_rows(boxes), 0.0, np.array([width, height, width, height], np.float64))


def xywh_to_xyxy(boxes: ArrayLike) -> FloatArray:
    """Return boxes given as x, y, width, height in the layout x1 y1 x2 y2.

    Args:
        boxes: (n, 4) float, top left corner, width and height in pixels.

    Returns:
        (n, 4) float64, x1 y1 x2 y2 in pixels.

    Raises:
        BadInput: the shape is not (n, 4).

    Example:
        >>> xywh_to_xyxy([[10, 20, 5, 6]]).tolist()
        [[10.0, 20.0, 15.0, 26.0]]
    """
    out = _as_rows(boxes).copy()
    out[:, 2:] += out[:, :2]
    return out


def xyxy_to_xywh(boxes: ArrayLike) -> FloatArray:
    """Return boxes given as x1 y1 x2 y2 in the layout x, y, width, height.

    Args:
        boxes: (n, 4) float, x1 y1 x2 y2 in pixels.

    Returns:
        (n, 4) float64, top left corner, width and height in pixels.

    Raises:
        BadInput: the shape is not (n, 4).
    """
    out = _as_rows(boxes).copy()
    out[:, 2:] -= out[:, :2]
    return out


def _intersection_and_union(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return intersection and union of every pair, each (n, m) float64 in square pixels."""
    # One axis at a time: an (n, m, 2) array is twice as slow.
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return intersection, area_a[:, None] + area_b[None, :] - intersection


def _as_rows(boxes: ArrayLike) -> FloatArray:
    array = np.asarray(boxes, np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise BadInput(f"boxes: expected the shape (n, 4), got {array.shape}", reason="box-shape")
    return array


def _validate_boxes(boxes: ArrayLike, name: str) -> FloatArray:
    array = _as_rows(boxes)
    invalid = ~np.isfinite(array).all(1) | (array[:, 0] > array[:, 2]) | (array[:, 1] > array[:, 3])
    if invalid.any():
        row = int(invalid.argmax())
        raise BadInput(
            f"{name} {row}: expected finite numbers with x1 <= x2 and y1 <= y2, got {array[row].tolist()}",
            reason="invalid-box",
        )
    return array
