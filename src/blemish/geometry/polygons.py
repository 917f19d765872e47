"""Polygons: (k, 2) arrays, x y in pixels, closed from the last point to the first; into masks and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import BadInput
from blemish.geometry.masks import crop_window, mask_from_edges, union_of_intervals

GRID = 5  # COCO draws polygons on a grid this many times as fine as the pixels
FARTHEST = 1e8  # pixels; whatever lies beyond was never meant as pixels


def mask_from_polygons(polygons: Sequence[ArrayLike], size_hw: tuple[int, int]) -> Mask:
    """The pixels that at least one of the polygons covers.

    Args:
        polygons: each (k, 2) float, x y pixels, k >= 3; may leave the image.
        size_hw: height and width of the image.

    Raises:
        BadInput: a polygon has fewer than three points, another shape, or a point that is not finite or
            farther than a hundred million pixels away; the message names it.

    Source:
        Equals pycocotools.mask.merge(pycocotools.mask.frPyObjects(...)), run for run.

    Example:
        >>> mask_from_polygons([[[1, 0], [3, 0], [3, 2], [1, 2]]], (3, 4)).counts.tolist()
        [3, 2, 1, 2, 4]
    """
    parts = [_crossings(_checked(p, i), size_hw) for i, p in enumerate(polygons)]
    if len(parts) == 1:
        return mask_from_edges(parts[0], size_hw)
    starts = [edges[::2] for edges in parts]
    stops = [edges[1::2] for edges in parts]
    none = np.zeros(0, np.int64)
    return union_of_intervals(np.concatenate([none, *starts]), np.concatenate([none, *stops]), size_hw)


def mask_to_polygons(mask: Mask) -> list[FloatArray]:
    """The outer outline of every piece of a mask; holes are filled.

    Pieces that touch at a corner only are pieces of their own. `mask_from_polygons` gives back the same
    pixels, where the mask has no holes.

    Returns:
        (k, 2) float64 each, x y pixels; the largest first.
    """
    return [ring for ring in mask_to_rings(mask) if _signed_area(ring) > 0]


def mask_to_rings(mask: Mask) -> list[FloatArray]:
    """Every outline of a mask, those of holes too.

    Returns:
        (k, 2) float64 each, x y pixels; clockwise to the eye for outer outlines, counter-clockwise for
        holes; the largest first.
    """
    window, (x, y) = crop_window(mask)
    if not window.size:
        return []
    from contourpy import contour_generator

    lines = contour_generator(z=np.pad(window, 1).astype(np.float64), name="serial").lines(0.5)
    corner = np.array(
        [x - 0.5, y - 0.5]
    )  # sample (i, j) of the padded window is the centre of pixel (j - 1, i - 1)
    rings = [_without_straight_points(np.asarray(line)[:-1]) + corner for line in lines]
    return sorted(rings, key=lambda ring: -abs(_signed_area(ring)))


def polygon_area(polygon: ArrayLike) -> float:
    """Area inside a polygon that does not cross itself, square pixels.

    Example:
        >>> polygon_area([[0, 0], [4, 0], [4, 3]])
        6.0
    """
    return abs(_signed_area(np.asarray(polygon, np.float64)))


def _signed_area(polygon: FloatArray) -> float:
    x, y = (polygon - polygon[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _without_straight_points(ring: FloatArray) -> FloatArray:
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return ring[turns] if turns.sum() >= 3 else ring


def _checked(polygon: ArrayLike, number: int) -> FloatArray:
    points = np.asarray(polygon, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise BadInput(f"polygon {number} has shape {points.shape}; give at least three points, (k, 2)")
    if not (np.abs(points) < FARTHEST).all():
        row = int((~(np.abs(points) < FARTHEST)).any(1).argmax())
        raise BadInput(f"polygon {number} has the impossible point {points[row].tolist()}")
    return points


def _crossings(polygon: FloatArray, size_hw: tuple[int, int]) -> IntArray:
    """Where, down the columns, a polygon begins, ends, begins, ...

    COCO walks the outline on a grid five times as fine and looks where it steps from 5c + 2 to 5c + 3 or
    back, for each column c. We compute these steps alone, with the same roundings.

    Returns:
        (2n,) int64 ascending positions in column-major order.
    """
    height, width = size_hw
    grid = np.trunc(GRID * polygon + 0.5).astype(np.int64)
    x1, y1 = grid.T
    x2, y2 = np.concatenate([grid[1:], grid[:1]]).T
    flat = np.abs(x2 - x1) >= np.abs(y2 - y1)
    backwards = np.where(flat, x1 > x2, y1 > y2)
    x1, x2 = np.where(backwards, x2, x1), np.where(backwards, x1, x2)
    y1, y2 = np.where(backwards, y2, y1), np.where(backwards, y1, y2)

    # Columns whose step lies on each edge: left and right of it are 5c + 2 and 5c + 3.
    left, right = np.minimum(x1, x2), np.maximum(x1, x2)
    first = np.maximum(-((2 - left) // GRID), 0)
    last = np.minimum((right - 3) // GRID, width - 1)
    count = np.maximum(last - first + 1, 0)
    before = np.cumsum(count) - count
    # Along a flat edge every x is a point of the grid, along a steep one every y.
    length = np.where(flat, x2 - x1, y2 - y1)
    slope = np.where(flat, y2 - y1, x2 - x1) / np.maximum(length, 1)
    edge = np.repeat(np.arange(len(grid)), count)
    column = np.arange(edge.size) - before[edge] + first[edge]
    step = GRID * column + 3
    x, y, slope, is_flat = x1[edge], y1[edge], slope[edge], flat[edge]
    if is_flat.all():
        y = _beside_step(x, y, slope, step)
    elif is_flat.any():
        steep = ~is_flat
        both = y.copy()
        both[is_flat] = _beside_step(x[is_flat], y[is_flat], slope[is_flat], step[is_flat])
        both[steep] = _at_step(x[steep], y[steep], slope[steep], step[steep])
        y = both
    else:
        y = _at_step(x, y, slope, step)

    row = np.ceil(np.clip((y + 0.5) / GRID - 0.5, 0, height)).astype(np.int64)
    position = np.sort(column * height + row)
    # Two crossings at one place undo each other.
    begins = np.flatnonzero(np.diff(position, prepend=-1))
    times = np.diff(begins, append=position.size)
    edges = position[begins[times % 2 == 1]]
    # A column's last crossing may fall behind the last pixel, and there the mask ends anyway.
    return edges if edges.size % 2 == 0 else np.append(edges, height * width)


def _beside_step(x1: IntArray, y1: IntArray, slope: FloatArray, step: IntArray) -> IntArray:
    """The smaller y of the two points beside x = `step` on y = trunc(y1 + slope t + .5)."""
    t = step - x1
    y = np.minimum(np.trunc(y1 + slope * (t - 1) + 0.5), np.trunc(y1 + slope * t + 0.5))
    return np.asarray(y, np.int64)


def _at_step(x1: IntArray, y1: IntArray, slope: FloatArray, step: IntArray) -> IntArray:
    """The smaller y of the two neighbours between which x = trunc(x1 + slope t + .5) passes `step`."""
    rising = slope > 0
    # Division and multiplication round differently, so look at the candidates around the quotient:
    # rising, the first t at `step` or beyond it; falling, the first t before it.
    t = np.floor((step - 0.5 - x1) / slope).astype(np.int64) - 1
    for _ in range(3):
        t += (np.trunc(x1 + slope * t + 0.5) >= step) != rising
    return np.asarray(y1 + t - 1)
