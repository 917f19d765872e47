"""Types of detection errors (TIDE) and the confusion matrix of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray
from blemish.metrics.average_precision import interpolated_precision
from blemish.metrics.coco_matches import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, Matches
from blemish.metrics.iou import overlapping_pairs

MIN_IOU = 0.5
BACKGROUND_IOU = 0.1
ERROR_TYPES = ("classification", "localization", "both", "duplicate", "background", "missed")
CORRECTABLE = (ERROR_TYPES.index("classification"), ERROR_TYPES.index("localization"))


@dataclass(frozen=True, eq=False)
class ObjectConfusion:
    """The confusion matrix of objects at the model's confidence thresholds.

    Attributes:
        matrix: (L + 1, L + 1) float64; rows are ground truth, the last row being false positives without an
            object; columns are predictions, the last column being objects without a prediction.
        false_positives: (k,) rows of the detections that match no ground truth of their label.
        missed: (j,) rows of the ground truths that no detection of their label matches.
    """

    matrix: FloatArray
    false_positives: IntArray
    missed: IntArray


def object_confusion(matches: Matches, thresholds: NDArray[Any]) -> ObjectConfusion:
    """Count how often objects of each label were detected as each label, at an IoU of 0.5.

    Detections and ground truths of one label are matched by COCO's rules; those that remain are then paired
    across labels in descending order of IoU.

    Args:
        matches: of all images, with 0.5 as the first IoU threshold.
        thresholds: (L,) confidence thresholds of the detections that count.
    """
    detections, ground_truths = matches.detections, matches.ground_truths
    labels, outcome = ground_truths.label_count, matches.outcome[:, 0, 0]
    confident = detections.score >= np.asarray(thresholds)[detections.label]
    counts = np.zeros((labels + 1, labels + 1))
    correct = confident & (outcome == TRUE_POSITIVE)
    np.add.at(counts, (detections.label[correct], detections.label[correct]), 1)
    free = ~matches.ignored[:, 0]
    free[matches.matched[correct]] = False
    missed = np.flatnonzero(free)
    wrong = np.flatnonzero(confident & (outcome == FALSE_POSITIVE))
    pairs = overlapping_pairs(
        detections.take(wrong), ground_truths.take(missed), min_iou=MIN_IOU, across_labels=True
    )
    wrong_left, missed_left = np.ones(len(wrong), bool), np.ones(len(missed), bool)
    for i in np.argsort(-pairs.iou, kind="stable"):
        w, m = pairs.detection[i], pairs.ground_truth[i]
        if wrong_left[w] and missed_left[m]:
            wrong_left[w] = missed_left[m] = False
            counts[ground_truths.label[missed[m]], detections.label[wrong[w]]] += 1
    counts[labels] += np.bincount(detections.label[wrong[wrong_left]], minlength=labels + 1)
    counts[:, labels] += np.bincount(ground_truths.label[missed[missed_left]], minlength=labels + 1)
    return ObjectConfusion(counts, wrong, missed)


@dataclass(frozen=True, eq=False)
class TideBreakdown:
    """The number and the cost of each type of error.

    Attributes:
        ap50: the mean over labels with ground truth.
        ap50_cost: for each of `ERROR_TYPES`, the AP50 that correcting these errors alone would gain.
        count: for each of `ERROR_TYPES`, the number of errors.
    """

    ap50: float
    ap50_cost: dict[str, float]
    count: dict[str, int]


def tide_breakdown(matches: Matches) -> TideBreakdown:
    """Compute the AP50 that each type of error costs.

    The type of a false positive is the first that applies: *localization* if its largest IoU with an object
    of its label is from 0.1 to 0.5; *classification* if its IoU with an object of another label is at least
    0.5; *duplicate* if its IoU with an object of its label that a better detection matches is at least 0.5;
    *background* if its IoU with every object is at most 0.1; otherwise *both*. An object is *missed* if no
    detection matches it and correcting no localization or classification error would match it. Correcting
    localization and classification errors turns the best detection of each object into a true positive;
    correcting other errors removes the false positive, or the missed object.

    Args:
        matches: of all images, with 0.5 as the first IoU threshold.

    Source:
        Bolya et al. 2020, TIDE: A General Toolbox for Identifying Object Detection Errors; tidecv.
    """
    detections, ground_truths = matches.detections, matches.ground_truths
    outcome = matches.outcome[:, 0, 0]
    countable = np.flatnonzero(~matches.ignored[:, 0])
    wrong = np.flatnonzero(outcome == FALSE_POSITIVE)
    matched = np.zeros(len(ground_truths), bool)
    matched[matches.matched[outcome == TRUE_POSITIVE]] = True
    error, target = _error_types(matches, wrong, countable, matched)
    corrected = _corrected(detections.score[wrong], error, target, matched)
    correctable = np.zeros(len(ground_truths), bool)
    correctable[target[corrected]] = True
    missed = countable[~matched[countable] & ~correctable[countable]]
    before = _mean_ap50(matches, outcome, detections.label, matches.positives)
    cost, count = {}, {}
    for i, name in enumerate(ERROR_TYPES):
        positives, label, outcome_after = matches.positives, detections.label.copy(), outcome.copy()
        if name == "missed":
            positives = positives - np.bincount(
                ground_truths.label[missed], minlength=ground_truths.label_count
            )
            count[name] = len(missed)
        else:
            outcome_after[wrong[error == i]] = IGNORED
            correct = corrected & (error == i)
            outcome_after[wrong[correct]] = TRUE_POSITIVE
            label[wrong[correct]] = ground_truths.label[target[correct]]
            count[name] = int((error == i).sum())
        cost[name] = max(_mean_ap50(matches, outcome_after, label, positives) - before, 0.0)
    return TideBreakdown(before, cost, count)


def _error_types(
    matches: Matches, wrong: IntArray, countable: IntArray, matched: NDArray[np.bool_]
) -> tuple[IntArray, IntArray]:
    """Return each false positive's index in `ERROR_TYPES`, and the ground truth to correct it to, or -1."""
    detections, ground_truths = matches.detections, matches.ground_truths
    pairs = overlapping_pairs(
        detections.take(wrong), ground_truths.take(countable), min_iou=BACKGROUND_IOU, across_labels=True
    )
    ground_truth = countable[pairs.ground_truth]
    same = detections.label[wrong][pairs.detection] == ground_truths.label[ground_truth]
    of_label, target_of_label = _best(len(wrong), pairs.detection, pairs.iou, ground_truth, same)
    of_other, target_of_other = _best(len(wrong), pairs.detection, pairs.iou, ground_truth, ~same)
    of_matched, _ = _best(len(wrong), pairs.detection, pairs.iou, ground_truth, same & matched[ground_truth])
    of_any = np.maximum(of_label, of_other)
    conditions = [
        (of_label >= BACKGROUND_IOU) & (of_label <= MIN_IOU),
        of_other >= MIN_IOU,
        of_matched >= MIN_IOU,
        of_any <= BACKGROUND_IOU,
    ]
    names = ("localization", "classification", "duplicate", "background")
    error = np.select(conditions, [ERROR_TYPES.index(n) for n in names], ERROR_TYPES.index("both"))
    target = np.select(conditions[:2], [target_of_label, target_of_other], -1)
    return error, target


