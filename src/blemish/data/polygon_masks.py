"""Masks that remember the outlines people drew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import BadDataset

OFF_THE_CURVE = 0.1  # pixels between an ellipse and the straight sides that stand for it
KEPT_IN_MEMORY = 4096  # masks whose runs are kept once computed; some 20 MB


class PolygonMask(Mask):
    """A mask given by its outlines; its runs are computed when somebody asks.

    So a hundred thousand images cost the memory of their outlines only, and a format that holds
    outlines gets back exactly what was read.

    Attributes:
        polygons: (k, 2) float64 each, x y in pixels of the upright image; the region is their union.
        stands_in: whether nobody drew them: the object has a box only, and this is its rectangle.
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
        """(n,) int64 run lengths, as in every mask."""
        return _counts_of(self)


@lru_cache(maxsize=KEPT_IN_MEMORY)
def _counts_of(mask: PolygonMask) -> IntArray:
    from blemish.geometry import mask_from_polygons

    counts: IntArray = mask_from_polygons(list(mask.polygons), mask.size_hw).counts
    return counts


def outlines_box(polygons: tuple[FloatArray, ...]) -> FloatArray:
    """(4,) the box around outlines, xyxy."""
    points = np.concatenate(polygons)
    return np.concatenate([points.min(0), points.max(0)])


def clip_polygon(outline: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    """(k, 2) an outline cut at the edges of an image; (0, 2) where nothing of it is inside.

    Parts that the cut divides stay joined along the edge, which holds no pixel.

    Source:
        Sutherland & Hodgman 1974, "Reentrant Polygon Clipping".
    """
    points = np.asarray(outline, np.float64)
    for axis, edge, sign in ((0, 0, 1), (0, size_hw[1], -1), (1, 0, 1), (1, size_hw[0], -1)):
        depth = (points[:, axis] - edge) * sign  # inside where it is not negative
        if (depth >= 0).all():
            continue
        kept: list[FloatArray] = []
        for i in range(len(points)):
            before, here = depth[i - 1], depth[i]
            if (before < 0) != (here < 0):
                crossing = points[i - 1] + (points[i] - points[i - 1]) * (before / (before - here))
                crossing[axis] = edge  # exactly, whatever the rounding
                kept.append(crossing)
            if here >= 0:
                kept.append(points[i])
        points = np.array(kept, np.float64).reshape(-1, 2)
    return points


def rectangle_outline(box_xyxy: Sequence[float], degrees: float = 0.0) -> FloatArray:
    """(4, 2) the corners of a box that is turned clockwise about its centre, x y pixels."""
    x1, y1, x2, y2 = box_xyxy
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
    return _turned_about(corners, ((x1 + x2) / 2, (y1 + y2) / 2), degrees)


def ellipse_outline(
    centre_xy: Sequence[float], radii_xy: Sequence[float], degrees: float = 0.0
) -> FloatArray:
    """(k, 2) points on an ellipse that is turned clockwise about its centre, x y pixels.

    There are as many that no side leaves the curve by more than a tenth of a pixel, in four equal parts, so
    that the outermost points are among them.
    """
    largest = max(*radii_xy, 0.1)
    count = 4 * max(3, math.ceil(math.pi / math.acos(max(1 - OFF_THE_CURVE / largest, 0)) / 4))
    angles = np.arange(count) * (2 * math.pi / count)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray(radii_xy, np.float64)
    return _turned_about(points + np.asarray(centre_xy, np.float64), centre_xy, degrees)


def _turned_about(points: FloatArray, centre_xy: Sequence[float], degrees: float) -> FloatArray:
    if not degrees:
        return points
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cosine, sine], [-sine, cosine]])  # clockwise, since y points down
    turned: FloatArray = (points - np.asarray(centre_xy)) @ turn + np.asarray(centre_xy)
    return turned


class RasterMask(Mask):
    """A mask that lies in a picture whose pixels say to which object they belong; read when somebody asks.

    Attributes:
        path: the picture, a palette or grey PNG.
        value: of the pixels that belong to the mask.
    """

    path: Path
    value: int

    def __init__(self, size_hw: tuple[int, int], path: Path, value: int) -> None:
        object.__setattr__(self, "size_hw", size_hw)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "value", value)

    @property
    def counts(self) -> IntArray:
        """(n,) int64 run lengths, as in every mask."""
        return _painted_counts(self)


@lru_cache(maxsize=KEPT_IN_MEMORY)
def _painted_counts(mask: RasterMask) -> IntArray:
    from blemish.geometry import mask_from_array

    painted = painted_objects(mask.path)
    if painted.shape != mask.size_hw:
        raise BadDataset(
            f"{mask.path}: it is {painted.shape[1]} x {painted.shape[0]} beside an image of"
            f" {mask.size_hw[1]} x {mask.size_hw[0]}; paint it on the image at its size"
        )
    counts: IntArray = mask_from_array(painted == mask.value).counts
    return counts


@lru_cache(maxsize=16)
def painted_objects(path: Path) -> NDArray[np.uint8]:
    """(h, w) uint8 the number of the object at each pixel, as the picture's palette positions say it.

    Raises:
        BadDataset: it cannot be read, or it has colours and no palette.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise BadDataset(f"{path}: its pixels are {image.mode}; save it as a PNG with a palette")
            return np.asarray(image, np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadDataset):
            raise
        raise BadDataset(f"{path}: cannot be read as a picture of objects; save it again as PNG") from error
