"""Objects of predictions and truths, matched: what reports of detection are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blemish.metrics.coco_matching import FALSE_ALARM, HIT, Matches, match
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
    """Match the objects of predictions with those of truths, image by image.

    Args:
        predictions: one an image.
        ground_truths: likewise, in the predictions' labels.
        masks: whether masks are compared, or boxes; masks for segmentation where not given.
        known: indices of the labels that the truths could hold; detections of others are left out.
    """
    label_count = len(predictions[0].labels) if predictions else 0
    compare_masks = bool(predictions) and predictions[0].task.has_masks if masks is None else masks
    found = ObjectArrays.of_predictions(predictions, label_count, masks=compare_masks)
    if known is not None and len(known) < label_count:
        found = found.take(np.isin(found.label, known))
    return match(found, ObjectArrays.of_ground_truths(ground_truths, label_count, masks=compare_masks))


def compare_objects(ground_truth: GroundTruth, prediction: Prediction) -> list[str]:
    """What there is to say of one image's objects at the model's thresholds, one line each.

    First every truth with the detection that found it, then every detection that is a false alarm.
    """
    matches = match_objects([prediction], [ground_truth])
    found, ground_truths, display_names = (
        matches.found,
        matches.ground_truths,
        prediction.labels.display_names,
    )
    said = found.score >= prediction.thresholds[found.label]
    hit = said & (matches.outcome[:, 0, 0] == HIT)
    pairs = overlapping_pairs(found, ground_truths, min_iou=0.0)
    overlap = {(d, t): o for d, t, o in zip(pairs.found, pairs.ground_truth, pairs.iou, strict=True)}
    by_ground_truth = {int(matches.taken[row]): int(row) for row in np.flatnonzero(hit)}
    lines = []
    for i in range(len(ground_truths)):
        name = f"{display_names[ground_truths.label[i]]} at {_place(ground_truths.boxes[i])}"
        if ground_truths.crowd[i]:
            lines.append(f"{name}: a crowd, neither found nor missed")
        elif i in by_ground_truth:
            row = by_ground_truth[i]
            lines.append(f"{name}: found, score {found.score[row]:.4f}, IoU {overlap[row, i]:.3f}")
        else:
            lines.append(f"{name}: missed{_nearest(i, overlap, found, said)}")
    for row in np.flatnonzero(said & (matches.outcome[:, 0, 0] == FALSE_ALARM)).tolist():
        name = f"{display_names[found.label[row]]} at {_place(found.boxes[row])}"
        best = max((o for (d, _), o in overlap.items() if d == row), default=0.0)
        lines.append(f"{name}: false alarm, score {found.score[row]:.4f}, best IoU {best:.3f}")
    return lines or ["nothing there, nothing found"]


def _nearest(
    ground_truth: int, overlap: dict[tuple[int, int], float], found: ObjectArrays, said: np.ndarray
) -> str:
    """The detection of its label that comes nearest to a missed truth, in words."""
    near = [(o, d) for (d, t), o in overlap.items() if t == ground_truth]
    if not near:
        return ""
    iou, row = max(near)
    sure = "" if said[row] else ", below the threshold"
    return f"; the nearest has IoU {iou:.3f} and score {found.score[row]:.4f}{sure}"


def _place(box: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.0f}" for v in box) + ")"


def rename(matches: Matches, known: Sequence[int]) -> Matches:
    """The same matches with the labels `known` alone, renumbered in that order."""
    place = np.full(matches.ground_truths.label_count, -1)
    place[list(known)] = np.arange(len(known))
    found = replace(matches.found, label=place[matches.found.label], label_count=len(known))
    ground_truths = replace(
        matches.ground_truths, label=place[matches.ground_truths.label], label_count=len(known)
    )
    return replace(matches, found=found, ground_truths=ground_truths)
