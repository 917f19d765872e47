"""Calibration: whether a score of 0.7 is correct 7 times in 10, and the temperature that makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput
from blemish.metrics.classification import ones_if_none, ratio

Array = NDArray[Any]
BINS = 15
BIASED_METRICS = frozenset({"calibration_error"})  # larger on resampled images; see `bootstrap`
TEMPERATURE_LIMITS = (0.05, 20.0)
BISECTIONS = 50
OFFSET_PRECISION = 5.0  # of the normal prior of an offset, whose mean is 0


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence and accuracy in k bins of equal width over [0, 1]; bin i covers (i / k, (i + 1) / k].

    Attributes:
        counts: (k,) or (k, r) float64, the number of scores in each bin.
        confidence: (k,) or (k, r) float64, the mean score of each bin; 0 for an empty bin.
        accuracy: (k,) or (k, r) float64, the share of correct answers in each bin; 0 for an empty bin.
    """

    counts: Array
    confidence: Array
    accuracy: Array

    @property
    def error(self) -> Array:
        """The expected calibration error, () or (r,) in [0, 1]: mean |confidence - accuracy| over scores."""
        difference = np.abs(self.confidence - self.accuracy) * self.counts
        return ratio(difference.sum(0), self.counts.sum(0))


def reliability(
    scores: Array, correct: Array, weights: Array | None = None, *, bins: int = BINS
) -> Reliability:
    """Return confidence and accuracy in bins of equal width.

    Args:
        scores: (n,) in [0, 1].
        correct: (n,) bool, whether each scored answer is true.
        weights: (n,) or (n, r), the number of times that each score counts [default: 1].
        bins: k.

    Returns:
        Bins of shape (k,) or (k, r).

    Source:
        Guo et al. 2017, On Calibration of Modern Neural Networks, equations 2 and 3.
    """
    scores = np.asarray(scores, np.float64)
    weights = ones_if_none(weights, len(scores))
    # The edges equal numpy.linspace bit for bit; a score on an edge belongs to the lower bin.
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores, side="left")
    member = (place == np.arange(bins)[:, None]).astype(np.float64)
    inside = member @ weights
    return Reliability(
        inside,
        ratio((member * scores) @ weights, inside),
        ratio((member * np.asarray(correct, np.float64)) @ weights, inside),
    )


def expected_calibration_error(scores: Array, correct: Array, *, bins: int = BINS) -> float:
    """Return the mean difference between confidence and accuracy over bins of equal width, in [0, 1].

    Args:
        scores: (n,) in [0, 1].
        correct: (n,) bool, whether each scored answer is true.
        bins: the number of bins.
    """
    return float(reliability(scores, correct, bins=bins).error)


def log_losses(probabilities: Array, ground_truth: Array) -> NDArray[np.float64]:
    """Return the log loss of each image, in nats.

    Args:
        probabilities: (n, L) in [0, 1].
        ground_truth: (n,) int for one label per image, or (n, L) bool.

    Returns:
        (n,) float64: for one label per image, -log of its probability; otherwise the mean over labels of the
        binary cross-entropy. Probabilities are clipped to one float64 epsilon from 0 and 1.

    Source:
        sklearn.metrics.log_loss; for any number of labels, its mean over labels.
    """
    ground_truth = np.asarray(ground_truth)
    epsilon = np.finfo(np.float64).eps
    p = np.clip(np.asarray(probabilities, np.float64), epsilon, 1 - epsilon)
    if ground_truth.ndim == 1:
        return np.asarray(-np.log(p[np.arange(len(p)), ground_truth]))
    return np.asarray(-np.where(ground_truth, np.log(p), np.log1p(-p)).mean(1))


def brier_scores(probabilities: Array, ground_truth: Array) -> NDArray[np.float64]:
    """Return the Brier score (squared error of the probabilities) of each image.

    Args:
        probabilities: (n, L) in [0, 1].
        ground_truth: (n,) int for one label per image, which gives the sum over labels, in [0, 2]; or (n, L)
            bool, which gives the mean over labels, in [0, 1].

    Returns:
        (n,) float64.

    Source:
        sklearn.metrics.brier_score_loss with scale_by_half=False for more than two labels.
    """
    p, ground_truth = np.asarray(probabilities, np.float64), np.asarray(ground_truth)
    if ground_truth.ndim == 2:
        return np.asarray(((p - ground_truth) ** 2).mean(1))
    rows = np.arange(len(p))
    return np.asarray((p**2).sum(1) - 2 * p[rows, ground_truth] + 1)


