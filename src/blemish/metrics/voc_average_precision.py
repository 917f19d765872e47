"""Pascal VOC's average precision at an IoU of 0.5; difficult objects are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.metrics.iou import overlapping_pairs
from blemish.metrics.object_arrays import ObjectArrays

MIN_IOU = 0.5
ELEVEN_RECALLS = np.arange(11) / 10
CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class VocMatches:
    """The outcome of each detection by VOC's rules, computed once for any number of resamples.

    A detection is assigned to the object of its label with the largest IoU of at least 0.5. It is a true
    positive if it has the best score of those assigned to that object, ignored if the object is difficult or
    a crowd, and otherwise a false positive.

    Attributes:
        detections: those that are not ignored, best first.
        correct: (n,) bool, whether each detection is a true positive.
        ground_truths: those that are not ignored.

    Source:
        VOCdevkit, VOCevaldet.m.
    """

    detections: ObjectArrays
    correct: NDArray[np.bool_]
    ground_truths: ObjectArrays

    @classmethod
    def of(cls, detections: ObjectArrays, ground_truths: ObjectArrays) -> Self:
        """Match all detections with the ground truth."""
        pairs = overlapping_pairs(detections, ground_truths, min_iou=MIN_IOU)
        best = np.full(len(detections), -1, np.int64)
        # The last pair of a detection wins: the largest IoU, and of equal ones the first ground truth.
        order = np.lexsort((-pairs.ground_truth, pairs.iou, pairs.detection))
        best[pairs.detection[order]] = pairs.ground_truth[order]
        excluded = ground_truths.difficult | ground_truths.crowd
        by_score = np.argsort(-detections.score, kind="stable")
        _, first = np.unique(best[by_score], return_index=True)
        correct = np.zeros(len(detections), bool)
        correct[by_score[first]] = True
        correct &= best >= 0
        ignored = (best >= 0) & excluded[best] if len(ground_truths) else np.zeros(len(detections), bool)
        kept = by_score[~ignored[by_score]]
        return cls(detections.take(kept), correct[kept], ground_truths.take(np.flatnonzero(~excluded)))

    def average_precisions(self, weights: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Return the AP50 of each label by VOC's two definitions.

        Args:
            weights: (images, r) whole numbers, the number of times that each image counts.

        Returns:
            Two (L, r) float64 arrays: the area under the interpolated curve (VOC 2010 and later), and the
            mean precision at 11 recalls (VOC 2007); NaN for a label without ground truth that counts.
        """
        ground_truths = self.ground_truths
        area, eleven = np.full((2, ground_truths.label_count, weights.shape[1]), np.nan)
        for label in range(ground_truths.label_count):
            rows = np.flatnonzero(self.detections.label == label)
            positives = weights[ground_truths.image[ground_truths.label == label]].sum(0)  # (r,)
            step = max(1, CHUNK_CELLS // max(len(rows), 1))
            for start in range(0, weights.shape[1], step):
                columns = np.arange(start, min(start + step, weights.shape[1]))
                columns = columns[positives[columns] > 0]
                times = weights[np.ix_(self.detections.image[rows], columns)]
                true_positives = np.cumsum(times * self.correct[rows, None], axis=0)
                recall = true_positives / positives[columns]
                precision = true_positives / np.maximum(np.cumsum(times, axis=0), 1)
                best_from = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
                area[label, columns] = (np.diff(recall, axis=0, prepend=0) * best_from).sum(0)
                at = [np.where(recall >= r, best_from, 0).max(0, initial=0) for r in ELEVEN_RECALLS]
                eleven[label, columns] = np.mean(at, axis=0)
        return area, eleven
