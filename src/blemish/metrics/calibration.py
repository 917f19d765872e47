"""Whether a score of 70 % means right 70 times in 100, and the temperature that makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput
from blemish.metrics.classification import ones_if_none, ratio

Array = NDArray[Any]
BINS = 15
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence beside accuracy, in bins of equal width over [0, 1]; bin i holds (i / k, (i + 1) / k].

    Attributes:
        images: (k,) or (k, r) float64, how many fall into each bin.
        confidence: likewise, their mean score; 0 for an empty bin.
        accuracy: likewise, the share that is right.
    """

    images: Array
    confidence: Array
    accuracy: Array

    @property
    def error(self) -> Array:
        """The expected calibration error, () or (r,) in [0, 1]: the mean distance, by image."""
        distance = np.abs(self.confidence - self.accuracy) * self.images
        return ratio(distance.sum(0), self.images.sum(0))


def reliability(
    scores: Array, right: Array, weights: Array | None = None, *, bins: int = BINS
) -> Reliability:
    """Confidence beside accuracy.

    Args:
        scores: (n,) in [0, 1].
        right: (n,) bool, whether what was scored is so.
        weights: (n,) or (n, r), how often each image counts; once where not given.
        bins: k.

    Returns:
        Bins of shape (k,) or (k, r).

    Source:
        Guo et al. 2017, On Calibration of Modern Neural Networks, equations 2 and 3.
    """
    scores = np.asarray(scores, np.float64)
    weights = ones_if_none(weights, len(scores))
    # The same edges as numpy.linspace, so that a score on an edge falls into the lower bin.
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores, side="left")
    member = (place == np.arange(bins)[:, None]).astype(np.float64)
    inside = member @ weights
    return Reliability(
        inside,
        ratio((member * scores) @ weights, inside),
        ratio((member * np.asarray(right, np.float64)) @ weights, inside),
    )


def expected_calibration_error(scores: Array, right: Array, *, bins: int = BINS) -> float:
    """The mean distance of confidence and accuracy over bins of equal width, in [0, 1].

    Args:
        scores: (n,) in [0, 1].
        right: (n,) bool.
        bins: how many.
    """
    return float(reliability(scores, right, bins=bins).error)


def log_losses(probabilities: Array, ground_truth: Array) -> NDArray[np.float64]:
    """The surprise at each image, in nats.

    Args:
        probabilities: (n, L) in [0, 1].
        ground_truth: (n,) int for one label an image, or (n, L) bool.

    Returns:
        (n,) float64: for one label an image, -log of its probability; else the mean over labels of the
        binary cross-entropy. Probabilities are kept one float64 epsilon from 0 and 1.

    Source:
        sklearn.metrics.log_loss; for many labels the mean of it over labels.
    """
    ground_truth = np.asarray(ground_truth)
    tiny = np.finfo(np.float64).eps
    p = np.clip(np.asarray(probabilities, np.float64), tiny, 1 - tiny)
    if ground_truth.ndim == 1:
        return np.asarray(-np.log(p[np.arange(len(p)), ground_truth]))
    return np.asarray(-np.where(ground_truth, np.log(p), np.log1p(-p)).mean(1))


def brier_scores(probabilities: Array, ground_truth: Array) -> NDArray[np.float64]:
    """The squared error at each image.

    Args:
        probabilities: (n, L) in [0, 1].
        ground_truth: (n,) int for one label an image: the sum over labels, in [0, 2]; or (n, L) bool: the mean
            over labels, in [0, 1].

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
    logits: Array, ground_truth: Array, *, limits: tuple[float, float] = TEMPERATURES
) -> float:
    """The number by which logits are divided so that the log loss is least.

    The loss is convex in 1 / temperature, so its slope has one zero, found by halving.

    Args:
        logits: (n, L), finite.
        ground_truth: (n,) int for softmax, or (n, L) bool for sigmoid.
        limits: smallest and largest temperature; perfectly separated data would otherwise ask for zero.

    Returns:
        A temperature within `limits`; 1 without images, and where all logits of an image are equal.

    Raises:
        BadInput: a logit is not finite.

    Source:
        Guo et al. 2017, section 4.2.
    """
    z, ground_truth = np.asarray(logits, np.float64), np.asarray(ground_truth)
    if not np.isfinite(z).all():
        raise BadInput("a logit is not finite: the temperature cannot be fitted")
    if z.size == 0:
        return 1.0
    if ground_truth.ndim == 1:
        z = z - z.max(1, keepdims=True)
        wanted = z[np.arange(len(z)), ground_truth].mean()

        def slope(sharpness: float) -> float:
            e = np.exp(z * sharpness)
            return float(((e * z).sum(1) / e.sum(1)).mean() - wanted)
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
