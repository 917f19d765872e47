"""Which detection found which truth, by COCO's rules; done once, counted as often as wanted."""

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
MOST_FOUND = 100
FALSE_ALARM, HIT, IGNORED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections, best first within each image and label, and what became of each.

    Attributes:
        found: the detections, at most 100 an image and label.
        ground_truths: as they were given.
        rank: (n,) int64, the detection's place in its image and label, from 0.
        outcome: (n, a, t) int8 for each area range and overlap: FALSE_ALARM, HIT or IGNORED.
        ignored: (m, a) bool, truths that are neither found nor missed: crowds, and those out of the range.
        taken: (n,) int64, the truth that each detection found at the first overlap whatever its area, or -1.
        ious: (t,) float64, the overlaps asked for.
        areas: names of the area ranges.
    """

    found: ObjectArrays
    ground_truths: ObjectArrays
    rank: IntArray
    outcome: NDArray[np.int8]
    ignored: NDArray[np.bool_]
    taken: IntArray
    ious: FloatArray
    areas: tuple[str, ...]

    @property
    def positives(self) -> IntArray:
        """(L,) int64: how many objects of each label can be found, whatever their area."""
        return np.bincount(
            self.ground_truths.label[~self.ignored[:, 0]], minlength=self.ground_truths.label_count
        )


def match(
    found: ObjectArrays,
    ground_truths: ObjectArrays,
    *,
    ious: FloatArray = IOUS,
    areas: dict[str, tuple[float, float]] = AREAS,
    most: int = MOST_FOUND,
) -> Matches:
    """Match detections with truths.

    Within an image and a label, detections take their pick from the best down: of the truths still free
    that overlap enough, the one that overlaps most, the later one where two overlap the same. Truths that
    are ignored (crowds, and those whose area is out of the range) come only after all others. What takes an
    ignored truth is ignored, and so is what finds nothing and is itself out of the range. A crowd can be
    taken any number of times.

    Args:
        found: the detections.
        ground_truths: the truths.
        ious: (t,) overlaps from which a truth is found.
        areas: for each name of a range the smallest and the largest area in square pixels, both included;
            the first is taken for the whole.
        most: detections considered for each image and label.

    Source:
        pycocotools.cocoeval.COCOeval.evaluateImg.
    """
    group = found.image * max(found.label_count, 1) + found.label
    order = np.lexsort((np.arange(len(found)), -found.score, group))
    rank = _place_in_run(group[order])
    order, rank = order[rank < most], rank[rank < most]
    found = found.take(order)
    limits = np.array(list(areas.values()), np.float64).reshape(-1, 2)
    outside = [
        (o.area[:, None] < limits[:, 0]) | (o.area[:, None] > limits[:, 1]) for o in (found, ground_truths)
    ]
    ignored = ground_truths.crowd[:, None] | outside[1]
    pairs = overlapping_pairs(found, ground_truths, min_iou=float(ious.min(initial=1)))
    taken = _taken(pairs, rank, ignored, ground_truths.crowd, ious)
    outcome = np.where(outside[0][:, :, None], IGNORED, FALSE_ALARM).astype(np.int8)
    outcome = np.repeat(outcome, len(ious), axis=2)
    row, area, iou = np.nonzero(taken >= 0)
    outcome[row, area, iou] = np.where(ignored[taken[row, area, iou], area], IGNORED, HIT)
    return Matches(
        found, ground_truths, rank, outcome, ignored, taken[:, 0, 0].astype(np.int64), ious, tuple(areas)
    )


def _taken(
    pairs: OverlapPairs,
    rank: IntArray,
    ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    ious: FloatArray,
) -> NDArray[np.int32]:
    """(n, a, t): the truth each detection takes, or -1.

    Every step lets the detections of one rank, in all images and labels at once, take their pick.
    """
    count, area_count = len(rank), ignored.shape[1]
    taken = np.full((count, area_count, len(ious)), -1, np.int32)
    # Within a detection the pairs stand by preference, so that the pick is the last that is free.
    order = np.lexsort((pairs.ground_truth, pairs.iou, pairs.found))
    found, ground_truth, iou = pairs.found[order], pairs.ground_truth[order], pairs.iou[order]
    enough = iou[:, None] >= np.minimum(ious, 1 - 1e-10)
    free = np.ones((len(ignored), area_count, len(ious)), bool)
    by_rank = np.argsort(rank[found], kind="stable")
    borders = np.searchsorted(rank[found][by_rank], np.arange(int(rank.max(initial=-1)) + 2))
    for low, high in pairwise(borders.tolist()):
        if low == high:
            continue
        rows = by_rank[low:high]
        begins = np.flatnonzero(np.append(True, np.diff(found[rows]) != 0))
        place = np.arange(1, len(rows) + 1, dtype=np.int32)[:, None, None]
        preferred = np.where(ignored[ground_truth[rows]], 0, len(rows)).astype(np.int32)[:, :, None]
        possible = enough[rows][:, None, :] & (
            free[ground_truth[rows]] | crowd[ground_truth[rows]][:, None, None]
        )
        best = np.maximum.reduceat(np.where(possible, place + preferred, 0), begins, axis=0)
        which, area, level = np.nonzero(best)
        pick = ground_truth[rows[(best[which, area, level] - 1) % len(rows)]]
        taken[found[rows[begins]][which], area, level] = pick
        free[pick, area, level] = False
    return taken


def _place_in_run(values: NDArray[Any]) -> IntArray:
    """(n,) int64: the place of each in its run of equal values, from 0."""
    begins = np.append(True, np.diff(values) != 0) if len(values) else np.zeros(0, bool)
    starts = np.flatnonzero(begins)
    return np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
