"""The outline of a bright module on a dark background: a quadrilateral, even with dark cells at its sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.arrays import BoolArray, FloatArray
from blemish.geometry import connected_components, mask_to_array

_SIDE = 400  # pixels of the reduced image
_BRIDGE = 0.015  # gaps up to twice this share of the longer side join cells to one region
_MIN_REGION = 0.005  # smaller regions, as a share of the largest one, are noise


def find_outline(gray: NDArray[np.float32]) -> FloatArray | None:
    """Return the corners of the bright area: (4, 2) float64, x and y in pixels; None if there is none.

    Args:
        gray: (h, w) float32 in [0, 1].

    Returns:
        Upper left, upper right, lower right and lower left corner.

    Source:
        Otsu 1979 for the threshold; the quadrilateral is the convex hull without the sides whose removal
        adds the smallest area, so that a dark cell at a corner does not cut the corner off.
    """
    height, width = gray.shape
    factor = max(1.0, max(height, width) / _SIDE)
    size = (max(4, round(width / factor)), max(4, round(height / factor)))
    small = np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BOX), np.float32)
    bright = _bright_area(small)
    if bright is None:
        return None
    hull = _convex_hull(_border_points(bright))
    quad = _reduce_to_four(hull)
    if quad is None:
        return None
    return _ordered(quad * (width / size[0], height / size[1]))


def dark_and_bright(gray: NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean levels of the dark and of the bright pixels, divided by Otsu's threshold."""
    counts, edges = np.histogram(gray, 256, (0.0, 1.0))
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = sums / below, (sums[-1] - sums) / above
        between = below * above * (low - high) ** 2
    if not np.isfinite(between).any():
        return float(gray.mean()), float(gray.mean())
    best = int(np.nanargmax(between))
    return float(low[best]), float(high[best])


def _bright_area(small: NDArray[np.float32]) -> BoolArray | None:
    dark, bright = dark_and_bright(small)
    if bright - dark < 0.05:
        return None
    # Vignette may halve the level at a corner, so the threshold is nearer to the background.
    mask = _opened(small > dark + 0.3 * (bright - dark))
    radius = max(1, round(_BRIDGE * max(small.shape)))
    regions = [mask_to_array(region) & mask for region in connected_components(_dilated(mask, radius))]
    areas = [int(region.sum()) for region in regions]
    if not areas:
        return None
    kept = np.zeros_like(mask)
    for region, area in zip(regions, areas, strict=True):
        if area >= _MIN_REGION * max(areas):
            kept |= region
    return kept


def _opened(mask: BoolArray) -> BoolArray:
    """Return the mask without single pixels and lines of one pixel."""
    return _dilated(~_dilated(~mask, 1), 1)


def _dilated(mask: BoolArray, radius: int) -> BoolArray:
    """Return the mask, grown by a square of 2 x radius + 1 pixels."""
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, radius + 1):
            if axis == 0:
                grown[step:] |= mask[:-step]
                grown[:-step] |= mask[step:]
            else:
                grown[:, step:] |= mask[:, :-step]
                grown[:, :-step] |= mask[:, step:]
        mask = grown
    return mask


def _border_points(mask: BoolArray) -> FloatArray:
    """Return the outer corners of the first and last pixel of each row, (n, 2) float64."""
    rows = np.flatnonzero(mask.any(1))
    left = mask[rows].argmax(1)
    right = mask.shape[1] - mask[rows][:, ::-1].argmax(1)
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    return np.stack([x, y], 1).astype(np.float64)


def _convex_hull(points: FloatArray) -> FloatArray:
    """Return the convex hull, (k, 2), clockwise in an image.

    Source:
        Andrew 1979, the monotone chain.
    """
    ordered = np.unique(points, axis=0).tolist()

    def chain(sequence: list[list[float]]) -> list[list[float]]:
        line: list[list[float]] = []
        for x, y in sequence:
            while len(line) >= 2:
                (ax, ay), (bx, by) = line[-2], line[-1]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                line.pop()
            line.append([x, y])
        return line[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]), np.float64)


def _reduce_to_four(hull: FloatArray) -> FloatArray | None:
    """Return the four corners that remain when sides are removed, each time the one that adds least area."""
    corners = hull
    while len(corners) > 4:
        before, after = np.roll(corners, 1, 0), np.roll(corners, -1, 0)
        beyond = np.roll(corners, -2, 0)
        # The side from corner i to i + 1 is removed by extending its neighbors until they meet.
        first, second = corners - before, after - beyond
        turn = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        side = after - corners
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = (side[:, 0] * second[:, 1] - side[:, 1] * second[:, 0]) / turn
            meeting = corners + reach[:, None] * first
            apart = meeting - corners
            added = np.abs(side[:, 0] * apart[:, 1] - side[:, 1] * apart[:, 0]) / 2
            back = ((meeting - after) * second).sum(1)
        added[~np.isfinite(added) | (reach <= 0) | (back <= 0)] = np.inf
        best = int(added.argmin())
        if not np.isfinite(added[best]):
            return None
        corners = corners.copy()
        corners[best] = meeting[best]
        corners = np.delete(corners, (best + 1) % len(corners), 0)
    return corners if len(corners) == 4 else None


def _ordered(quad: FloatArray) -> FloatArray:
    """Return four clockwise corners beginning with the upper left one: the next side points to the right."""
    sides = np.roll(quad, -1, 0) - quad
    slope = np.abs(np.arctan2(sides[:, 1], sides[:, 0]))
    return np.roll(quad, -int(slope.argmin()), 0)
