"""Ranking metrics of scores: average precision, AUROC and their curves."""

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
    """Points of a curve, one for each distinct score, from the highest threshold to the lowest.

    Attributes:
        x: (k,) float64, recall or the false positive rate, ascending.
        y: (k,) float64, precision or the true positive rate.
        thresholds: (k,) float64, the lowest score of a positive decision at each point.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The scores of one label, sorted once for any number of resamples.

    Attributes:
        order: (n,) int64, the images from the highest score to the lowest.
        ends: (k,) int64, the last position in `order` of each run of equal scores.
        ground_truth: (n,) bool, in that order.
        scores: (k,) float64, the distinct scores, descending.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    ground_truth: NDArray[np.bool_]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Array, ground_truth: Array) -> Ranking:
        """Sort scores.

        Args:
            scores: (n,) float, finite.
            ground_truth: (n,) bool, whether each image is positive.

        Raises:
            BadInput: the lengths differ, or a score is not finite.
        """
        scores, ground_truth = np.asarray(scores, np.float64), np.asarray(ground_truth, bool)
        if scores.shape != ground_truth.shape or scores.ndim != 1:
            raise BadInput(
                f"scores of shape {scores.shape} and ground truth of shape {ground_truth.shape}: "
                "expected two arrays of the same shape (n,)",
                reason="shape",
            )
        if not np.isfinite(scores).all():
            row = int(np.argmin(np.isfinite(scores)))
            raise BadInput(f"score {row}: expected a finite number, got {scores[row]}", reason="not-finite")
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.zeros(0, np.int64)
        return cls(order, ends, ground_truth[order], ranked[ends])

    def cumulative_counts(self, weights: Array | None = None) -> tuple[Array, Array]:
        """Count the positive and the negative images whose scores reach each distinct score.

        Args:
            weights: (n,) or (n, r), the number of times that each image counts [default: 1].

        Returns:
            Two (k,) or (k, r) float64 arrays: true positives and false positives.
        """
        sorted_weights = ones_if_none(weights, len(self.order))[self.order]
        ground_truth = self.ground_truth if sorted_weights.ndim == 1 else self.ground_truth[:, None]
        true_positives = np.cumsum(sorted_weights * ground_truth, axis=0)
        everything = np.cumsum(sorted_weights, axis=0, out=sorted_weights)
        if len(self.ends) != len(self.order):
            true_positives, everything = true_positives[self.ends], everything[self.ends]
        return true_positives, everything - true_positives

    def ap_and_auroc(self, weights: Array | None = None) -> tuple[Array, Array]:
        """Return average precision and AUROC; see `average_precision` and `auroc`.

        Both are sums over the positive images, so only runs of equal scores that contain one are computed.

        Args:
            weights: (n,) or (n, r), the number of times that each image counts [default: 1].
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
        reached, total = everything[self.ends[run]], everything[-1]
        before = np.where(_column(begins > 0, reached), everything[begins - 1], 0.0)
        true_positives = np.add.reduceat(weights[self.order[rows]], starts, axis=0)
        cumulative = np.cumsum(true_positives, axis=0)
        positives = cumulative[-1]
        negatives = total - positives
        precision = np.divide(cumulative, reached, out=np.zeros(reached.shape), where=reached > 0)
        # Negatives with an equal score count half: the mean of those above the run with and without the run.
        above = (reached - cumulative + before - cumulative + true_positives) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            ap = (true_positives * precision).sum(0) / positives
            area = (true_positives * (negatives - above)).sum(0) / (positives * negatives)
        return ap, area


def _column(values: Array, like: Array) -> Array:
    """Return (k,) `values` in a shape that broadcasts with a (k,) or (k, r) array."""
    return values if like.ndim == 1 else values[:, None]


def average_precision(scores: Array, ground_truth: Array, weights: Array | None = None) -> Array:
    """Return the average precision: the area under the stepped precision-recall curve.

    Args:
        scores: (n,) float, finite; higher means more confident.
        ground_truth: (n,) bool, whether each image is positive.
        weights: (n,) or (n, r), the number of times that each image counts [default: 1].

    Returns:
        () or (r,) float64 in [0, 1]; NaN without positive images.

    Source:
        sklearn.metrics.average_precision_score, which returns 0 without positive images.

    Example:
        >>> float(average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True])).round(3))
        0.833
    """
    return Ranking.of(scores, ground_truth).ap_and_auroc(weights)[0]


def auroc(scores: Array, ground_truth: Array, weights: Array | None = None) -> Array:
    """Return the area under the ROC curve.

    This is the probability that a positive image scores higher than a negative one; ties count half.

    Args:
        scores: (n,) float, finite; higher means more confident.
        ground_truth: (n,) bool, whether each image is positive.
        weights: (n,) or (n, r), the number of times that each image counts [default: 1].

    Returns:
        () or (r,) float64 in [0, 1]; NaN unless there are positive and negative images.

    Source:
        sklearn.metrics.roc_auc_score.
    """
    return Ranking.of(scores, ground_truth).ap_and_auroc(weights)[1]


def precision_recall_curve(scores: Array, ground_truth: Array) -> Curve:
    """Return the precision-recall curve; it is empty without positive images.

    Source:
        sklearn.metrics.precision_recall_curve, reversed and without its last point (recall 0, precision 1).
    """
    ranking = Ranking.of(scores, ground_truth)
    if not ranking.ground_truth.any():
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    true_positives, false_positives = ranking.cumulative_counts()
    return Curve(
        true_positives / true_positives[-1],
        true_positives / (true_positives + false_positives),
        ranking.scores,
    )


def roc_curve(scores: Array, ground_truth: Array) -> Curve:
    """Return the ROC curve; it is empty unless there are positive and negative images.

    Source:
        sklearn.metrics.roc_curve with drop_intermediate=False, without its first point (0, 0).
    """
    ranking = Ranking.of(scores, ground_truth)
    if ranking.ground_truth.all() or not ranking.ground_truth.any():
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    true_positives, false_positives = ranking.cumulative_counts()
    return Curve(false_positives / false_positives[-1], true_positives / true_positives[-1], ranking.scores)
