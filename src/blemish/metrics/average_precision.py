"""COCO's twelve metrics: average precision and recall over labels, IoU thresholds and object sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray
from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
DETECTION_LIMITS = (1, 10, 100)


class CocoMetric(NamedTuple):
    """How one of COCO's metrics is computed.

    Attributes:
        kind: "ap" for average precision, "ar" for average recall.
        iou: the IoU threshold; None for the mean over all thresholds.
        area: the name of the area range.
        max_detections: the number of detections per image and label that count.
    """

    kind: str
    iou: float | None
    area: str
    max_detections: int


COCO_METRICS: dict[str, CocoMetric] = {
    "ap": CocoMetric("ap", None, "all", 100),
    "ap50": CocoMetric("ap", 0.5, "all", 100),
    "ap75": CocoMetric("ap", 0.75, "all", 100),
    "ap_small": CocoMetric("ap", None, "small", 100),
    "ap_medium": CocoMetric("ap", None, "medium", 100),
    "ap_large": CocoMetric("ap", None, "large", 100),
    "ar_1": CocoMetric("ar", None, "all", 1),
    "ar_10": CocoMetric("ar", None, "all", 10),
    "ar_100": CocoMetric("ar", None, "all", 100),
    "ar_small": CocoMetric("ar", None, "small", 100),
    "ar_medium": CocoMetric("ar", None, "medium", 100),
    "ar_large": CocoMetric("ar", None, "large", 100),
}


@dataclass(frozen=True, eq=False)
class AccumulatedMatches:
    """The precision and recall that COCO's metrics are means of.

    Values are NaN for a label without ground truth in an area range.

    Attributes:
        precision: (L, a, t, 101) float64, interpolated at 101 recalls, at most 100 detections per image.
        recall: (L, a, t, m) float64, the highest recall with at most 1, 10 and 100 detections per image.
        ious: (t,) float64, the IoU thresholds.
        areas: the names of the area ranges.
    """

    precision: FloatArray
    recall: FloatArray
    ious: FloatArray
    areas: tuple[str, ...]

    def per_label(self, name: str) -> FloatArray:
        """Return one of `COCO_METRICS` for each label.

        Returns:
            (L,) float64; NaN for a label without ground truth in the metric's area range.
        """
        kind, iou, area, limit = COCO_METRICS[name]
        a = self.areas.index(area)
        t = slice(None) if iou is None else np.flatnonzero(np.isclose(self.ious, iou))
        if kind == "ap":
            values = self.precision[:, a, t]
        else:
            values = self.recall[:, a, t, DETECTION_LIMITS.index(limit)]
        return np.asarray(values.reshape(len(values), -1).mean(1))

    def metric(self, name: str) -> float:
        """Return one of `COCO_METRICS`: the mean over labels with ground truth; NaN if none has any."""
        values = self.per_label(name)
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    def metrics(self) -> dict[str, float]:
        """Return all `COCO_METRICS` by name."""
        return {name: self.metric(name) for name in COCO_METRICS}


def accumulate(matches: Matches) -> AccumulatedMatches:
    """Compute precision at 101 recalls, and the recall reached, for each label, area range and IoU threshold.

    Source:
        pycocotools.cocoeval.COCOeval.accumulate, with NaN in place of its -1.
    """
    labels, (_, areas, ious) = matches.ground_truths.label_count, matches.outcome.shape
    precision = np.full((labels, areas, ious, len(RECALLS)), np.nan)
    recall = np.full((labels, areas, ious, len(DETECTION_LIMITS)), np.nan)
    order = np.lexsort((-matches.detections.score, matches.detections.label))
    borders = np.searchsorted(matches.detections.label[order], np.arange(labels + 1))
    for label in range(labels):
        positives = (~matches.ignored[matches.ground_truths.label == label]).sum(0)  # (a,)
        rows = order[borders[label] : borders[label + 1]]
        rank = matches.rank[rows]
        for area in np.flatnonzero(positives):
            outcome = np.ascontiguousarray(matches.outcome[rows, area].T)  # (t, n)
            iou, row = np.nonzero(outcome == TRUE_POSITIVE)
            for m, limit in enumerate(DETECTION_LIMITS):
                found = np.bincount(iou[rank[row] < limit], minlength=ious)
                recall[label, area, :, m] = found / positives[area]
            precision[label, area] = _precision_at_recalls(outcome, iou, row, int(positives[area]))
    return AccumulatedMatches(precision, recall, matches.ious, matches.areas)


def interpolated_precision(outcome: NDArray[np.int8], positives: int) -> FloatArray:
    """Return the best precision at each of 101 recalls or at a higher recall.

    Args:
        outcome: (n,) TRUE_POSITIVE, FALSE_POSITIVE or IGNORED, in descending order of score.
        positives: the number of objects that can be detected, at least 1.

    Returns:
        (101,) float64 in [0, 1]; 0 at recalls that are never reached.
    """
    row = np.flatnonzero(outcome == TRUE_POSITIVE)
    values: FloatArray = _precision_at_recalls(outcome[None], np.zeros_like(row), row, positives)[0]
    return values


def _precision_at_recalls(
    outcome: NDArray[np.int8], threshold: IntArray, row: IntArray, positives: int
) -> FloatArray:
    """Return `interpolated_precision` for several IoU thresholds, (t, 101).

    Precision is highest, and a recall is first reached, at a true positive: no other detection matters.

    Args:
        outcome: (t, n), in descending order of score.
        threshold: (p,) the IoU threshold of each true positive, ascending.
        row: (p,) its detection, ascending for each threshold.
        positives: the number of objects that can be detected, at least 1.
    """
    counted = np.cumsum(outcome != IGNORED, axis=1, dtype=np.int32)[threshold, row]
    borders = np.searchsorted(threshold, np.arange(len(outcome) + 1))
    rank = np.arange(1, len(row) + 1) - borders[threshold]
    # np.spacing(1) prevents 0 / 0 in pycocotools; it is added here too, so that the values agree bit for bit.
    precision = rank / (counted + np.spacing(1))
    # The number of true positives that reach each recall; at a recall of 0, the best precision of all.
    needed = np.maximum(np.searchsorted(np.arange(positives + 1) / positives, RECALLS, side="left"), 1)
    values = np.zeros((len(outcome), len(RECALLS)))
    for i, (low, high) in enumerate(pairwise(borders.tolist())):
        if low == high:
            continue
        best = np.maximum.accumulate(precision[low:high][::-1])[::-1]
        reached = needed <= high - low
        values[i, reached] = best[needed[reached] - 1]
    return values
