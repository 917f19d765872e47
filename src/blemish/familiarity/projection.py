"""Mean and shrunk covariance of the features of training images, as a projection that a graph can compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.model_file import FamiliaritySpec
from blemish.model_file.familiarity_spec import MAX_REFERENCE, encode_array

MAX_DIRECTIONS = 64
MAX_ROWS = 2000  # of training images for the covariance
MIN_IMAGES_PER_DIRECTION = 8
MIN_SCALE = 1e-3  # of the median standard deviation of a feature: constant features are left out
MAX_SCORES = 2000
OUTPUT = "familiarity"
Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Projection:
    """Features of an image relative to the training images.

    The covariance of the d standardized features is that of probabilistic PCA: its k largest eigenvalues are
    kept and the others replaced by their mean, so that few images suffice. The squared length of the k + 1
    projected numbers is the squared Mahalanobis distance, in which the k directions and their complement
    count equally.

    Attributes:
        mean: (d,) of the raw features.
        basis: (d, k) on raw features minus the mean, orthonormal on standardized features.
        scale: (d,) by which the difference is multiplied.
        directions: (k,) reciprocal standard deviations along the directions.
        rest: reciprocal of the mean squared distance from the span of the directions.
        images: number of training images.

    Source:
        Tipping and Bishop 1999, Probabilistic Principal Component Analysis; Lee et al. 2018, A Simple Unified
        Framework for Detecting Out-of-Distribution Samples.
    """

    mean: Matrix
    basis: Matrix
    scale: Matrix
    directions: Matrix
    rest: float
    images: int

    @property
    def dimensions(self) -> int:
        """Number of projected features."""
        return int(self.basis.shape[1]) + 1

    def project(self, features: NDArray[np.floating]) -> Matrix:
        """Return (n, k + 1) projected features of (n, d) features, as the graph computes them."""
        scaled = (np.asarray(features, np.float64) - self.mean) * self.scale
        along = scaled @ self.basis
        rest = np.maximum((scaled**2).sum(1) - (along**2).sum(1), 0.0) * self.rest
        return np.concatenate([along * self.directions, np.sqrt(rest)[:, None]], 1)


def fit_projection(features: NDArray[np.floating], *, seed: int = 0) -> Projection:
    """Return the projection of the features of training images.

    Args:
        features: (n, d), n of at least 2; of more than `MAX_ROWS` images, a random part is used.
        seed: of that part.
    """
    rows = np.asarray(features, np.float64)
    if len(rows) > MAX_ROWS:
        rows = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:MAX_ROWS])]
    mean, std = rows.mean(0), rows.std(0)
    floor = max(MIN_SCALE * float(np.median(std)), 1e-12)
    scale = np.where(std > floor, 1 / np.maximum(std, floor), 0.0)
    scaled = (rows - mean) * scale
    count = int(np.clip(len(rows) // MIN_IMAGES_PER_DIRECTION, 1, MAX_DIRECTIONS))
    count = min(count, max(scaled.shape[1] // 2, 1))  # so that something is left for the rest
    # The smaller of the two Gram matrices has the same eigenvalues.
    if len(scaled) <= scaled.shape[1]:
        _, vectors = np.linalg.eigh(scaled @ scaled.T)
        basis = scaled.T @ vectors[:, ::-1][:, :count]
    else:
        _, vectors = np.linalg.eigh(scaled.T @ scaled)
        basis = vectors[:, ::-1][:, :count]
    basis = basis / np.maximum(np.linalg.norm(basis, axis=0), 1e-12)
    along = scaled @ basis
    rest = float(np.maximum((scaled**2).sum(1) - (along**2).sum(1), 0.0).mean())
    spread = np.sqrt((along**2).mean(0) * count)  # so that the k directions together have the length 1
    return Projection(
        mean=mean,
        basis=basis,
        scale=scale,
        directions=1 / np.maximum(spread, 1e-6),
        rest=1 / max(rest, 1e-9),
        images=len(rows),
    )


def make_spec(
    projection: Projection,
    held_out: NDArray[np.floating],
    label_scores: NDArray[Any],
    groups: Sequence[str],
    *,
    seed: int = 0,
) -> FamiliaritySpec:
    """Return the part of a contract that describes familiar images.

    Args:
        projection: fitted on training images.
        held_out: (n, d) features of images that were not used to fit it: training images are too close.
        label_scores: (n, L) probabilities of the same images.
        groups: (n,) the group of each image; one image of each group is used.
        seed: of the choice of one image per group.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(np.array(groups)[order], return_index=True)
    rows = order[np.sort(first)]
    projected = projection.project(np.asarray(held_out)[rows])
    kept = rows[:MAX_REFERENCE]
    return FamiliaritySpec(
        output=OUTPUT,
        dimensions=projection.dimensions,
        train_images=projection.images,
        distances=tuple(sorted(round(float(d), 5) for d in (projected**2).sum(1)[:MAX_SCORES])),
        reference=encode_array(projected[:MAX_REFERENCE]),
        reference_scores=encode_array(np.asarray(label_scores, np.float64)[kept]),
    )
