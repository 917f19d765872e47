"""Polygons: (k, 2) arrays, x y in pixels, closed from the last point to the first; into masks and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from blemish.errors import BadInput
from blemish.geometry.masks import crop_window, union_of_intervals
from blemish.vocabulary import FloatArray, IntArray, Mask

GRID = 5  # COCO draws polygons on a grid this many times as fine as the pixels
FARTHEST = 1e8  # pixels; whatever lies beyond was never meant as pixels


def mask_from_polygons(polygons: Sequence[ArrayLike], size_hw: tuple[int, int]) -> Mask:
    """The pixels that at least one of the polygons covers.

    Args:
        polygons: each (k, 2) float, x y pixels, k >= 3; may leave the photograph.
        size_hw: height and width of the photograph.

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
    x2, y2 = np.roll(grid, -1, 0).T
    dx, dy = np.abs(x2 - x1), np.abs(y2 - y1)
    flat = dx >= dy
    backwards = np.where(flat, x1 > x2, y1 > y2)
    x1, x2 = np.where(backwards, x2, x1), np.where(backwards, x1, x2)
    y1, y2 = np.where(backwards, y2, y1), np.where(backwards, y1, y2)

    # Columns whose step lies on each edge: left and right of it are 5c + 2 and 5c + 3.
    left, right = np.minimum(x1, x2), np.maximum(x1, x2)
    first = np.maximum(-((2 - left) // GRID), 0)
    last = np.minimum((right - 3) // GRID, width - 1)
    count = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(grid)), count)
    column = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    step = GRID * column + 3

    x1, y1, x2, y2, dx, dy, flat = (v[edge] for v in (x1, y1, x2, y2, dx, dy, flat))
    y = np.empty(edge.size, np.int64)
    # Flat edges: every x is a point, the two beside the step have these y.
    slope = (y2 - y1)[flat] / dx[flat]
    at = (step - x1)[flat]
    y[flat] = np.minimum(np.trunc(y1[flat] + slope * (at - 1) + 0.5), np.trunc(y1[flat] + slope * at + 0.5))
    # Steep edges: every y is a point; the one where the step happens.
    steep = ~flat
    y[steep] = _steep_steps(x1[steep], y1[steep], (x2 - x1)[steep] / dy[steep], step[steep])

    row = np.ceil(np.clip((y + 0.5) / GRID - 0.5, 0, height)).astype(np.int64)
    position, times = np.unique(column * height + row, return_counts=True)
    edges = position[times % 2 == 1]
    # A column's last crossing may fall behind the last pixel, and there the mask ends anyway.
    return edges if edges.size % 2 == 0 else np.append(edges, height * width)


def _steep_steps(x1: IntArray, y1: IntArray, slope: FloatArray, step: IntArray) -> IntArray:
    """The smaller y of the two neighbours between which x = trunc(x1 + slope t + .5) passes `step`."""
    rising = slope > 0
    guess = np.floor((step - 0.5 - x1) / slope).astype(np.int64)
    # Division and multiplication round differently, so look at the three candidates.
    t = guess[:, None] + np.arange(-1, 3)
    beyond = np.trunc(x1[:, None] + slope[:, None] * t + 0.5) >= step[:, None]
    arrived = beyond == rising[:, None]  # rising: the first t at `step`; falling: the first t below it
    return np.asarray(y1 + np.take_along_axis(t, arrived.argmax(1)[:, None], 1)[:, 0] - 1)
