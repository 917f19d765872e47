"""What went wrong with detections: taken for another label, badly placed, doubled, invented, missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray
from blemish.metrics.average_precision import interpolated
from blemish.metrics.coco_matching import FALSE_ALARM, HIT, IGNORED, Matches
from blemish.metrics.iou import overlapping_pairs

MIN_IOU = 0.5
BACKGROUND_IOU = 0.1
KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of every object at the model's own thresholds.

    Attributes:
        confusion: (L + 1, L + 1) float64; rows are truth, the last being nothing there (a false alarm);
            columns are what was said, the last being nothing said (missed).
        alarms: (k,) rows of the detections that are false alarms or bear the wrong label.
        missed: (j,) rows of the truths that no detection of their label found.
    """

    confusion: FloatArray
    alarms: IntArray
    missed: IntArray


def confusion_of_objects(matches: Matches, thresholds: NDArray[Any]) -> Verdicts:
    """Who was taken for whom, at an overlap of .5.

    Detections and truths of one label are matched by COCO's rules; those left over are then paired across
    labels, the largest overlaps first.

    Args:
        matches: done once.
        thresholds: (L,) scores from which a detection counts.
    """
    found, ground_truths = matches.found, matches.ground_truths
    labels, outcome = ground_truths.label_count, matches.outcome[:, 0, 0]
    said = found.score >= np.asarray(thresholds)[found.label]
    counts = np.zeros((labels + 1, labels + 1))
    hits = said & (outcome == HIT)
    np.add.at(counts, (found.label[hits], found.label[hits]), 1)
    free = ~matches.ignored[:, 0]
    free[matches.taken[hits]] = False
    missed = np.flatnonzero(free)
    alarms = np.flatnonzero(said & (outcome == FALSE_ALARM))
    pairs = overlapping_pairs(
        found.take(alarms), ground_truths.take(missed), min_iou=MIN_IOU, across_labels=True
    )
    left_alarms, left_missed = np.ones(len(alarms), bool), np.ones(len(missed), bool)
    for i in np.argsort(-pairs.iou, kind="stable"):
        a, m = pairs.found[i], pairs.ground_truth[i]
        if left_alarms[a] and left_missed[m]:
            left_alarms[a] = left_missed[m] = False
            counts[ground_truths.label[missed[m]], found.label[alarms[a]]] += 1
    counts[labels] += np.bincount(found.label[alarms[left_alarms]], minlength=labels + 1)
    counts[:, labels] += np.bincount(ground_truths.label[missed[left_missed]], minlength=labels + 1)
    return Verdicts(counts, alarms, missed)


@dataclass(frozen=True, eq=False)
class TideBreakdown:
    """Every wrong detection and every missed truth, by what went wrong.

    Attributes:
        ap50: the mean over labels that have truths.
        cost: for each of KINDS the AP50 that would be gained if it were mended and all else stayed.
        count: for each of KINDS how often it happened.
    """

    ap50: float
    cost: dict[str, float]
    count: dict[str, int]


def breakdown(matches: Matches) -> TideBreakdown:
    """What each kind of mistake costs in AP50.

    A wrong detection is badly placed if it overlaps a truth of its label by .1 to .5; else wrongly named if
    it overlaps a truth of another label by .5; else a duplicate if it overlaps one of its label that a
    better detection has found; else background if it overlaps nothing by more than .1; else both badly
    placed and wrongly named. Missed are truths that no detection found and that mending a place or a name
    would not find. To mend: names and places become right (once for each truth, by the best detection),
    the rest of the wrong detections go away, and missed truths too.

    Args:
        matches: done once, with .5 as the first overlap.

    Source:
        Bolya et al. 2020, TIDE: A General Toolbox for Identifying Object Detection Errors; tidecv.
    """
    found, ground_truths = matches.found, matches.ground_truths
    outcome = matches.outcome[:, 0, 0]
    wanted = np.flatnonzero(~matches.ignored[:, 0])
    wrong = np.flatnonzero(outcome == FALSE_ALARM)
    used = np.zeros(len(ground_truths), bool)
    used[matches.taken[outcome == HIT]] = True
    kind, target = _kinds(matches, wrong, wanted, used)
    fixed_by = _fixed_by(found.score[wrong], kind, target, used)
    usable = np.zeros(len(ground_truths), bool)
    usable[target[fixed_by]] = True
    missed = wanted[~used[wanted] & ~usable[wanted]]
    plain = _mean_ap(matches, outcome, found.label, matches.positives)
    cost, count = {}, {}
    for i, name in enumerate(KINDS):
        positives, label, mended = matches.positives, found.label.copy(), outcome.copy()
        if name == "missed":
            positives = positives - np.bincount(
                ground_truths.label[missed], minlength=ground_truths.label_count
            )
            count[name] = len(missed)
        else:
            mended[wrong[kind == i]] = IGNORED
            right = fixed_by & (kind == i)
            mended[wrong[right]] = HIT
            label[wrong[right]] = ground_truths.label[target[right]]
            count[name] = int((kind == i).sum())
        cost[name] = max(_mean_ap(matches, mended, label, positives) - plain, 0.0)
    return TideBreakdown(plain, cost, count)


