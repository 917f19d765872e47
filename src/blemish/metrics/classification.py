"""Metrics of decisions: precision, recall, F1, accuracy and the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput

Array = NDArray[Any]
Average = Literal["macro", "weighted", "micro"]


@dataclass(frozen=True, eq=False)
class OutcomeCounts:
    """True positives, false positives and false negatives of each label; 0 / 0 is 0 throughout.

    Attributes:
        true_positives: (L,) or (L, r) float64, predicted and true.
        false_positives: (L,) or (L, r) float64, predicted and not true.
        false_negatives: (L,) or (L, r) float64, true and not predicted.

    Source:
        sklearn.metrics.precision_recall_fscore_support with zero_division=0. Labels that occur neither in
        the ground truth nor in a prediction are left out of macro averages, as scikit-learn does for
        single-label data.
    """

    true_positives: Array
    false_positives: Array
    false_negatives: Array

    @property
    def support(self) -> Array:
        """The number of times that each label is true."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> Array:
        """The share of predictions that are true, in [0, 1]."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> Array:
        """The share of the ground truth that was predicted, in [0, 1]."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> Array:
        """The harmonic mean of precision and recall, in [0, 1]."""
        return ratio(
            2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives
        )

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """Whether each label occurs in the ground truth or in a prediction."""
        return np.asarray(self.true_positives + self.false_positives + self.false_negatives > 0)

    def of_labels(self) -> dict[str, Array]:
        """Return `precision`, `recall` and `f1` of each label; NaN for a label that does not occur."""
        each = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: np.where(self.occurs, values, np.nan) for name, values in each.items()}

    def average(self, kind: Average) -> dict[str, Array]:
        """Return precision, recall and F1 over all labels.

        Args:
            kind: `macro` for the mean over labels that occur, `weighted` for the mean weighted by support,
                `micro` to add up the counts of all labels first.

        Returns:
            `precision`, `recall` and `f1`, each () or (r,) float64 in [0, 1].
        """
        if kind == "micro":
            total = OutcomeCounts(
                self.true_positives.sum(0), self.false_positives.sum(0), self.false_negatives.sum(0)
            )
            return {"precision": total.precision, "recall": total.recall, "f1": total.f1}
        weight = self.occurs.astype(np.float64) if kind == "macro" else self.support
        return {
            name: ratio((values * weight).sum(0), weight.sum(0))
            for name, values in (("precision", self.precision), ("recall", self.recall), ("f1", self.f1))
        }


