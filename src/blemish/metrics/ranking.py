"""How well scores rank what is true above what is not: average precision, AUROC and their curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput
from blemish.metrics.classification import ones_if_none

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of a curve, one for each distinct score, from the strictest threshold to the laxest.

    Attributes:
        x: (k,) recall, or the false positive rate, ascending.
        y: (k,) precision, or the true positive rate.
        thresholds: (k,) the score from which the verdict is yes.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of one label, sorted once and counted as often as wanted.

    Attributes:
        order: (n,) int64, images from the highest score to the lowest.
        ends: (k,) int64, where in `order` each run of equal scores ends.
        ground_truth: (n,) bool in that order.
        scores: (k,) the distinct scores, descending.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    ground_truth: NDArray[np.bool_]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Array, ground_truth: Array) -> Ranking:
        """Sort (n,) scores, with (n,) bool truths; BadInput where they differ in length or are not finite."""
        scores, ground_truth = np.asarray(scores, np.float64), np.asarray(ground_truth, bool)
        if scores.shape != ground_truth.shape or scores.ndim != 1:
            raise BadInput(
                f"scores of shape {scores.shape} for truths of shape {ground_truth.shape}: both are (n,)"
            )
        if not np.isfinite(scores).all():
            raise BadInput(f"score {int(np.argmin(np.isfinite(scores)))} is not finite")
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.zeros(0, np.int64)
        return cls(order, ends, ground_truth[order], ranked[ends])

    def cumulated(self, weights: Array | None = None) -> tuple[Array, Array]:
        """How many true and how many untrue images score at least each distinct score.

        Args:
            weights: (n,) or (n, r), how often each image counts.

        Returns:
            Two arrays of (k,) or (k, r) float64.
        """
        sorted_weights = ones_if_none(weights, len(self.order))[self.order]
        ground_truth = self.ground_truth if sorted_weights.ndim == 1 else self.ground_truth[:, None]
        hits = np.cumsum(sorted_weights * ground_truth, axis=0)
        everything = np.cumsum(sorted_weights, axis=0, out=sorted_weights)
        if len(self.ends) != len(self.order):
            hits, everything = hits[self.ends], everything[self.ends]
        return hits, everything - hits

    def both(self, weights: Array | None = None) -> tuple[Array, Array]:
        """Average precision and AUROC; see `average_precision` and `auroc`.

        Both are sums over the true images, so only runs of equal scores that hold one are looked at.
        """
        weights = ones_if_none(weights, len(self.order))
        shape = weights.shape[1:]
        if not self.ground_truth.any():
            return np.full(shape, np.nan), np.full(shape, np.nan)
        rows = np.flatnonzero(self.ground_truth)
        run = np.searchsorted(self.ends, rows)
        starts = np.flatnonzero(np.append(True, np.diff(run) != 0))
        run = run[starts]
        begins = np.append(0, self.ends + 1)[run]
        everything = np.cumsum(weights[self.order], axis=0)
        upto, total = everything[self.ends[run]], everything[-1]
        before = np.where(_column(begins > 0, upto), everything[begins - 1], 0.0)
        hits = np.add.reduceat(weights[self.order[rows]], starts, axis=0)
        hits_upto = np.cumsum(hits, axis=0)
        positives = hits_upto[-1]
        negatives = total - positives
        precision = np.divide(hits_upto, upto, out=np.zeros(upto.shape), where=upto > 0)
        # Untrue ones of the same score count half: the mean of those above a run with and without it.
        above = (upto - hits_upto + before - hits_upto + hits) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            ap = (hits * precision).sum(0) / positives
            area = (hits * (negatives - above)).sum(0) / (positives * negatives)
        return ap, area


def _column(values: Array, like: Array) -> Array:
    """(k,) `values`, so shaped that they stand beside (k,) or (k, r)."""
    return values if like.ndim == 1 else values[:, None]


def average_precision(scores: Array, ground_truth: Array, weights: Array | None = None) -> Array:
    """The area under the precision-recall curve, in steps, without interpolation.

    Args:
        scores: (n,) float, higher for more sure.
        ground_truth: (n,) bool.
        weights: (n,) or (n, r), how often each image counts; once where not given.

    Returns:
        () or (r,) float64 in [0, 1]; nan where nothing is true.

    Source:
        sklearn.metrics.average_precision_score, which says 0 where nothing is true.

    Example:
        >>> float(average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True])).round(3))
        0.833
    """
    return Ranking.of(scores, ground_truth).both(weights)[0]


def auroc(scores: Array, ground_truth: Array, weights: Array | None = None) -> Array:
    """The chance that a true image scores above an untrue one, equal scores counting half.

    Args:
        scores: (n,) float, higher for more sure.
        ground_truth: (n,) bool.
        weights: (n,) or (n, r), how often each image counts; once where not given.

    Returns:
        () or (r,) float64 in [0, 1]; nan where everything or nothing is true.

    Source:
        sklearn.metrics.roc_auc_score.
    """
    return Ranking.of(scores, ground_truth).both(weights)[1]


def precision_recall_curve(scores: Array, ground_truth: Array) -> Curve:
    """Precision over recall; empty where nothing is true.

    Source:
        sklearn.metrics.precision_recall_curve, reversed and without its last point (recall 0, precision 1).
    """
    ranking = Ranking.of(scores, ground_truth)
    if not ranking.ground_truth.any():
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    hits, alarms = ranking.cumulated()
    return Curve(hits / hits[-1], hits / (hits + alarms), ranking.scores)


def roc_curve(scores: Array, ground_truth: Array) -> Curve:
    """The true positive rate over the false positive rate; empty where all or nothing is true.

    Source:
        sklearn.metrics.roc_curve with drop_intermediate=False, without its first point (0, 0).
    """
    ranking = Ranking.of(scores, ground_truth)
    if ranking.ground_truth.all() or not ranking.ground_truth.any():
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    hits, alarms = ranking.cumulated()
    return Curve(alarms / alarms[-1], hits / hits[-1], ranking.scores)
