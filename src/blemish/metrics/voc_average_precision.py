"""Pascal VOC's average precision: at an overlap of .5, difficult objects ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.metrics.iou import overlapping_pairs
from blemish.metrics.object_arrays import ObjectArrays

MIN_IOU = 0.5
ELEVEN = np.arange(11) / 10
CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class VocMatches:
    """What became of each detection by VOC's rules; done once, counted as often as wanted.

    A detection stands for the truth of its label that it overlaps most: right if that is by .5 or more and
    nobody with a better score stands for it, ignored if it is difficult (or a crowd), else a false alarm.

    Attributes:
        found: the detections that count, best first.
        hit: (n,) bool, whether each is right.
        ground_truths: those that count.

    Source:
        VOCdevkit, VOCevaldet.m.
    """

    found: ObjectArrays
    hit: NDArray[np.bool_]
    ground_truths: ObjectArrays

    @classmethod
    def of(cls, found: ObjectArrays, ground_truths: ObjectArrays) -> Self:
        """Match detections, all of them, with truths."""
        pairs = overlapping_pairs(found, ground_truths, min_iou=MIN_IOU)
        best = np.full(len(found), -1, np.int64)
        # Of equal overlaps the first truth stands last.
        order = np.lexsort((-pairs.ground_truth, pairs.iou, pairs.found))
        best[pairs.found[order]] = pairs.ground_truth[order]
        aside = ground_truths.difficult | ground_truths.crowd
        by_score = np.argsort(-found.score, kind="stable")
        _, first = np.unique(best[by_score], return_index=True)
        hit = np.zeros(len(found), bool)
        hit[by_score[first]] = True
        hit &= best >= 0
        ignored = (best >= 0) & aside[best] if len(ground_truths) else np.zeros(len(found), bool)
        kept = by_score[~ignored[by_score]]
        return cls(found.take(kept), hit[kept], ground_truths.take(np.flatnonzero(~aside)))

    def average_precisions(self, weights: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """AP50 of each label by VOC's two rules.

        Args:
            weights: (images, r) whole numbers, how often each image counts.

        Returns:
            Two arrays (L, r) float64: the area under the interpolated curve (VOC 2010 and later), and the
            mean of the precision at 11 recalls (VOC 2007); nan for a label without truths that count.
        """
        ground_truths = self.ground_truths
        area, eleven = np.full((2, ground_truths.label_count, weights.shape[1]), np.nan)
        for label in range(ground_truths.label_count):
            rows = np.flatnonzero(self.found.label == label)
            positives = weights[ground_truths.image[ground_truths.label == label]].sum(0)  # (r,)
            step = max(1, CHUNK_CELLS // max(len(rows), 1))
            for start in range(0, weights.shape[1], step):
                columns = np.arange(start, min(start + step, weights.shape[1]))
                columns = columns[positives[columns] > 0]
                times = weights[np.ix_(self.found.image[rows], columns)]
                hits = np.cumsum(times * self.hit[rows, None], axis=0)
                recall = hits / positives[columns]
                precision = hits / np.maximum(np.cumsum(times, axis=0), 1)
                best_from = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
                area[label, columns] = (np.diff(recall, axis=0, prepend=0) * best_from).sum(0)
                at = [np.where(recall >= least, best_from, 0).max(0, initial=0) for least in ELEVEN]
                eleven[label, columns] = np.mean(at, axis=0)
        return area, eleven
