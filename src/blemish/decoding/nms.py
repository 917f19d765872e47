"""Non-maximum suppression (NMS) per label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import IntArray

BLOCK = 128  # boxes compared with each other at once: the greedy part works on small matrices
FIRST_PART = 4  # times `max_kept` boxes are tried first; what remains of them does not depend on lower scores


def nms(
    boxes_xyxy: NDArray[Any],
    scores: NDArray[Any],
    label_index: NDArray[Any],
    nms_iou: float,
    max_kept: int | None = None,
) -> IntArray:
    """Return the rows of the boxes that remain, by descending score; ties keep their order.

    A box is removed if a higher-scoring box of its own label overlaps it with an IoU above `nms_iou`.

    Args:
        boxes_xyxy: (n, 4) float32 or float64; IoU is computed in that precision.
        scores: (n,).
        label_index: (n,) int.
        nms_iou: in [0, 1].
        max_kept: keep only the highest-scoring boxes of all labels together. Default: all.

    Source:
        Equals torchvision.ops.batched_nms in its per-label form.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10]], float)
        >>> nms(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 1]), 0.5).tolist()
        [0, 2]
    """
    nms_iou = np.float64(nms_iou)  # compared in double precision, as in torchvision: 0.3 is more than 0.3f
    areas = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    count = len(scores) if max_kept is None else FIRST_PART * max_kept
    while True:
        best = highest(scores, count)
        order = best[np.argsort(-scores[best], kind="stable")]
        kept = _nms_of_best(boxes_xyxy, areas, label_index, order, nms_iou, max_kept)
        if count >= len(scores) or (max_kept is not None and len(kept) == max_kept):
            return kept
        count *= FIRST_PART


def highest(scores: NDArray[Any], count: int) -> IntArray:
    """Return the positions of the `count` highest scores, ascending; of equal scores, the first ones.

    Args:
        scores: (n,), without NaN.
        count: all of them if there are not more.
    """
    if not 0 < count < len(scores):
        return np.arange(min(count, len(scores)))
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    is_above = scores > limit
    ties = np.flatnonzero(scores == limit)[: count - int(is_above.sum())]
    is_above[ties] = True
    return np.flatnonzero(is_above)


def _nms_of_best(
    boxes: NDArray[Any],
    areas: NDArray[Any],
    label_index: NDArray[Any],
    order: IntArray,
    nms_iou: float,
    max_kept: int | None,
) -> IntArray:
    """Return what remains of the rows in `order`, which are sorted by descending score."""
    by_label = order[np.argsort(label_index[order], kind="stable")]
    borders = np.flatnonzero(np.diff(label_index[by_label])) + 1
    is_kept = np.zeros(len(boxes), bool)
    # The boxes of one label by descending score; no label can fill more than `max_kept` places.
    for rows in np.split(by_label, borders):
        is_kept[_suppress(boxes, areas, rows, nms_iou, max_kept or len(rows))] = True
    return np.asarray(order[is_kept[order]][:max_kept], np.int64)


def _suppress(
    boxes: NDArray[Any], areas: NDArray[Any], rows: IntArray, nms_iou: float, max_kept: int
) -> IntArray:
    """Return the remaining rows of one label; `rows` are sorted by descending score."""
    kept: list[IntArray] = [rows[:0]]
    count = 0
    while rows.size and count < max_kept:
        block, rows = rows[:BLOCK], rows[BLOCK:]
        is_overlap = _pairwise_iou(boxes, areas, block, block) > nms_iou
        is_kept = np.ones(len(block), bool)
        for i in range(len(block) - 1):
            if is_kept[i]:
                is_kept[i + 1 :] &= ~is_overlap[i, i + 1 :]
        block = block[is_kept]
        kept.append(block)
        count += len(block)
        if rows.size:
            rows = rows[~(_pairwise_iou(boxes, areas, block, rows) > nms_iou).any(0)]
    return np.concatenate(kept)[:max_kept]


def _pairwise_iou(
    boxes: NDArray[Any], areas: NDArray[Any], first: IntArray, second: IntArray
) -> NDArray[Any]:
    """Return (n, m) IoU in the precision of the boxes; NaN if both areas are zero."""
    a, b = boxes[first, None], boxes[None, second]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(intersection / (areas[first, None] + areas[None, second] - intersection))