def fit_temperature(
    logits: Array, ground_truth: Array, *, limits: tuple[float, float] = TEMPERATURE_LIMITS
) -> float:
    """Return the temperature (the divisor of the logits) that minimizes the log loss.

    The loss is convex in 1 / temperature, so its slope has one zero, which bisection finds.

    Args:
        logits: (n, L), finite.
        ground_truth: (n,) int for softmax, or (n, L) bool for sigmoid.
        limits: the smallest and the largest temperature; without them, perfectly separated data would have
            the temperature 0.

    Returns:
        A temperature within `limits`; 1 without images, and 1 if the logits of every image are equal.

    Raises:
        BadInput: a logit is not finite.

    Source:
        Guo et al. 2017, section 4.2.
    """
    z, ground_truth = np.asarray(logits, np.float64), np.asarray(ground_truth)
    if not np.isfinite(z).all():
        row = int(np.argmin(np.isfinite(z).all(1)))
        raise BadInput(f"logits of row {row}: expected finite numbers, got {z[row]}", reason="not-finite")
    if z.size == 0:
        return 1.0
    if ground_truth.ndim == 1:
        z = z - z.max(1, keepdims=True)
        mean_of_true = z[np.arange(len(z)), ground_truth].mean()

        def slope(sharpness: float) -> float:
            e = np.exp(z * sharpness)
            return float(((e * z).sum(1) / e.sum(1)).mean() - mean_of_true)
    else:

        def slope(sharpness: float) -> float:
            return float((z * (0.5 + 0.5 * np.tanh(z * sharpness / 2) - ground_truth)).mean())

    if not np.ptp(z, axis=1).any() and (ground_truth.ndim == 1 or not z.any()):
        return 1.0
    low, high = 1 / limits[1], 1 / limits[0]
    if slope(low) >= 0:
        return limits[1]
    if slope(high) <= 0:
        return limits[0]
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2.0 / (low + high)


def fit_offset(
    scores: Array, ground_truth: Array, weights: Array | None = None, *, precision: float = OFFSET_PRECISION
) -> NDArray[np.float64]:
    """Return the number that is added to the logits of one label to bring its mean score to its frequency.

    It minimizes the log loss plus `precision` / 2 times its square, a normal prior around 0, so that few
    images move it little. The slope of that sum is monotonic, and bisection finds its zero.

    Args:
        scores: (n,) in [0, 1].
        ground_truth: (n,) bool.
        weights: (n,) or (n, r), the number of times that each image counts [default: 1].
        precision: of the prior, positive.

    Returns:
        The offset in logits, () or (r,); 0 without images.

    Source:
        The intercept of Platt 1999, Probabilistic Outputs for Support Vector Machines, with a normal prior.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(ground_truth, bool)
    weights = ones_if_none(weights, len(scores))
    count = positive @ weights
    bound = weights.sum(0) / precision  # there, the prior outweighs any sum of errors
    low, high = -bound, bound
    column = scores if weights.ndim == 1 else scores[:, None]
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        slope = (weights * shift_logits(column, middle)).sum(0) - count + precision * middle
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    return np.asarray(0.5 * (low + high))


def shift_logits(scores: Array, offset: Array | float) -> NDArray[np.float64]:
    """Return the scores, in [0, 1], after an offset was added to their logits; 0 and 1 stay.

    Args:
        scores: any shape.
        offset: of a shape that fits.

    Example:
        >>> shift_logits(np.array([0.0, 0.5, 1.0]), np.log(3)).round(3).tolist()
        [0.0, 0.75, 1.0]
    """
    scores = np.asarray(scores, np.float64)
    odds = np.exp(np.clip(offset, -700.0, 700.0))
    return np.asarray(ratio(scores * odds, scores * odds + (1 - scores)))
