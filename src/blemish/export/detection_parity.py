"""Find detections that an export moved: boxes, scores or masks without a counterpart on the other side."""

from __future__ import annotations

import numpy as np

from blemish.arrays import Mask
from blemish.geometry import mask_iou, pairwise_iou
from blemish.structures import Prediction

MIN_BOX_IOU = 0.99
MAX_SCORE_DIFFERENCE = 1e-3
MAX_MASK_PIXELS = 4  # by which masks may differ if one percent of them is less
# If two overlapping boxes have equal scores but for rounding, NMS may keep either. A wrong graph moves most.
MAX_UNMATCHED_SHARE = 0.02


def count_unmatched(before: Prediction, after: Prediction) -> tuple[int, int]:
    """Return the number of detections without a counterpart, and the number of all, of both predictions.

    A counterpart has the same label, a box of IoU 0.99 or more, a score within 0.001, and a mask (if any)
    that differs in at most one percent of the pixels. Thresholds are not applied.

    Args:
        before: boxes or masks of one image.
        after: of the same image.
    """
    assert before.boxes_xyxy is not None and after.boxes_xyxy is not None  # noqa: S101  (a detector's)
    matches = pairwise_iou(before.boxes_xyxy, after.boxes_xyxy) >= MIN_BOX_IOU
    matches &= before.label_index[:, None] == after.label_index[None, :]
    matches &= np.abs(before.scores[:, None] - after.scores[None, :]) <= MAX_SCORE_DIFFERENCE
    if before.masks is not None and after.masks is not None:
        for row, column in np.argwhere(matches).tolist():
            matches[row, column] = _is_same_mask(before.masks[row], after.masks[column])
    unmatched = int((~matches.any(1)).sum()) + int((~matches.any(0)).sum())
    return unmatched, len(before) + len(after)


def exceeds_rounding(unmatched: int, detections: int) -> bool:
    """Return whether rounding cannot explain them: over 2 % of all detections, and over one per side."""
    return unmatched > max(2, MAX_UNMATCHED_SHARE * detections)


def _is_same_mask(first: Mask, second: Mask) -> bool:
    iou = float(mask_iou([first], [second])[0, 0])
    union = (first.area + second.area) / (1 + iou)
    return union * (1 - iou) <= max(MAX_MASK_PIXELS, (1 - MIN_BOX_IOU) * union)
