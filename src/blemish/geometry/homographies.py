"""Homographies: maps between two views of one plane, and gray levels between pixels.

The pixel in column 0 and row 0 covers the square from (0, 0) to (1, 1), so its center is (0.5, 0.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray


def map_points(matrix: FloatArray, points: FloatArray) -> FloatArray | None:
    """Return (n, 2) points mapped by a homography; None if one of them is mapped to infinity or behind it.

    Args:
        matrix: (3, 3) float64.
        points: (n, 2) float64, pixels.
    """
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    depth = homogeneous[:, 2]
    if not (np.sign(depth) == np.sign(depth[0])).all() or np.abs(depth).min() < 1e-9:
        return None
    mapped: FloatArray = homogeneous[:, :2] / depth[:, None]
    return mapped


def map_box(matrix: FloatArray, box_xyxy: FloatArray) -> FloatArray | None:
    """Return the box around a mapped box, (4,) float64 pixels; None if it is mapped to infinity."""
    x1, y1, x2, y2 = box_xyxy
    mapped = map_points(matrix, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64))
    return None if mapped is None else np.concatenate([mapped.min(0), mapped.max(0)])


def homography_from_points(source: FloatArray, target: FloatArray) -> FloatArray:
    """Return the homography that maps points to points, in the sense of least squares for more than four.

    Args:
        source: (n, 2) float64, n >= 4.
        target: (n, 2) float64.

    Returns:
        (3, 3) float64 with 1 as the last entry.

    Raises:
        BadInput: the points determine none, as three of four on a line do ("bad-input.homography").

    Source:
        The normalized direct linear transformation: Hartley and Zisserman 2004, algorithm 4.2.

    Example:
        >>> square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
        >>> np.abs(homography_from_points(square, 2 * square)).round(6).tolist()
        [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if len(source) != len(target) or len(source) < 4:
        raise BadInput("homography: expected at least four pairs of points", reason="homography")
    (from_source, a), (from_target, b) = _normalize(source), _normalize(target)
    x, y = a.T
    u, v = b.T
    one, zero = np.ones(len(x)), np.zeros(len(x))
    rows = np.concatenate(
        [
            np.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], 1),
            np.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], 1),
        ]
    )
    _, sizes, right = np.linalg.svd(rows)
    matrix = np.linalg.inv(from_target) @ right[-1].reshape(3, 3) @ from_source
    if sizes[7] < 1e-9 * sizes[0] or abs(matrix[2, 2]) < 1e-12 * np.abs(matrix).max():
        raise BadInput("homography: three of the four points are on one line", reason="homography")
    result: FloatArray = matrix / matrix[2, 2]
    return result


def _normalize(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a similarity as (3, 3), and the points that it moves to the origin, about 1 from it."""
    center = points.mean(0)
    scale = 1 / max(float(np.abs(points - center).mean()), 1e-12)
    matrix = np.array([[scale, 0, -scale * center[0]], [0, scale, -scale * center[1]], [0, 0, 1]])
    return matrix, (points - center) * scale


def invert_homography(matrix: FloatArray) -> FloatArray:
    """Return the homography of the other direction, (3, 3) float64."""
    return np.linalg.inv(matrix).astype(np.float64)


def sample_levels(gray: NDArray[np.float32], points: FloatArray) -> NDArray[np.float32]:
    """Return the gray levels at points, interpolated linearly between the centers of pixels.

    Args:
        gray: (h, w) float32.
        points: (..., 2) float64, x and y in pixels; outside of the image, the nearest pixel counts.

    Returns:
        (...) float32.
    """
    height, width = gray.shape
    x = np.clip(points[..., 0] - 0.5, 0, width - 1)
    y = np.clip(points[..., 1] - 0.5, 0, height - 1)
    left = np.minimum(x.astype(np.int64), max(width - 2, 0))
    top = np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    a, b = (x - left).astype(np.float32), (y - top).astype(np.float32)
    upper = gray[top, left] * (1 - a) + gray[top, right] * a
    lower = gray[low, left] * (1 - a) + gray[low, right] * a
    levels: NDArray[np.float32] = upper * (1 - b) + lower * b
    return levels
