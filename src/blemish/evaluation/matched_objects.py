"""Matching of predicted objects with true objects for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blemish.metrics.coco_matches import FALSE_POSITIVE, TRUE_POSITIVE, Matches, match_detections
from blemish.metrics.iou import overlapping_pairs
from blemish.metrics.object_arrays import ObjectArrays
from blemish.structures import GroundTruth, Prediction


def match_objects(
    predictions: Sequence[Prediction],
    ground_truths: Sequence[GroundTruth],
    *,
    masks: bool | None = None,
    known: Sequence[int] | None = None,
) -> Matches:
    """Match the objects of predictions with those of ground truths, image by image.

    Args:
        predictions: one per image.
        ground_truths: one per image, in the predictions' labels.
        masks: whether masks are compared instead of boxes [default: whether the task has masks].
        known: the indices of the labels that the data set has; detections of other labels are left out.
    """
    label_count = len(predictions[0].labels) if predictions else 0
    compare_masks = bool(predictions) and predictions[0].task.has_masks if masks is None else masks
    detections = ObjectArrays.of_predictions(predictions, label_count, masks=compare_masks)
    if known is not None and len(known) < label_count:
        detections = detections.take(np.isin(detections.label, known))
    return match_detections(
        detections, ObjectArrays.of_ground_truths(ground_truths, label_count, masks=compare_masks)
    )


def compare_objects(ground_truth: GroundTruth, prediction: Prediction) -> list[str]:
    """Describe the objects of one image at the model's thresholds, one line each.

    Every true object comes first, with the detection that matches it, then every false positive.
    """
    matches = match_objects([prediction], [ground_truth])
    detections, ground_truths = matches.detections, matches.ground_truths
    display_names = prediction.labels.display_names
    confident = detections.score >= prediction.thresholds[detections.label]
    correct = confident & (matches.outcome[:, 0, 0] == TRUE_POSITIVE)
    pairs = overlapping_pairs(detections, ground_truths, min_iou=0.0)
    ious = {(d, t): iou for d, t, iou in zip(pairs.detection, pairs.ground_truth, pairs.iou, strict=True)}
    detection_of = {int(matches.matched[row]): int(row) for row in np.flatnonzero(correct)}
    lines = []
    for i in range(len(ground_truths)):
        name = f"{display_names[ground_truths.label[i]]} at {_coordinates(ground_truths.boxes[i])}"
        if ground_truths.crowd[i]:
            lines.append(f"{name}: a crowd region, ignored")
        elif i in detection_of:
            row = detection_of[i]
            lines.append(f"{name}: detected, score {detections.score[row]:.4f}, IoU {ious[row, i]:.3f}")
        else:
            lines.append(f"{name}: missed{_closest_detection(i, ious, detections, confident)}")
    for row in np.flatnonzero(confident & (matches.outcome[:, 0, 0] == FALSE_POSITIVE)).tolist():
        name = f"{display_names[detections.label[row]]} at {_coordinates(detections.boxes[row])}"
        best = max((iou for (d, _), iou in ious.items() if d == row), default=0.0)
        lines.append(f"{name}: false positive, score {detections.score[row]:.4f}, best IoU {best:.3f}")
    return lines or ["no object and no detection"]


def _closest_detection(
    ground_truth: int, ious: dict[tuple[int, int], float], detections: ObjectArrays, confident: np.ndarray
) -> str:
    """Describe the detection with the largest IoU with a missed object of its label, or return ""."""
    near = [(iou, d) for (d, t), iou in ious.items() if t == ground_truth]
    if not near:
        return ""
    iou, row = max(near)
    below = "" if confident[row] else ", below the threshold"
    return f"; the closest detection has IoU {iou:.3f} and score {detections.score[row]:.4f}{below}"


def _coordinates(box: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.0f}" for v in box) + ")"


def select_labels(matches: Matches, known: Sequence[int]) -> Matches:
    """Return the same matches with only the labels `known`, renumbered in that order."""
    new_index = np.full(matches.ground_truths.label_count, -1)
    new_index[list(known)] = np.arange(len(known))
    detections, ground_truths = (
        replace(objects, label=new_index[objects.label], label_count=len(known))
        for objects in (matches.detections, matches.ground_truths)
    )
    return replace(matches, detections=detections, ground_truths=ground_truths)
