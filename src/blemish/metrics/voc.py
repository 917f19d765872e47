"""Pascal VOC's average precision: at an overlap of .5, difficult objects ignored."""

from __future__ import annotations

import numpy as np

from blemish.metrics.objects import Objects
from blemish.metrics.pairing import overlapping_pairs
from blemish.vocabulary import FloatArray

MIN_IOU = 0.5


def voc_average_precision(found: Objects, truths: Objects) -> tuple[FloatArray, FloatArray]:
    """AP50 of each label by VOC's two rules.

    A detection stands for the truth of its label that it overlaps most: right if that is by .5 or more and
    nobody with a better score stands for it, ignored if it is difficult (or a crowd), else a false alarm.

    Args:
        found: the detections, all of them.
        truths: the truths.

    Returns:
        Two arrays (L,) float64: the area under the interpolated curve (VOC 2010 and later), and the mean of
        the precision at 11 recalls (VOC 2007); nan for a label without truths that count.

    Source:
        VOCdevkit, VOCevaldet.m.
    """
    pairs = overlapping_pairs(found, truths, min_iou=MIN_IOU)
    best = np.full(len(found), -1, np.int64)
    order = np.lexsort(
        (-pairs.truth, pairs.iou, pairs.found)
    )  # of equal overlaps the first truth stands last
    best[pairs.found[order]] = pairs.truth[order]
    aside = truths.difficult | truths.crowd
    by_score = np.argsort(-found.score, kind="stable")
    _, first = np.unique(best[by_score], return_index=True)
    hit = np.zeros(len(found), bool)
    hit[by_score[first]] = True
    hit &= best >= 0
    ignored = (best >= 0) & aside[best] if len(truths) else np.zeros(len(found), bool)
    area, eleven = np.full((2, truths.label_count), np.nan)
    for label in range(truths.label_count):
        positives = int(((truths.label == label) & ~aside).sum())
        if not positives:
            continue
        rows = by_score[(found.label[by_score] == label) & ~ignored[by_score]]
        hits = np.cumsum(hit[rows])
        recall = hits / positives
        precision = hits / np.arange(1, len(rows) + 1)
        best_from = np.maximum.accumulate(precision[::-1])[::-1]
        area[label] = (np.diff(recall, prepend=0) * best_from).sum()
        place = np.searchsorted(recall, np.arange(11) / 10, side="left")
        eleven[label] = np.append(best_from, 0.0)[place].mean()
    return area, eleven
