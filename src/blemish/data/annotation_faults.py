"""Find wrong annotations: boxes outside the image or without area, repeated objects, tiny masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.data.polygon_masks import PolygonMask, RasterMask, outlines_box, painted_objects
from blemish.data.raw_annotations import Region
from blemish.geometry import polygon_area

OUTSIDE_TOLERANCE_PIXELS = 1.0  # a box may exceed the image by this much without a finding
MIN_MASK_PIXELS = 4  # a smaller mask cannot show an object
SUFFICIENT_POLYGON_AREA = 64.0  # square pixels; a larger polygon surely has enough pixels
SAME_BOX_PIXELS = 0.01  # boxes that differ by less are equal


def boxes_with_area(boxes_xyxy: FloatArray) -> BoolArray:
    """Return for each of (n, 4) boxes whether it has a width and a height: (n,) bool."""
    ascending: BoolArray = boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]
    if ascending.all():  # nearly always, and in half the time
        return np.ones(len(boxes_xyxy), bool)
    has_area: BoolArray = np.all(ascending, axis=1)
    return has_area


def boxes_with_outlines(boxes_xyxy: FloatArray, regions: Sequence[Region]) -> FloatArray:
    """Return the smallest boxes around each box and its polygons: (n, 4) float64, x1 y1 x2 y2."""
    if not any(isinstance(r, tuple) for r in regions):
        return boxes_xyxy
    return np.array([_with_outline(b, r) for b, r in zip(boxes_xyxy, regions, strict=True)], np.float64)


def _with_outline(box_xyxy: FloatArray, region: Region) -> FloatArray:
    if not isinstance(region, tuple):
        return box_xyxy
    around = outlines_box(region)
    return np.concatenate([np.minimum(box_xyxy[:2], around[:2]), np.maximum(box_xyxy[2:], around[2:])])


def boxes_outside(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> tuple[BoolArray, BoolArray]:
    """Return which boxes exceed the image by more than a pixel, and which have no part inside it.

    Args:
        boxes_xyxy: (n, 4) x1 y1 x2 y2 in pixels.
        size_hw: height and width of the image.

    Returns:
        partly_outside: (n,) bool, includes the boxes that are entirely outside.
        entirely_outside: (n,) bool.

    Example:
        >>> boxes = np.array([[0, 0, 9, 9], [5, 5, 12, 9], [20, 0, 30, 5.0]])
        >>> partly, entirely = boxes_outside(boxes, (10, 10))
        >>> partly.tolist(), entirely.tolist()
        ([False, True, True], [False, False, True])
    """
    height, width = size_hw
    if len(boxes_xyxy):
        far_x, far_y = boxes_xyxy[:, 2:].max(0)
        if boxes_xyxy.min() >= 0 and far_x <= width and far_y <= height:  # nearly always
            none = np.zeros(len(boxes_xyxy), bool)
            return none, none
    x1, y1, x2, y2 = boxes_xyxy.T
    excess = np.stack([-x1, -y1, x2 - width, y2 - height], 1)
    entirely: BoolArray = (x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0)
    return (excess > OUTSIDE_TOLERANCE_PIXELS).any(1) | entirely, entirely


def repeated_objects(
    label_index: Sequence[int], boxes_xyxy: FloatArray, regions: Sequence[Region], rows: BoolArray
) -> dict[int, int]:
    """Return the position of each object that equals an earlier one, with the position of that one.

    Args:
        label_index: position of each object's label.
        boxes_xyxy: (n, 4) x1 y1 x2 y2 in pixels.
        regions: polygons or mask of each object.
        rows: (n,) bool, the objects to compare.
    """
    keys = [(i, *k) for i, k in zip(label_index, np.rint(boxes_xyxy / SAME_BOX_PIXELS).tolist(), strict=True)]
    if len(set(keys)) == len(keys):
        return {}
    first_of: dict[tuple[float, ...], int] = {}
    repeats = {}
    for row in np.flatnonzero(rows).tolist():
        first = first_of.setdefault(keys[row], row)
        if first != row and _same_region(regions[first], regions[row]):
            repeats[row] = first
    return repeats


def _same_region(first: Region, second: Region) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(np.array_equal, first, second))
    if isinstance(first, RasterMask) or isinstance(second, RasterMask):
        return False  # a pixel belongs to one object only
    if isinstance(first, Mask) and isinstance(second, Mask):
        return np.array_equal(first.counts, second.counts)
    return first is second


def small_mask_area(region: Region, size_hw: tuple[int, int]) -> int | None:
    """Return the number of pixels of a mask or polygon, or None if it surely has at least `MIN_MASK_PIXELS`.

    Args:
        region: polygons, a mask, or None for an object that has a box only.
        size_hw: height and width of the image.
    """
    if region is None:
        return None
    if isinstance(region, RasterMask):
        area = int(_pixel_counts(region.path)[region.value])
    elif isinstance(region, Mask):
        area = region.area
    elif sum(polygon_area(p) for p in region) >= SUFFICIENT_POLYGON_AREA:
        return None
    else:
        area = PolygonMask(size_hw, region).area
    return area if area < MIN_MASK_PIXELS else None


@lru_cache(maxsize=4)
def _pixel_counts(path: Path) -> IntArray:
    """(256,) the number of pixels of each value in a painted mask; the masks of one image share it."""
    return np.bincount(painted_objects(path).reshape(-1), minlength=256).astype(np.int64)
