"""How two models decide about one image: decisions that differ, and errors that could change one, by task."""

from __future__ import annotations

import numpy as np

from blemish.geometry import pairwise_iou
from blemish.structures import Prediction

SAME_BOX_IOU = 0.9  # two detections with at least this overlap are one object
SAME_PLACE = 0.01  # largest shift of the corner of a localized box, as a share of the longer side
MIN_PROBABILITY = 1e-6  # logits of scores are limited to that of this one


def difference(before: Prediction, after: Prediction) -> tuple[int, float]:
    """How many decisions about one image differ, and the largest difference of any score.

    Image-level: one decision a label that changes sides. Localization: one, where a corner moved by more
    than a hundredth of the image. Detection and segmentation: the objects above their label's
    threshold that the other side does not have, an object being the same where the label is and the boxes
    overlap by .9.
    """
    changed: tuple[int, float] = before.task.hook("decision_differences")(before, after)
    return changed


def decision_error(before: Prediction, after: Prediction) -> float:
    """Return how far a prediction is from another of the same image, also where no decision changes.

    Image-level: the mean difference of the scores' logits. Localization: the largest shift of a corner as a
    share of the longer side. Detection and segmentation: the share of the scores that has no counterpart,
    the score of an object being worth as much less on the other side as its box overlaps less.

    Returns:
        0 for equal predictions; the scale depends on the task. For a task of a plug-in without this hook, the
        second value of `difference`.
    """
    if "decision_error" not in before.task.fields.hooks:
        return difference(before, after)[1]
    error: float = before.task.hook("decision_error")(before, after)
    return error


def label_differences(before: Prediction, after: Prediction) -> tuple[int, float]:
    """Return whether the one label of an image changes, and the largest score difference."""
    return int(before.label_index[0] != after.label_index[0]), _score_difference(before, after)


def threshold_differences(before: Prediction, after: Prediction) -> tuple[int, float]:
    """Return how many labels cross their threshold, and the largest score difference."""
    return int((before.decide() != after.decide()).sum()), _score_difference(before, after)


def box_differences(before: Prediction, after: Prediction) -> tuple[int, float]:
    """Return whether the one box of an image moves, and the larger of its shift and the score difference.

    A box moves when a corner shifts by more than `SAME_PLACE` of the longer side.
    """
    shift = place_error(before, after)
    return int(shift > SAME_PLACE), max(_score_difference(before, after), shift)


def object_differences(before: Prediction, after: Prediction) -> tuple[int, float]:
    """Return how many objects above their threshold have no counterpart, and the largest score difference."""
    return _changed_objects(before, after), _score_difference(before, after)


def logit_error(before: Prediction, after: Prediction) -> float:
    """Return the mean difference of the logits of the label scores."""
    first, second = (
        np.clip(side.label_scores, MIN_PROBABILITY, 1 - MIN_PROBABILITY) for side in (before, after)
    )
    logits = np.log(first / (1 - first)) - np.log(second / (1 - second))
    return float(np.abs(logits).mean()) if len(logits) else 0.0


def place_error(before: Prediction, after: Prediction) -> float:
    """Return the largest shift of a corner of the one box, as a share of the longer side."""
    assert before.boxes_xyxy is not None and after.boxes_xyxy is not None  # noqa: S101  (a task with boxes)
    longer = max(before.size_hw or (1, 1))
    return float(np.abs(before.boxes_xyxy - after.boxes_xyxy).max(initial=0)) / longer


def object_error(before: Prediction, after: Prediction) -> float:
    """Return the share of the scores of both sides that has no counterpart, in [0, 1].

    The counterpart of an object is the object of its label on the other side with the largest product of
    score and IoU, up to its own score.
    """
    assert before.boxes_xyxy is not None and after.boxes_xyxy is not None  # noqa: S101  (a detector's)
    total = float(before.scores.sum() + after.scores.sum())
    if not total:
        return 0.0
    worth = pairwise_iou(before.boxes_xyxy, after.boxes_xyxy)
    worth = worth * (before.label_index[:, None] == after.label_index[None, :])
    found = np.minimum((worth * after.scores[None, :]).max(1, initial=0), before.scores).sum()
    found += np.minimum((worth * before.scores[:, None]).max(0, initial=0), after.scores).sum()
    return 1 - float(found) / total


def _score_difference(before: Prediction, after: Prediction) -> float:
    return float(np.abs(before.label_scores - after.label_scores).max(initial=0))


def _changed_objects(before: Prediction, after: Prediction) -> int:
    first, second = before.filter_scores(), after.filter_scores()
    assert first.boxes_xyxy is not None and second.boxes_xyxy is not None  # noqa: S101  (a detector's)
    overlap = pairwise_iou(first.boxes_xyxy, second.boxes_xyxy)
    same = overlap >= SAME_BOX_IOU
    same &= first.label_index[:, None] == second.label_index[None, :]
    matched = 0
    for row in range(len(first)):
        best = int(np.where(same[row], overlap[row], -1).argmax()) if len(second) else 0
        if len(second) and same[row, best]:
            same[:, best] = False
            matched += 1
    return len(first) + len(second) - 2 * matched
