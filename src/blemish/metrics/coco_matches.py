"""Matching detections with ground truth by COCO's rules, once for all metrics and resamples."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray
from blemish.metrics.iou import OverlapPairs, overlapping_pairs
from blemish.metrics.object_arrays import ObjectArrays

IOUS = np.linspace(0.5, 0.95, 10)
AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MAX_DETECTIONS = 100
FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections, best first within each image and label, and the outcome of each.

    Attributes:
        detections: at most 100 per image and label.
        ground_truths: the objects of all images.
        rank: (n,) int64, the detection's position within its image and label, from 0.
        outcome: (n, a, t) int8 for each area range and IoU threshold: FALSE_POSITIVE, TRUE_POSITIVE or
            IGNORED.
        ignored: (m, a) bool, ground truths that count neither as detected nor as missed: crowds, and objects
            outside the area range.
        matched: (n,) int64, the ground truth that each detection matched at the first IoU threshold in the
            first area range, or -1.
        ious: (t,) float64, the IoU thresholds.
        areas: the names of the area ranges.
    """

    detections: ObjectArrays
    ground_truths: ObjectArrays
    rank: IntArray
    outcome: NDArray[np.int8]
    ignored: NDArray[np.bool_]
    matched: IntArray
    ious: FloatArray
    areas: tuple[str, ...]

    @property
    def positives(self) -> IntArray:
        """The (L,) int64 numbers of objects of each label that can be detected, in the first area range."""
        return np.bincount(
            self.ground_truths.label[~self.ignored[:, 0]], minlength=self.ground_truths.label_count
        )


def match_detections(
    detections: ObjectArrays,
    ground_truths: ObjectArrays,
    *,
    ious: FloatArray = IOUS,
    areas: dict[str, tuple[float, float]] = AREAS,
    max_detections: int = MAX_DETECTIONS,
) -> Matches:
    """Match detections with ground truth.

    Within an image and a label, each detection in descending order of score matches the free ground truth
    with the largest IoU of at least the threshold; of equal IoUs, the later ground truth. An ignored one (a
    crowd, or an object outside the area range) is matched only if no other one is left. A detection
    that matches an ignored ground truth is ignored, and so is an unmatched detection outside the area range.
    A crowd can be matched any number of times.

    Args:
        detections: of all images.
        ground_truths: of the same images.
        ious: (t,) IoU thresholds.
        areas: the smallest and the largest area of each range in square pixels, both included; the first
            range is the one that contains every object.
        max_detections: the number of detections per image and label that are matched.

    Source:
        pycocotools.cocoeval.COCOeval.evaluateImg.
    """
    group = detections.image * max(detections.label_count, 1) + detections.label
    order = np.lexsort((np.arange(len(detections)), -detections.score, group))
    rank = _position_in_run(group[order])
    order, rank = order[rank < max_detections], rank[rank < max_detections]
    detections = detections.take(order)
    limits = np.array(list(areas.values()), np.float64).reshape(-1, 2)
    outside = [
        (objects.area[:, None] < limits[:, 0]) | (objects.area[:, None] > limits[:, 1])
        for objects in (detections, ground_truths)
    ]
    ignored = ground_truths.crowd[:, None] | outside[1]
    reachable = np.minimum(ious, 1 - 1e-10)  # as in pycocotools, rounding does not prevent an IoU of 1
    pairs = overlapping_pairs(detections, ground_truths, min_iou=float(reachable.min(initial=1)))
    unmatched = np.where(outside[0], np.int8(IGNORED), np.int8(FALSE_POSITIVE))
    outcome = np.repeat(unmatched[:, :, None], len(ious), axis=2)
    matched = _match(pairs, rank, ignored, ground_truths.crowd, reachable, outcome)
    return Matches(
        detections=detections,
        ground_truths=ground_truths,
        rank=rank,
        outcome=outcome,
        ignored=ignored,
        matched=matched,
        ious=ious,
        areas=tuple(areas),
    )


def _match(
    pairs: OverlapPairs,
    rank: IntArray,
    ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    ious: FloatArray,
    outcome: NDArray[np.int8],
) -> IntArray:
    """Set the outcome (n, a, t) of every detection that matches, and return `Matches.matched`.

    Each step matches the detections of one rank, of all images and labels at once. The matches of one step
    become outcomes at once: those of all would take four times the memory of the outcomes.
    """
    area_count = ignored.shape[1]
    matched = np.full(len(rank), -1, np.int64)
    # The pairs of a detection are in ascending order of preference, so the last free one is its match.
    order = np.lexsort((pairs.ground_truth, pairs.iou, pairs.detection))
    detection, ground_truth, iou = pairs.detection[order], pairs.ground_truth[order], pairs.iou[order]
    enough = iou[:, None] >= ious
    free = np.ones((len(ignored), area_count, len(ious)), bool)
    by_rank = np.argsort(rank[detection], kind="stable")
    borders = np.searchsorted(rank[detection][by_rank], np.arange(int(rank.max(initial=-1)) + 2))
    for low, high in pairwise(borders.tolist()):
        if low == high:
            continue
        rows = by_rank[low:high]
        begins = np.flatnonzero(np.append(True, np.diff(detection[rows]) != 0))
        place = np.arange(1, len(rows) + 1, dtype=np.int32)[:, None, None]
        preferred = np.where(ignored[ground_truth[rows]], 0, len(rows)).astype(np.int32)[:, :, None]
        possible = enough[rows][:, None, :] & (
            free[ground_truth[rows]] | crowd[ground_truth[rows]][:, None, None]
        )
        best = np.maximum.reduceat(np.where(possible, place + preferred, 0), begins, axis=0)
        which, area, level = np.nonzero(best)
        match = ground_truth[rows[(best[which, area, level] - 1) % len(rows)]]
        row = detection[rows[begins]][which]
        outcome[row, area, level] = np.where(ignored[match, area], np.int8(IGNORED), np.int8(TRUE_POSITIVE))
        first = (area == 0) & (level == 0)
        matched[row[first]] = match[first]
        free[match, area, level] = False
    return matched


def _position_in_run(values: NDArray[Any]) -> IntArray:
    """Return the (n,) int64 position of each value in its run of equal values, from 0."""
    begins = np.append(True, np.diff(values) != 0) if len(values) else np.zeros(0, bool)
    starts = np.flatnonzero(begins)
    return np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