def _best(
    n: int, row: IntArray, iou: FloatArray, ground_truth: IntArray, chosen: NDArray[np.bool_]
) -> tuple[FloatArray, IntArray]:
    """Return each row's largest IoU among chosen pairs and its ground truth; 0 and -1 without any pair."""
    best, target = np.zeros(n), np.full(n, -1, np.int64)
    rows = np.flatnonzero(chosen)
    # The last pair of a row wins: the largest IoU, and of equal ones the first ground truth.
    order = rows[np.lexsort((-ground_truth[rows], iou[rows], row[rows]))]
    best[row[order]], target[row[order]] = iou[order], ground_truth[order]
    return best, target


def _corrected(
    score: FloatArray, error: IntArray, target: IntArray, matched: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which false positives become true: the best correctable one of each unmatched ground truth."""
    rows = np.flatnonzero((target >= 0) & np.isin(error, CORRECTABLE))
    rows = rows[~matched[target[rows]]]
    order = rows[np.argsort(-score[rows], kind="stable")]
    _, first = np.unique(target[order], return_index=True)
    corrected = np.zeros(len(score), bool)
    corrected[order[first]] = True
    return corrected


def _mean_ap50(matches: Matches, outcome: NDArray[np.int8], label: IntArray, positives: IntArray) -> float:
    """Return AP50 for given outcomes, labels and positives: the mean over labels with ground truth.

    A label whose ground truth has all been removed counts as 0 if it still has detections, as in tidecv.
    """
    order = np.lexsort((-matches.detections.score, label))
    borders = np.searchsorted(label[order], np.arange(len(positives) + 1))
    values = []
    for i in np.flatnonzero(matches.positives > 0):
        rows = order[borders[i] : borders[i + 1]]
        if positives[i]:
            values.append(interpolated_precision(outcome[rows], int(positives[i])).mean())
        elif (outcome[rows] != IGNORED).any():
            values.append(0.0)
    return float(np.mean(values)) if values else 0.0