def _kinds(
    matches: Matches, wrong: IntArray, wanted: IntArray, used: NDArray[np.bool_]
) -> tuple[IntArray, IntArray]:
    """For each wrong detection its place in KINDS, and the truth it should have found, or -1."""
    found, ground_truths = matches.found, matches.ground_truths
    pairs = overlapping_pairs(
        found.take(wrong), ground_truths.take(wanted), min_iou=BACKGROUND_IOU, across_labels=True
    )
    ground_truth = wanted[pairs.ground_truth]
    same = found.label[wrong][pairs.found] == ground_truths.label[ground_truth]
    of_label, place_of_label = _best(len(wrong), pairs.found, pairs.iou, ground_truth, same)
    of_other, place_of_other = _best(len(wrong), pairs.found, pairs.iou, ground_truth, ~same)
    of_used, _ = _best(len(wrong), pairs.found, pairs.iou, ground_truth, same & used[ground_truth])
    of_any = np.maximum(of_label, of_other)
    conditions = [
        (of_label >= BACKGROUND_IOU) & (of_label <= MIN_IOU),
        of_other >= MIN_IOU,
        of_used >= MIN_IOU,
        of_any <= BACKGROUND_IOU,
    ]
    names = ("localization", "classification", "duplicate", "background")
    kind = np.select(conditions, [KINDS.index(n) for n in names], KINDS.index("both"))
    target = np.select(conditions[:2], [place_of_label, place_of_other], -1)
    return kind, target


def _best(
    n: int, row: IntArray, iou: FloatArray, ground_truth: IntArray, chosen: NDArray[np.bool_]
) -> tuple[FloatArray, IntArray]:
    """The largest overlap of each row among chosen pairs, and its truth; 0 and -1 where there is none."""
    best, place = np.zeros(n), np.full(n, -1, np.int64)
    rows = np.flatnonzero(chosen)
    order = rows[
        np.lexsort((-ground_truth[rows], iou[rows], row[rows]))
    ]  # of equal overlaps the first truth is last
    best[row[order]], place[row[order]] = iou[order], ground_truth[order]
    return best, place


def _fixed_by(
    score: FloatArray, kind: IntArray, target: IntArray, used: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which wrong detections become right when mended: for each free truth the best of those that want it."""
    wants = np.flatnonzero((target >= 0) & np.isin(kind, (0, 1)))
    wants = wants[~used[target[wants]]]
    order = wants[np.argsort(-score[wants], kind="stable")]
    _, first = np.unique(target[order], return_index=True)
    fixed = np.zeros(len(score), bool)
    fixed[order[first]] = True
    return fixed


def _mean_ap(matches: Matches, outcome: NDArray[np.int8], label: IntArray, positives: IntArray) -> float:
    """AP50 with outcomes, labels and positives as given: the mean over labels that have truths.

    A label none of whose truths are left counts nothing as long as it is said at all, as in tidecv.
    """
    order = np.lexsort((-matches.found.score, label))
    borders = np.searchsorted(label[order], np.arange(len(positives) + 1))
    values = []
    for i in np.flatnonzero(matches.positives > 0):
        rows = order[borders[i] : borders[i + 1]]
        if positives[i]:
            values.append(interpolated(outcome[rows], int(positives[i])).mean())
        elif (outcome[rows] != IGNORED).any():
            values.append(0.0)
    return float(np.mean(values)) if values else 0.0
