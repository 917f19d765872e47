"""The threshold of an anomaly score: a conformal quantile of good images at a stated rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.abstention.conformal import coverage_interval
from blemish.errors import BadDataset, BadInput


@dataclass(frozen=True)
class FalseAlarmThreshold:
    """The distance from which an image is anomalous.

    Attributes:
        rate: the stated false positive rate.
        threshold: the distance.
        width: threshold minus median distance of the good images, above 0.
        images: number of good images that it was chosen on.
        interval: the ends between which the rate of this threshold is with probability .95.
    """

    rate: float
    threshold: float
    width: float
    images: int
    interval: tuple[float, float]


def min_images(rate: float) -> int:
    """Return the smallest number of good images from which a rate can be kept.

    Raises:
        BadInput: the rate is not in (0, 0.5].

    Example:
        >>> min_images(0.05), min_images(0.01)
        (19, 99)
    """
    if not 0 < rate <= 0.5:
        raise BadInput(
            f"--false-alarms: expected a rate above 0 and up to 0.5, got {rate:g}", reason="false-alarms"
        )
    return math.ceil(1 / rate - 1e-9) - 1


def choose_threshold(distances: NDArray[np.floating], rate: float) -> FalseAlarmThreshold:
    """Return the threshold of a false positive rate.

    For exchangeable good images, a further one is at or above it with a probability of at most `rate`. The
    threshold is between two observed distances, so that rounding cannot change a decision.

    Args:
        distances: (n,) of good images that were not learned from.
        rate: in (0, 0.5].

    Raises:
        BadDataset: n is below `min_images`.

    Source:
        Split conformal prediction: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005).
    """
    needed, count = min_images(rate), len(distances)
    if count < needed:
        raise BadDataset(
            f"a false positive rate of {rate:g} needs {needed} good images that were not learned from, got "
            f"{count}. Add good images, or state a higher rate with --false-alarms.",
            reason="few-images",
        )
    ordered = np.sort(np.asarray(distances, np.float64))
    kept = math.ceil((count + 1) * (1 - rate) - 1e-9)  # this many distances stay below the threshold
    last = ordered[kept - 1]
    above = ordered[ordered > last]
    spread = max(float(last - np.median(ordered)), 1e-6 * max(float(abs(last)), 1e-6))
    following = float(above[0]) if len(above) else float(last) + 0.1 * spread
    threshold = (float(last) + following) / 2
    low, high = coverage_interval(count, rate)
    width = max(threshold - float(np.median(ordered)), 1e-6)
    return FalseAlarmThreshold(rate, threshold, width, count, (1 - high, 1 - low))
