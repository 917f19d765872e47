"""Boxes: (n, 4) arrays, x1 y1 x2 y2 in pixels of the upright image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from blemish.arrays import FloatArray
from blemish.errors import BadInput


def box_area(boxes: ArrayLike) -> FloatArray:
    """Area of every box.

    Args:
        boxes: (n, 4) float, xyxy pixels.

    Returns:
        (n,) float64 square pixels.

    Raises:
        BadInput: a box is inside out or not finite; the message names its row.
    """
    checked = _checked(boxes, "box")
    return np.asarray((checked[:, 2] - checked[:, 0]) * (checked[:, 3] - checked[:, 1]))


def pairwise_iou(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Overlap of every box of `first` with every box of `second`.

    Args:
        first: (n, 4) float, x1 y1 x2 y2 in pixels, x1 <= x2 and y1 <= y2.
        second: (m, 4), likewise.

    Returns:
        (n, m) float64 in [0, 1]; 0 where both boxes have no area.

    Raises:
        BadInput: a box is inside out or not finite; the message names its row.

    Source:
        Jaccard index; equals torchvision.ops.box_iou where that is finite.

    Example:
        >>> pairwise_iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])).round(3).tolist()
        [[0.333]]
    """
    a, b = _checked(first, "first box"), _checked(second, "second box")
    intersection, union = _intersection_and_union(a, b)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def generalized_iou(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Overlap of every box of `first` with every box of `second`, less what their hull wastes.

    Args:
        first: (n, 4) float, xyxy pixels.
        second: (m, 4), likewise.

    Returns:
        (n, m) float64 in [-1, 1]; 0 where both boxes and their hull have no area.

    Raises:
        BadInput: a box is inside out or not finite; the message names its row.

    Source:
        Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 1; equals
        torchvision.ops.generalized_box_iou where that is finite.
    """
    a, b = _checked(first, "first box"), _checked(second, "second box")
    intersection, union = _intersection_and_union(a, b)
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    low = np.minimum(a[:, None, :2], b[None, :, :2])
    high = np.maximum(a[:, None, 2:], b[None, :, 2:])
    hull = (high - low).prod(2)
    waste = np.divide(hull - union, hull, out=np.zeros_like(hull), where=hull > 0)
    return np.asarray(iou - waste)


def clip_boxes(boxes: ArrayLike, size_hw: tuple[int, int]) -> FloatArray:
    """The part of every box that lies inside the image; without area where none does.

    Args:
        boxes: (n, 4) float, xyxy pixels.
        size_hw: height and width of the image.

    Returns:
        (n, 4) float64 within [0, width] and [0, height].
    """
    height, width = size_hw
    return np.clip(_rows(boxes), 0.0, np.array([width, height, width, height], np.float64))


def xywh_to_xyxy(boxes: ArrayLike) -> FloatArray:
    """Corner, width and height turned into two corners; (n, 4) float64 pixels.

    Example:
        >>> xywh_to_xyxy([[10, 20, 5, 6]]).tolist()
        [[10.0, 20.0, 15.0, 26.0]]
    """
    out = _rows(boxes).copy()
    out[:, 2:] += out[:, :2]
    return out


def xyxy_to_xywh(boxes: ArrayLike) -> FloatArray:
    """Two corners turned into corner, width and height; (n, 4) float64 pixels."""
    out = _rows(boxes).copy()
    out[:, 2:] -= out[:, :2]
    return out


def _intersection_and_union(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both (n, m)."""
    # One axis at a time: an (n, m, 2) array would be twice as slow.
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return intersection, area_a[:, None] + area_b[None, :] - intersection


def _rows(boxes: ArrayLike) -> FloatArray:
    array = np.asarray(boxes, np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise BadInput(f"boxes have shape {array.shape}, not (n, 4)")
    return array


def _checked(boxes: ArrayLike, name: str) -> FloatArray:
    array = _rows(boxes)
    bad = ~np.isfinite(array).all(1) | (array[:, 0] > array[:, 2]) | (array[:, 1] > array[:, 3])
    if bad.any():
        row = int(bad.argmax())
        raise BadInput(f"{name} {row} is inside out or not finite: {array[row].tolist()}")
    return array
