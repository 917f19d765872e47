"""Polygons to masks and back: (k, 2) arrays, x y in pixels; the last point is connected to the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import BadInput
from blemish.geometry.masks import crop_window, mask_from_edges, union_of_intervals

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

GRID = 5  # COCO rasterizes polygons on a grid of 5 x 5 points per pixel
MAX_COORDINATE = 1e8  # pixels; larger numbers are errors of the data


def mask_from_polygons(polygons: Sequence[ArrayLike], size_hw: tuple[int, int]) -> Mask:
    """Return the mask of the pixels that at least one polygon covers.

    Args:
        polygons: each (k, 2) float, x y in pixels, k >= 3; parts outside the image are ignored.
        size_hw: height and width of the image, in pixels.

    Raises:
        BadInput: a polygon has fewer than three points or another shape, or a coordinate is not finite or
            exceeds 1e8 pixels; the message names polygon and point.

    Source:
        Equals pycocotools.mask.merge(pycocotools.mask.frPyObjects(...)), run for run.

    Example:
        >>> mask_from_polygons([[[1, 0], [3, 0], [3, 2], [1, 2]]], (3, 4)).counts.tolist()
        [3, 2, 1, 2, 4]
    """
    parts = [_crossings(_validate_polygon(p, i), size_hw) for i, p in enumerate(polygons)]
    if len(parts) == 1:
        return mask_from_edges(parts[0], size_hw)
    starts = [edges[::2] for edges in parts]
    stops = [edges[1::2] for edges in parts]
    none = np.zeros(0, np.int64)
    return union_of_intervals(np.concatenate([none, *starts]), np.concatenate([none, *stops]), size_hw)


def mask_to_polygons(mask: Mask) -> list[FloatArray]:
    """Return the outer outline of every connected component of a mask, without holes.

    Pixels that touch only at a corner are not connected. `mask_from_polygons` returns the same mask if the
    mask has no holes, and fills the holes otherwise.

    Returns:
        One (k, 2) float64 array per component, x y in pixels, in descending order of area.
    """
    return [ring for ring in mask_to_rings(mask) if _signed_area(ring) > 0]


def mask_to_rings(mask: Mask) -> list[FloatArray]:
    """Return every outline of a mask, including the outlines of holes.

    Returns:
        One (k, 2) float64 array per outline, x y in pixels, in descending order of area. On the displayed
        image (y downward) outer outlines run clockwise and holes counterclockwise.
    """
    window, (x, y) = crop_window(mask)
    if not window.size:
        return []
    from contourpy import contour_generator

    lines = contour_generator(z=np.pad(window, 1).astype(np.float64), name="serial").lines(0.5)
    # Sample (i, j) of the padded window is the center of the pixel in column j - 1 and row i - 1.
    corner = np.array([x - 0.5, y - 0.5])
    rings = [_remove_collinear_points(np.asarray(line)[:-1]) + corner for line in lines]
    return sorted(rings, key=lambda ring: -abs(_signed_area(ring)))


def polygon_area(polygon: ArrayLike) -> float:
    """Return the area of a polygon whose edges do not cross.

    Args:
        polygon: (k, 2) float, x y in pixels.

    Returns:
        The area in square pixels, >= 0.

    Example:
        >>> polygon_area([[0, 0], [4, 0], [4, 3]])
        6.0
    """
    return abs(_signed_area(np.asarray(polygon, np.float64)))


def _signed_area(polygon: FloatArray) -> float:
    x, y = (polygon - polygon[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _remove_collinear_points(ring: FloatArray) -> FloatArray:
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return ring[turns] if turns.sum() >= 3 else ring


def _validate_polygon(polygon: ArrayLike, number: int) -> FloatArray:
    points = np.asarray(polygon, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise BadInput(
            f"polygon {number}: expected the shape (k, 2) with k >= 3, got {points.shape}",
            reason="polygon-shape",
        )
    if not (np.abs(points) < MAX_COORDINATE).all():
        row = int((~(np.abs(points) < MAX_COORDINATE)).any(1).argmax())
        raise BadInput(
            f"polygon {number}, point {row}: expected finite coordinates below {MAX_COORDINATE:.0e} pixels, "
            f"got {points[row].tolist()}",
            reason="polygon-point",
        )
    return points


def _crossings(polygon: FloatArray, size_hw: tuple[int, int]) -> IntArray:
    """Return the positions in column-major order where the runs of a polygon start and stop.

    COCO follows the outline on a grid of 5 points per pixel and takes every step from x = 5c + 2 to 5c + 3
    or back, for each column c. This function computes only these steps, with the same rounding.

    Returns:
        (2n,) int64, ascending: start, stop, start, stop, …
    """
    height, width = size_hw
    grid = np.trunc(GRID * polygon + 0.5).astype(np.int64)
    x1, y1 = grid.T
    x2, y2 = np.concatenate([grid[1:], grid[:1]]).T
    flat = np.abs(x2 - x1) >= np.abs(y2 - y1)
    reversed_edge = np.where(flat, x1 > x2, y1 > y2)
    x1, x2 = np.where(reversed_edge, x2, x1), np.where(reversed_edge, x1, x2)
    y1, y2 = np.where(reversed_edge, y2, y1), np.where(reversed_edge, y1, y2)

    # The columns c whose step, from 5c + 2 to 5c + 3, each edge contains.
    left, right = np.minimum(x1, x2), np.maximum(x1, x2)
    first = np.maximum(-((2 - left) // GRID), 0)
    last = np.minimum((right - 3) // GRID, width - 1)
    count = np.maximum(last - first + 1, 0)
    before = np.cumsum(count) - count
    # A flat edge has a grid point for every x, a steep one for every y.
    length = np.where(flat, x2 - x1, y2 - y1)
    slope = np.where(flat, y2 - y1, x2 - x1) / np.maximum(length, 1)
    edge = np.repeat(np.arange(len(grid)), count)
    column = np.arange(edge.size) - before[edge] + first[edge]
    step = GRID * column + 3
    x, y, slope, is_flat = x1[edge], y1[edge], slope[edge], flat[edge]
    if is_flat.all():
        y = _y_next_to_step(x, y, slope, step)
    elif is_flat.any():
        steep = ~is_flat
        both = y.copy()
        both[is_flat] = _y_next_to_step(x[is_flat], y[is_flat], slope[is_flat], step[is_flat])
        both[steep] = _y_at_step(x[steep], y[steep], slope[steep], step[steep])
        y = both
    else:
        y = _y_at_step(x, y, slope, step)

    row = np.ceil(np.clip((y + 0.5) / GRID - 0.5, 0, height)).astype(np.int64)
    position = np.sort(column * height + row)
    # Two crossings at one position cancel out.
    begins = np.flatnonzero(np.diff(position, prepend=-1))
    times = np.diff(begins, append=position.size)
    edges = position[begins[times % 2 == 1]]
    # The last crossing of the last column may be past the last pixel, where the mask stops anyway.
    return edges if edges.size % 2 == 0 else np.append(edges, height * width)


def _y_next_to_step(x1: IntArray, y1: IntArray, slope: FloatArray, step: IntArray) -> IntArray:
    """Return the smaller y of the two points next to x = `step` on y = trunc(y1 + slope t + 0.5)."""
    t = step - x1
    y = np.minimum(np.trunc(y1 + slope * (t - 1) + 0.5), np.trunc(y1 + slope * t + 0.5))
    return np.asarray(y, np.int64)


def _y_at_step(x1: IntArray, y1: IntArray, slope: FloatArray, step: IntArray) -> IntArray:
    """Return the smaller y of the two points between which x = trunc(x1 + slope t + 0.5) passes `step`."""
    rising = slope > 0
    # Division and multiplication round differently, so test the candidates around the quotient: on a rising
    # edge, the first t at or past `step`; on a falling edge, the first t before it.
    t = np.floor((step - 0.5 - x1) / slope).astype(np.int64) - 1
    for _ in range(3):
        t += (np.trunc(x1 + slope * t + 0.5) >= step) != rising
    return np.asarray(y1 + t - 1)
