"""Detections of one side that the other side does not have: what a changed box, score or mask looks like."""

from __future__ import annotations

import numpy as np

from blemish.arrays import Mask
from blemish.geometry import mask_iou, pairwise_iou
from blemish.structures import Prediction

TWIN_IOU = 0.99
TWIN_SCORE = 1e-3
TWIN_PIXELS = 4  # masks may differ in so many pixels, where a hundredth of them is less
# Of two boxes whose scores are equal but for rounding, suppression keeps either; a broken graph moves most.
MOST_STRAYS = 0.02


def strays(before: Prediction, after: Prediction) -> tuple[int, int]:
    """How many detections have no twin on the other side, however low they score; and how many there are.

    A twin bears the same label, its box overlaps by .99, its score is within .001, and its mask, where there
    are masks, differs in at most a hundredth of the pixels.

    Args:
        before: of a detector.
        after: of the same image.

    Returns:
        Both counted on both sides.
    """
    assert before.boxes_xyxy is not None and after.boxes_xyxy is not None  # noqa: S101  (a detector's)
    twin = pairwise_iou(before.boxes_xyxy, after.boxes_xyxy) >= TWIN_IOU
    twin &= before.label_index[:, None] == after.label_index[None, :]
    twin &= np.abs(before.scores[:, None] - after.scores[None, :]) <= TWIN_SCORE
    if before.masks is not None and after.masks is not None:
        for row, column in np.argwhere(twin).tolist():
            twin[row, column] = _same_mask(before.masks[row], after.masks[column])
    alone = int((~twin.any(1)).sum()) + int((~twin.any(0)).sum())
    return alone, len(before) + len(after)


def too_many(alone: int, all_together: int) -> bool:
    """Whether so many strays cannot come from rounding: more than one in fifty, and more than one a side."""
    return alone > max(2, MOST_STRAYS * all_together)


def _same_mask(first: Mask, second: Mask) -> bool:
    iou = float(mask_iou([first], [second])[0, 0])
    union = (first.area + second.area) / (1 + iou)
    return union * (1 - iou) <= max(TWIN_PIXELS, (1 - TWIN_IOU) * union)
