"""Greedy suppression: of boxes of one label that overlap too much, the best stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import IntArray

BLOCK = 128  # boxes compared with each other at once: the greedy part stays in small matrices


def nms(
    boxes_xyxy: NDArray[Any],
    scores: NDArray[Any],
    label_index: NDArray[Any],
    max_iou: float,
    max_kept: int | None = None,
) -> IntArray:
    """Which boxes stay: rows, best score first, ties in the order given.

    A box goes when a better one of its own label overlaps it by more than `max_iou`.

    Args:
        boxes_xyxy: (n, 4) float32 or float64; overlaps are computed in that precision.
        scores: (n,).
        label_index: (n,) int.
        max_iou: in [0, 1].
        max_kept: the best of all labels together; all where not given.

    Source:
        Equals torchvision.ops.batched_nms in its per-label form.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10]], float)
        >>> nms(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 1]), 0.5).tolist()
        [0, 2]
    """
    max_iou = np.float64(max_iou)  # compared in double precision, as torchvision does: .3 is more than .3f
    order = np.argsort(-scores, kind="stable")
    by_label = order[np.argsort(label_index[order], kind="stable")]
    borders = np.flatnonzero(np.diff(label_index[by_label])) + 1
    areas = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    stay = np.zeros(len(boxes_xyxy), bool)
    # Boxes of a label, best first; no label can fill more than `max_kept` places.
    for rows in np.split(by_label, borders):
        stay[_of_one_label(boxes_xyxy, areas, rows, max_iou, max_kept or len(rows))] = True
    return np.asarray(order[stay[order]][:max_kept], np.int64)


def _of_one_label(
    boxes: NDArray[Any], areas: NDArray[Any], rows: IntArray, max_iou: float, max_kept: int
) -> IntArray:
    """The rows that stay, of rows given best first."""
    kept: list[IntArray] = [rows[:0]]
    count = 0
    while rows.size and count < max_kept:
        block, rows = rows[:BLOCK], rows[BLOCK:]
        clash = _overlaps(boxes, areas, block, block) > max_iou
        alive = np.ones(len(block), bool)
        for i in range(len(block) - 1):
            if alive[i]:
                alive[i + 1 :] &= ~clash[i, i + 1 :]
        block = block[alive]
        kept.append(block)
        count += len(block)
        if rows.size:
            rows = rows[~(_overlaps(boxes, areas, block, rows) > max_iou).any(0)]
    return np.concatenate(kept)[:max_kept]


def _overlaps(boxes: NDArray[Any], areas: NDArray[Any], first: IntArray, second: IntArray) -> NDArray[Any]:
    """(n, m) intersection over union in the boxes' own precision, NaN where both have no area."""
    a, b = boxes[first, None], boxes[None, second]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    inside = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(inside / (areas[first, None] + areas[None, second] - inside))