def ratio(part: Array, whole: Array) -> Array:
    """Return `part` / `whole`, and 0 where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def one_hot(index: Array, label_count: int) -> NDArray[np.bool_]:
    """Return an (n, L) bool array with one True per row, from (n,) label indices."""
    index = np.asarray(index, np.int64)
    out = np.zeros((len(index), label_count), bool)
    out[np.arange(len(index)), index] = True
    return out


def count_outcomes(predicted: Array, ground_truth: Array, weights: Array | None = None) -> OutcomeCounts:
    """Count the true positives, false positives and false negatives of each label.

    Args:
        predicted: (n, L) bool, the predicted labels of each image.
        ground_truth: (n, L) bool, the true labels of each image.
        weights: (n,) or (n, r), the number of times that each image counts [default: 1].

    Returns:
        Counts of shape (L,) or (L, r).

    Raises:
        BadInput: the shapes differ.

    Example:
        >>> count_outcomes(np.array([[True], [True]]), np.array([[True], [False]])).precision.tolist()
        [0.5]
    """
    predicted, ground_truth = _check_shapes(predicted, ground_truth)
    weights = ones_if_none(weights, len(predicted))
    return OutcomeCounts(
        (predicted & ground_truth).T.astype(np.float64) @ weights,
        (predicted & ~ground_truth).T.astype(np.float64) @ weights,
        (~predicted & ground_truth).T.astype(np.float64) @ weights,
    )


def confusion_matrix(
    predicted: Array, ground_truth: Array, label_count: int, weights: Array | None = None
) -> NDArray[np.float64]:
    """Count how often each true label was predicted as each label.

    Args:
        predicted: (n,) int, the predicted label of each image.
        ground_truth: (n,) int, the true label of each image.
        label_count: L.
        weights: (n,) or (n, r), the number of times that each image counts [default: 1].

    Returns:
        (L, L) or (L, L, r) float64; rows are ground truth, columns are predictions.
    """
    cell = np.asarray(ground_truth, np.int64) * label_count + np.asarray(predicted, np.int64)
    if weights is None:
        flat = np.bincount(cell, minlength=label_count**2).astype(np.float64)
        return flat.reshape(label_count, label_count)
    weights = np.asarray(weights, np.float64)
    flat = one_hot(cell, label_count**2).T.astype(np.float64) @ weights
    return flat.reshape(label_count, label_count, *weights.shape[1:])


def exact_match(predicted: Array, ground_truth: Array, weights: Array | None = None) -> Array:
    """Return the share of images all of whose labels are predicted correctly.

    With one label per image this is the accuracy.

    Args:
        predicted: (n, L) bool.
        ground_truth: (n, L) bool.
        weights: (n,) or (n, r), the number of times that each image counts [default: 1].

    Returns:
        () or (r,) float64 in [0, 1]; 0 without images.

    Raises:
        BadInput: the shapes differ.
    """
    predicted, ground_truth = _check_shapes(predicted, ground_truth)
    return weighted_mean((predicted == ground_truth).all(1), weights)


def weighted_mean(values: Array, weights: Array | None = None) -> Array:
    """Return the weighted mean over images.

    Args:
        values: (n,) or (n, L), one row per image.
        weights: (n,) or (n, r), the number of times that each image counts [default: 1].

    Returns:
        () or (r,), or with labels (L,) or (L, r), float64; 0 without images.
    """
    values = np.asarray(values, np.float64)
    weights = ones_if_none(weights, len(values))
    return ratio(values.T @ weights, weights.sum(0))


def mean_of_defined(values: Array) -> NDArray[np.float64]:
    """Return the mean over labels for which a metric is defined.

    Args:
        values: (L,) or (L, r) float64, NaN where the metric is undefined.

    Returns:
        () or (r,) float64; NaN where the metric is undefined for every label.
    """
    defined = ~np.isnan(values)
    number = defined.sum(0)
    return np.where(number > 0, ratio(np.where(defined, values, 0).sum(0), number), np.nan)


def apply_thresholds(probabilities: Array, thresholds: Array | float) -> NDArray[np.bool_]:
    """Return an (n, L) bool array: whether each probability reaches its label's threshold."""
    return np.asarray(probabilities) >= thresholds


def macro_f1_at(probabilities: Array, ground_truth: Array, thresholds: Array | float = 0.5) -> float:
    """Return the macro F1 that training monitors.

    Args:
        probabilities: (n, L) in [0, 1].
        ground_truth: (n,) int for one label per image, which compares it with the most probable label; or
            (n, L) bool for any number of labels.
        thresholds: the lowest probabilities of positive decisions, one for all labels or (L,); not used for
            one label per image.

    Returns:
        Macro F1 in [0, 1].

    Example:
        >>> macro_f1_at(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
        1.0
    """
    probabilities, ground_truth = np.asarray(probabilities), np.asarray(ground_truth)
    label_count = probabilities.shape[1]
    if ground_truth.ndim == 1:
        predicted = one_hot(probabilities.argmax(1), label_count)
        ground_truth = one_hot(ground_truth, label_count)
    else:
        predicted = apply_thresholds(probabilities, thresholds)
    return float(count_outcomes(predicted, ground_truth).average("macro")["f1"])


def ones_if_none(weights: Array | None, n: int) -> NDArray[np.float64]:
    """Return `weights` as float64, or (n,) ones if they are None.

    Raises:
        BadInput: the first axis of the weights is not n.
    """
    if weights is None:
        return np.ones(n)
    weights = np.asarray(weights, np.float64)
    if weights.ndim not in (1, 2) or len(weights) != n:
        raise BadInput(
            f"weights of shape {weights.shape}: expected ({n},) or ({n}, resamples)", reason="shape"
        )
    return weights


def _check_shapes(predicted: Array, ground_truth: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    predicted, ground_truth = np.asarray(predicted, bool), np.asarray(ground_truth, bool)
    if predicted.shape != ground_truth.shape or predicted.ndim != 2:
        raise BadInput(
            f"predictions of shape {predicted.shape} and ground truth of shape {ground_truth.shape}: "
            "expected two arrays of the same shape (n, L)",
            reason="shape",
        )
    return predicted, ground_truth
