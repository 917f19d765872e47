"""Right and wrong, counted: precision, recall, F1, accuracy, confusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput

Array = NDArray[Any]
Average = Literal["macro", "weighted", "micro"]


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each label was said rightly, wrongly, or not said; 0 / 0 is 0 throughout.

    Attributes:
        hits: (L,) or (L, r) float64, said and true.
        false_alarms: likewise, said and not true.
        misses: likewise, true and not said.

    Source:
        sklearn.metrics.precision_recall_fscore_support with zero_division=0. As there for one label a
        image, labels that stand neither in a truth nor in a prediction take no part in macro averages.
    """

    hits: Array
    false_alarms: Array
    misses: Array

    @property
    def support(self) -> Array:
        """How often each label is true."""
        return self.hits + self.misses

    @property
    def precision(self) -> Array:
        """The share of what was said that is true, in [0, 1]."""
        return ratio(self.hits, self.hits + self.false_alarms)

    @property
    def recall(self) -> Array:
        """The share of what is true that was said, in [0, 1]."""
        return ratio(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> Array:
        """The harmonic mean of precision and recall, in [0, 1]."""
        return ratio(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)

    def of_labels(self) -> dict[str, Array]:
        """Precision, recall and F1 of each label; nan where it stands neither in a truth nor in a verdict."""
        occurs = self.hits + self.false_alarms + self.misses > 0
        each = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: np.where(occurs, values, np.nan) for name, values in each.items()}

    def average(self, kind: Average) -> dict[str, Array]:
        """Precision, recall and F1 of all labels together.

        Args:
            kind: `macro` is the mean over labels that occur, `weighted` the mean by support, `micro` counts
                all labels as one.

        Returns:
            `precision`, `recall` and `f1`, each () or (r,) float64.
        """
        if kind == "micro":
            one = Counts(self.hits.sum(0), self.false_alarms.sum(0), self.misses.sum(0))
            return {"precision": one.precision, "recall": one.recall, "f1": one.f1}
        occurs = (self.hits + self.false_alarms + self.misses > 0).astype(np.float64)
        share = occurs if kind == "macro" else self.support
        return {
            name: ratio((values * share).sum(0), share.sum(0))
            for name, values in (("precision", self.precision), ("recall", self.recall), ("f1", self.f1))
        }


def ratio(part: Array, whole: Array) -> Array:
    """`part` / `whole`, and 0 where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def one_hot(index: Array, label_count: int) -> NDArray[np.bool_]:
    """(n, L) bool with one true cell a row, from (n,) indices."""
    index = np.asarray(index, np.int64)
    out = np.zeros((len(index), label_count), bool)
    out[np.arange(len(index)), index] = True
    return out


def count(said: Array, ground_truth: Array, weights: Array | None = None) -> Counts:
    """Hits, false alarms and misses of each label.

    Args:
        said: (n, L) bool, which labels the verdicts hold.
        ground_truth: (n, L) bool, which labels are true.
        weights: (n,) or (n, r), how often each image counts; once where not given.

    Returns:
        Counts of shape (L,) or (L, r).

    Example:
        >>> count(np.array([[True], [True]]), np.array([[True], [False]])).precision.tolist()
        [0.5]
    """
    said, ground_truth = _pair(said, ground_truth)
    weights = ones_if_none(weights, len(said))
    return Counts(
        (said & ground_truth).T.astype(np.float64) @ weights,
        (said & ~ground_truth).T.astype(np.float64) @ weights,
        (~said & ground_truth).T.astype(np.float64) @ weights,
    )


def confusion_matrix(
    said: Array, ground_truth: Array, label_count: int, weights: Array | None = None
) -> NDArray[np.float64]:
    """How often label i was taken for label j.

    Args:
        said: (n,) int, the label of each verdict.
        ground_truth: (n,) int, the true label.
        label_count: L.
        weights: (n,) or (n, r), how often each image counts; once where not given.

    Returns:
        (L, L) or (L, L, r) float64; rows are truth, columns are verdicts.
    """
    cell = np.asarray(ground_truth, np.int64) * label_count + np.asarray(said, np.int64)
    if weights is None:
        flat = np.bincount(cell, minlength=label_count**2).astype(np.float64)
        return flat.reshape(label_count, label_count)
    weights = np.asarray(weights, np.float64)
    flat = one_hot(cell, label_count**2).T.astype(np.float64) @ weights
    return flat.reshape(label_count, label_count, *weights.shape[1:])


def exact_match(said: Array, ground_truth: Array, weights: Array | None = None) -> Array:
    """The share of images whose whole verdict is right: with one label an image, the accuracy.

    Args:
        said: (n, L) bool.
        ground_truth: (n, L) bool.
        weights: (n,) or (n, r), how often each image counts; once where not given.

    Returns:
        () or (r,) float64 in [0, 1]; 0 without images.
    """
    said, ground_truth = _pair(said, ground_truth)
    return mean((said == ground_truth).all(1), weights)


def mean(values: Array, weights: Array | None = None) -> Array:
    """The weighted mean over images.

    Args:
        values: (n,) or (n, L), one an image.
        weights: (n,) or (n, r), how often each image counts; once where not given.

    Returns:
        () or (r,), or with labels (L,) or (L, r), float64; 0 without images.
    """
    values = np.asarray(values, np.float64)
    weights = ones_if_none(weights, len(values))
    return ratio(values.T @ weights, weights.sum(0))


def decide(probabilities: Array, thresholds: Array | float) -> NDArray[np.bool_]:
    """(n, L) bool: probability at least the label's threshold."""
    return np.asarray(probabilities) >= thresholds


def macro_f1_at(probabilities: Array, ground_truth: Array, thresholds: Array | float = 0.5) -> float:
    """Macro F1 as training watches it.

    Args:
        probabilities: (n, L) in [0, 1].
        ground_truth: (n,) int for one label an image: the most probable label is the verdict; or (n, L) bool.
        thresholds: from which a multilabel verdict is yes; one for all, or (L,).

    Returns:
        Macro F1 in [0, 1].

    Example:
        >>> macro_f1_at(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
        1.0
    """
    probabilities, ground_truth = np.asarray(probabilities), np.asarray(ground_truth)
    label_count = probabilities.shape[1]
    if ground_truth.ndim == 1:
        said = one_hot(probabilities.argmax(1), label_count)
        ground_truth = one_hot(ground_truth, label_count)
    else:
        said = decide(probabilities, thresholds)
    return float(count(said, ground_truth).average("macro")["f1"])


def ones_if_none(weights: Array | None, n: int) -> NDArray[np.float64]:
    """`weights` as float64, or (n,) ones; BadInput where the first axis is not n."""
    if weights is None:
        return np.ones(n)
    weights = np.asarray(weights, np.float64)
    if weights.ndim not in (1, 2) or len(weights) != n:
        raise BadInput(f"weights of shape {weights.shape} for {n} images: give (n,) or (n, resamples)")
    return weights


def _pair(said: Array, ground_truth: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    said, ground_truth = np.asarray(said, bool), np.asarray(ground_truth, bool)
    if said.shape != ground_truth.shape or said.ndim != 2:
        raise BadInput(
            f"verdicts of shape {said.shape} for truths of shape {ground_truth.shape}: both are (n, L)"
        )
    return said, ground_truth
