"""Map the pixels of one image to those of another that shows the same surface."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.errors import MissingExtra
from blemish.geometry import map_points
from blemish.imaging import LoadedImage

SIDE = 640  # images are reduced to this before features are found
MIN_INLIERS = 20
MIN_INLIER_SHARE = 0.25
_RESIDUAL = 4.0  # pixels of the reduced image
_SEED = 0


def can_register() -> bool:
    """Return whether the extra `measure` is installed."""
    return importlib.util.find_spec("skimage") is not None


@dataclass(frozen=True, eq=False)
class Features:
    """The features of one image.

    Attributes:
        points: (n, 2) float64, x and y in pixels of the upright image.
        descriptors: (n, 128) uint8.
        size_hw: of the image, in pixels.
        scale: pixels of the image for one pixel of the reduced image.
    """

    points: FloatArray
    descriptors: NDArray[np.uint8]
    size_hw: tuple[int, int]
    scale: float


def find_features(image: LoadedImage) -> Features:
    """Return the SIFT features of an image; none for an image without texture.

    Raises:
        MissingExtra: scikit-image is not installed.

    Source:
        Lowe 2004, "Distinctive Image Features from Scale-Invariant Keypoints", as in scikit-image.
    """
    try:
        from skimage.feature import SIFT
    except ModuleNotFoundError as error:
        raise MissingExtra("measure", "the registration of images") from error
    reduced = image.to_pil().convert("L")
    reduced.thumbnail((SIDE, SIDE))
    gray = np.asarray(reduced, np.float64) / 255
    height, width = image.size_hw
    scale = max(height, width) / max(gray.shape)
    detector = SIFT(upsampling=1)
    try:
        detector.detect_and_extract(gray)
    except RuntimeError:  # no features
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.uint8), (height, width), scale)
    points = (detector.positions[:, ::-1] + 0.5) * scale
    return Features(points, detector.descriptors, (height, width), scale)


def register(a: Features, b: Features) -> FloatArray | None:
    """Return the homography from image `a` to image `b`, or None if no plausible one is found.

    Args:
        a: features of the first image.
        b: features of the second image.

    Returns:
        (3, 3) float64 that maps (x, y, 1) in pixels of `a` to homogeneous pixels of `b`; None if fewer than
        20 matches, or less than a quarter of them, agree, or the map
        folds or shrinks the image beyond reason.

    Source:
        Fischler and Bolles 1981, "Random Sample Consensus"; Hartley and Zisserman 2004, section 4.8.
    """
    from skimage.feature import match_descriptors
    from skimage.measure import ransac
    from skimage.transform import ProjectiveTransform

    if min(len(a.points), len(b.points)) < MIN_INLIERS:
        return None
    pairs = match_descriptors(a.descriptors, b.descriptors, max_ratio=0.8, cross_check=True)
    if len(pairs) < MIN_INLIERS:
        return None
    source, target = a.points[pairs[:, 0]], b.points[pairs[:, 1]]
    threshold = _RESIDUAL * b.scale
    model, inliers = ransac(
        (source, target),
        ProjectiveTransform,
        min_samples=4,
        residual_threshold=threshold,
        max_trials=500,
        rng=_SEED,
    )
    if not model or inliers is None or inliers.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * len(pairs)):
        return None
    refined: Any = ProjectiveTransform.from_estimate(source[inliers], target[inliers])
    if not refined:
        return None
    matrix: FloatArray = np.asarray(refined.params, np.float64)
    return matrix if _is_plausible(matrix, a.size_hw, b.size_hw) else None


def _is_plausible(matrix: FloatArray, a_hw: tuple[int, int], b_hw: tuple[int, int]) -> bool:
    """Return whether a homography keeps the image's orientation, convexity, and a sensible size."""
    corners = map_points(matrix, np.array([[0, 0], [a_hw[1], 0], [a_hw[1], a_hw[0]], [0, a_hw[0]]], float))
    if corners is None:
        return False
    edges = np.roll(corners, -1, 0) - corners
    following = np.roll(edges, -1, 0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    if not (turns > 0).all():
        return False
    area = _cross(corners[2] - corners[0], corners[3] - corners[1]) / 2
    return bool(0.02 < area / (b_hw[0] * b_hw[1]) < 50)


def _cross(a: FloatArray, b: FloatArray) -> float:
    return float(abs(a[0] * b[1] - a[1] * b[0]))
