"""Masks that keep their source: the polygons that were drawn, or the painted file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import BadDataset

MAX_CURVE_ERROR_PIXELS = 0.1  # distance between an ellipse and the sides of its polygon
MAX_CACHED_MASKS = 4096  # masks with cached run lengths; about 20 MB


class PolygonMask(Mask):
    """A mask given by polygons; its run lengths are computed on first use.

    A hundred thousand images need the memory of their polygons only, and a format that stores polygons writes
    exactly what was read.

    Attributes:
        polygons: (k, 2) float64 each, x y in pixels of the upright image; the region is their union.
        from_box: whether the polygon is the rectangle of an object that has a box only.
    """

    polygons: tuple[FloatArray, ...]
    from_box: bool

    def __init__(
        self, size_hw: tuple[int, int], polygons: tuple[FloatArray, ...], *, from_box: bool = False
    ) -> None:
        object.__setattr__(self, "size_hw", size_hw)
        object.__setattr__(self, "polygons", polygons)
        object.__setattr__(self, "from_box", from_box)

    @property
    def counts(self) -> IntArray:
        """(n,) int64 run lengths; see Mask."""
        return _counts_of(self)


@lru_cache(maxsize=MAX_CACHED_MASKS)
def _counts_of(mask: PolygonMask) -> IntArray:
    from blemish.geometry import mask_from_polygons

    counts: IntArray = mask_from_polygons(list(mask.polygons), mask.size_hw).counts
    return counts


def outlines_box(polygons: tuple[FloatArray, ...]) -> FloatArray:
    """Return the box around polygons: (4,) x1 y1 x2 y2."""
    points = np.concatenate(polygons)
    return np.concatenate([points.min(0), points.max(0)])


def clip_polygon(outline: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    """Return a polygon clipped to the image: (k, 2), or (0, 2) if no part of it is inside.

    Separate parts stay connected along the edge of the image; the connection contains no pixel.

    Source:
        Sutherland & Hodgman 1974, "Reentrant Polygon Clipping".
    """
    points = np.asarray(outline, np.float64)
    for axis, edge, sign in ((0, 0, 1), (0, size_hw[1], -1), (1, 0, 1), (1, size_hw[0], -1)):
        depth = (points[:, axis] - edge) * sign  # not negative inside the image
        if (depth >= 0).all():
            continue
        kept: list[FloatArray] = []
        for i in range(len(points)):
            before, here = depth[i - 1], depth[i]
            if (before < 0) != (here < 0):
                crossing = points[i - 1] + (points[i] - points[i - 1]) * (before / (before - here))
                crossing[axis] = edge  # exactly, without a rounding error
                kept.append(crossing)
            if here >= 0:
                kept.append(points[i])
        points = np.array(kept, np.float64).reshape(-1, 2)
    return points


def rectangle_outline(box_xyxy: Sequence[float], degrees: float = 0.0) -> FloatArray:
    """Return the corners of a box that is rotated clockwise about its center: (4, 2), x y in pixels.

    Args:
        box_xyxy: x1 y1 x2 y2 in pixels, before the rotation.
        degrees: angle of the rotation.
    """
    x1, y1, x2, y2 = box_xyxy
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
    return _rotated_about(corners, ((x1 + x2) / 2, (y1 + y2) / 2), degrees)


def ellipse_outline(
    center_xy: Sequence[float], radii_xy: Sequence[float], degrees: float = 0.0
) -> FloatArray:
    """Return points on an ellipse that is rotated clockwise about its center: (k, 2), x y in pixels.

    No side of the polygon is farther than 0.1 pixels from the ellipse. The number of points is a multiple of
    four, so that the outermost points are among them.

    Args:
        center_xy: center in pixels.
        radii_xy: the two radii in pixels.
        degrees: angle of the rotation.
    """
    largest = max(*radii_xy, 0.1)
    count = 4 * max(3, math.ceil(math.pi / math.acos(max(1 - MAX_CURVE_ERROR_PIXELS / largest, 0)) / 4))
    angles = np.arange(count) * (2 * math.pi / count)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray(radii_xy, np.float64)
    return _rotated_about(points + np.asarray(center_xy, np.float64), center_xy, degrees)


def _rotated_about(points: FloatArray, center_xy: Sequence[float], degrees: float) -> FloatArray:
    if not degrees:
        return points
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = np.array([[cosine, sine], [-sine, cosine]])  # clockwise, because y points down
    rotated: FloatArray = (points - np.asarray(center_xy)) @ rotation + np.asarray(center_xy)
    return rotated


class RasterMask(Mask):
    """A mask in a painted file, whose pixel values are numbers of objects; the file is read on first use.

    Attributes:
        path: the file, a PNG with a palette or in gray.
        value: the value of the pixels that belong to the mask.
    """

    path: Path
    value: int

    def __init__(self, size_hw: tuple[int, int], path: Path, value: int) -> None:
        object.__setattr__(self, "size_hw", size_hw)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "value", value)

    @property
    def counts(self) -> IntArray:
        """(n,) int64 run lengths; see Mask."""
        return _painted_counts(self)


@lru_cache(maxsize=MAX_CACHED_MASKS)
def _painted_counts(mask: RasterMask) -> IntArray:
    from blemish.geometry import mask_from_array

    painted = painted_objects(mask.path)
    if painted.shape != mask.size_hw:
        raise BadDataset(
            f"expected a painted mask of {mask.size_hw[1]} x {mask.size_hw[0]} pixels, the size of the"
            f" image, got {painted.shape[1]} x {painted.shape[0]}",
            where=mask.path,
            remedy="export it at the size of the image",
            reason="mask-size",
        )
    counts: IntArray = mask_from_array(painted == mask.value).counts
    return counts


@lru_cache(maxsize=16)
def painted_objects(path: Path) -> NDArray[np.uint8]:
    """Return the number of the object at each pixel of a painted file, its palette index: (h, w) uint8.

    Raises:
        BadDataset: the file cannot be read, or has colors without a palette.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise BadDataset(
                    f"expected a painted mask with a palette, got {image.mode} pixels",
                    where=path,
                    remedy="save it as a PNG with a palette",
                    reason="mask-file",
                )
            return np.asarray(image, np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadDataset):
            raise
        raise BadDataset(
            "cannot be read as a painted mask", where=path, remedy="save it again as PNG", reason="mask-file"
        ) from error
