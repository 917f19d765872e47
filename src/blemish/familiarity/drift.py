"""Whether a stream of images differs from the images of the training: tests with effect sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 999
MAX_IMAGES = 1000  # of a stream; a random part of a longer one
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """The comparison of two samples of one quantity.

    Attributes:
        quantity: `features`, `distance`, or a label whose score is compared.
        test: `energy` (of many numbers per image) or `kolmogorov-smirnov` (of one).
        statistic: of the test.
        p_value: probability of such a statistic without any difference, by permutation.
        effect: how large the difference is, whatever the number of images: the standardized difference of the
            means for one number; for features the energy coefficient in [0, 1].
        reference_images: number of images of the reference.
        images: number of images of the stream.
    """

    quantity: str
    test: str
    statistic: float
    p_value: float
    effect: float
    reference_images: int
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dict(vars(self))


def energy_distance(distances: Matrix, is_first: NDArray[np.bool_]) -> float:
    """Return the energy distance of two samples: 2 E|X - Y| - E|X - X'| - E|Y - Y'|, never negative.

    Args:
        distances: (n, n) Euclidean distances of all images.
        is_first: (n,) whether each is in the first sample.

    Source:
        Székely and Rizzo 2013, Energy statistics, equation 5.
    """
    first, second = is_first.astype(np.float64), (~is_first).astype(np.float64)
    m, n = first.sum(), second.sum()
    cross = first @ distances @ second / (m * n)
    within = first @ distances @ first / m**2 + second @ distances @ second / n**2
    return max(float(2 * cross - within), 0.0)


def compare_features(
    reference: Matrix, stream: Matrix, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Drift:
    """Compare the features of two samples by the energy test.

    Args:
        reference: (n, k).
        stream: (m, k).
        permutations: number of random assignments; the smallest p-value is 1 / (permutations + 1).
        seed: of the assignments.
    """
    both = np.concatenate([reference, stream])
    squared = (both**2).sum(1)
    distances = np.sqrt(np.maximum(squared[:, None] + squared[None] - 2 * both @ both.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    is_first = np.arange(len(both)) < len(reference)
    statistic = energy_distance(distances, is_first)
    # All permutations in one matrix product; the sums of distances do not depend on the assignment.
    rng = np.random.default_rng(seed)
    m, n = len(reference), len(stream)
    signs = np.zeros((len(both), permutations))
    for column in range(permutations):
        signs[rng.permutation(len(both))[:m], column] = 1.0
    product = distances @ signs
    within_first = (signs * product).sum(0)
    cross = product.sum(0) - within_first
    within_second = distances.sum() - 2 * cross - within_first
    permuted = 2 * cross / (m * n) - within_first / m**2 - within_second / n**2
    p_value = (1 + int((permuted >= statistic - 1e-12).sum())) / (1 + permutations)
    mean_cross = float(distances[:m, m:].mean())
    effect = statistic / (2 * mean_cross) if mean_cross > 0 else 0.0
    return Drift("features", "energy", statistic, p_value, min(effect, 1.0), m, n)


def compare_numbers(
    quantity: str, reference: Matrix, stream: Matrix, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Drift:
    """Compare one number per image by the two-sample Kolmogorov-Smirnov statistic.

    Args:
        quantity: what is compared.
        reference: (n,).
        stream: (m,).
        permutations: number of random assignments.
        seed: of the assignments.
    """
    both = np.concatenate([reference, stream])
    order = np.argsort(both, kind="stable")
    ends = np.append(np.diff(both[order]) > 0, True)  # ties count together
    m, n = len(reference), len(stream)
    steps = np.where(np.arange(len(both)) < m, 1 / m, -1 / n)
    statistic = float(np.abs(np.cumsum(steps[order])[ends]).max())
    rng = np.random.default_rng(seed)
    permuted = np.array([np.abs(np.cumsum(rng.permutation(steps))[ends]).max() for _ in range(permutations)])
    p_value = (1 + int((permuted >= statistic - 1e-12).sum())) / (1 + permutations)
    spread = np.sqrt((reference.var() * m + stream.var() * n) / (m + n))
    effect = float((stream.mean() - reference.mean()) / spread) if spread > 0 else 0.0
    return Drift(quantity, "kolmogorov-smirnov", statistic, p_value, effect, m, n)
