"""Count rows and columns of cells: dark gaps that are evenly spaced, in a module that was made upright."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.geometry import homography_from_points, map_points, sample_levels

MAX_COUNT = 60
_PAD = 0.06  # share of the outline that is shown around it
_STRIPS = 16
# The distance from a gap that is compared with it, as a share of the outline, up to a number of cells.
_REACHES = ((3, 0.04), (5, 0.02), (MAX_COUNT, 0.012))
_ENOUGH = 0.6  # of the deepest gaps: lines below it are busbars
_MIN_DEPTH = 0.25
# Largest difference of the profiles of lines that are all gaps: up to .07 in drawn modules with cut cells,
# .21 in modules of real whole cells; from .30 on if busbars were counted.
_SAME_LINES = 0.25
_SAME_LINES_GIVEN = 0.5  # if rows and columns were given
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)  # width : height of whole cells, and of cells cut in halves or thirds
_RATIO_ERROR = 1.35


@dataclass(frozen=True, eq=False)
class _Axis:
    """The evidence along one axis: for each count, how dark its gaps are, and where they begin and end.

    Attributes:
        depths: (MAX_COUNT + 1,) float64 in [0, 1]; 0 for the counts 0 and 1, which have no gap.
        spans: (MAX_COUNT + 1, 2) float64, where the first and after the last cell the middle of a gap would
            be, as shares of the outline.
        places: (m,) float64, shares of the outline.
        depth: (m,) float64 in [0, 1], how much darker each place is than its neighborhood.
    """

    depths: FloatArray
    spans: FloatArray
    places: FloatArray
    depth: FloatArray

    @cached_property
    def candidates(self) -> list[int]:
        """Counts whose gaps are dark, the largest first."""
        best = float(self.depths.max())
        if best < _MIN_DEPTH:
            return []
        return [int(n) for n in np.flatnonzero(self.depths >= _ENOUGH * best)[::-1]]

    def line_difference(self, count: int, divisor: int) -> float:
        """Return how different the lines that a grid with fewer cells lacks look from its own, in [0, 1].

        Cut cells have gaps everywhere; of whole cells, the lines between would be busbars.

        Args:
            count: number of cells.
            divisor: of `count`; the other grid has `count / divisor` cells.
        """
        first, last = self.spans[count]
        lines = first + (last - first) * np.arange(1, count) / count
        offsets = np.linspace(-1, 1, 33) * _REACHES[-1][1]
        profiles = np.interp(lines[:, None] + offsets, self.places, self.depth)
        is_coarse = np.arange(1, count) % divisor == 0
        if not is_coarse.any() or is_coarse.all():
            return 0.0
        fine, coarse = np.median(profiles[~is_coarse], 0), np.median(profiles[is_coarse], 0)
        return float(np.abs(fine - coarse).sum() / max(float(np.maximum(fine, coarse).sum()), 1e-9))


@dataclass(frozen=True, eq=False)
class CountEvidence:
    """The evidence of the gaps about the numbers of rows and columns.

    Attributes:
        outline: (4, 2) float64, the corners in pixels.
        aspect: width of the outline divided by its height.
        vertical: along the height: rows.
        horizontal: along the width: columns.
    """

    outline: FloatArray
    aspect: float
    vertical: _Axis
    horizontal: _Axis

    def counts(self) -> tuple[int, int] | None:
        """Return rows and columns: the most gaps whose cells have a possible shape, or None."""
        pairs = [
            (rows, columns)
            for rows in self.vertical.candidates
            for columns in self.horizontal.candidates
            if self._is_cell(rows, columns)
        ]
        pairs.sort(key=lambda pair: (pair[0] * pair[1], -abs(math.log(self._shape(*pair)))), reverse=True)
        return next((pair for pair in pairs if not self._counts_busbars(*pair, _SAME_LINES)), None)

    def supports(self, rows: int, columns: int) -> bool:
        """Return whether these rows and columns agree with the gaps; one row or column has none."""
        found = self.counts()
        if found == (rows, columns):
            return True
        if found is not None and (found[0] % rows == 0 and found[1] % columns == 0):
            return False  # every second gap of a finer grid is a grid too
        return all(
            count == 1 or count in axis.candidates
            for count, axis in ((rows, self.vertical), (columns, self.horizontal))
        ) and not self._counts_busbars(rows, columns, _SAME_LINES_GIVEN)

    def _counts_busbars(self, rows: int, columns: int, limit: float) -> bool:
        """Return whether lines within the cells of a coarser grid, its busbars, were counted."""
        for divisor in (2, 3):
            for axis, count, coarse in (
                (self.vertical, rows, (rows // divisor, columns)),
                (self.horizontal, columns, (rows, columns // divisor)),
            ):
                is_coarse = count % divisor == 0 and count > divisor
                if is_coarse and self._is_cell(*coarse) and axis.line_difference(count, divisor) > limit:
                    return True
        return False

    def lattice(self, rows: int, columns: int) -> FloatArray:
        """Return where the corners of a grid are, (4, 2) pixels, from the outline and the gaps."""
        left, right = self.horizontal.spans[columns] if columns > 1 else (0.0, 1.0)
        top, low = self.vertical.spans[rows] if rows > 1 else (0.0, 1.0)
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
        to_image = homography_from_points(unit, self.outline)
        mapped = map_points(to_image, np.array([[left, top], [right, top], [right, low], [left, low]]))
        assert mapped is not None  # noqa: S101  (close to the outline)
        return mapped

    def _is_cell(self, rows: int, columns: int) -> bool:
        shape = self._shape(rows, columns)
        return any(max(shape / ratio, ratio / shape) < _RATIO_ERROR for ratio in RATIOS)

    def _shape(self, rows: int, columns: int) -> float:
        """Return width / height of a cell, of the outline without its perspective."""
        return self.aspect * rows / columns


def count_cells(gray: NDArray[np.float32], outline: FloatArray) -> CountEvidence:
    """Return the evidence of the gaps within an outline about the numbers of rows and columns.

    Args:
        gray: (h, w) float32 in [0, 1].
        outline: (4, 2) float64, pixels: upper left, upper right, lower right, lower left.
    """
    sides = np.hypot(*(np.roll(outline, -1, 0) - outline).T)
    width, height = (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    to_image = homography_from_points(unit, outline)
    size = (round(height * (1 + 2 * _PAD)), round(width * (1 + 2 * _PAD)))
    y, x = ((np.arange(count) + 0.5) / count * (1 + 2 * _PAD) - _PAD for count in size)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    points = map_points(to_image, grid)
    flat = np.zeros(size, np.float32) if points is None else sample_levels(gray, points).reshape(size)
    return CountEvidence(outline, width / height, _axis(flat.T, y), _axis(flat, x))


def _axis(flat: NDArray[np.float32], places: FloatArray) -> _Axis:
    """Return the evidence along the second axis of an upright module.

    Args:
        flat: (n, m) float32.
        places: (m,) float64, shares of the outline.
    """
    inside = flat[round(len(flat) * _PAD) : len(flat) - round(len(flat) * _PAD)]
    strips = np.stack([part.mean(0) for part in np.array_split(inside, _STRIPS)])  # (strips, m)
    profiles = {reach: np.nanmedian(_depths(strips, reach), 0) for _, reach in _REACHES}
    depths, spans = np.zeros(MAX_COUNT + 1), np.tile([0.0, 1.0], (MAX_COUNT + 1, 1))
    step = float(places[1] - places[0])
    for count in range(2, MAX_COUNT + 1):
        slack = min(0.15 / count, 0.01)
        if 1 / count < 12 * step:
            break  # cells of less than 12 pixels
        shifts = np.arange(-slack, slack + step / 2, step / 2)
        # The first and the last gap may be shifted independently: shift and scale of the grid.
        first, last = (a.ravel() for a in np.meshgrid(shifts, shifts))
        share = np.arange(1, count) / count
        lines = share + first[:, None] * (1 - share) + last[:, None] * share  # (trials, count - 1)
        depth = profiles[next(reach for limit, reach in _REACHES if count <= limit)]
        found = np.interp(lines, places, depth)
        scores = np.percentile(found, 15, axis=1)
        best = int((scores + 1e-3 * found.mean(1)).argmax())
        depths[count], spans[count] = scores[best], (first[best], 1 + last[best])
    return _Axis(depths, spans, places, profiles[_REACHES[-1][1]])


def _depths(strips: NDArray[np.float32], share: float) -> FloatArray:
    """Return how much darker each place is than both neighborhoods, (strips, m) in [0, 1]; NaN if dark."""
    reach = max(3, round(share * strips.shape[1]))
    padded = np.pad(strips, ((0, 0), (reach, reach)), mode="edge").astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=1).max(-1)
    width = strips.shape[1]
    left, right = windows[:, :width], windows[:, reach + 1 : reach + 1 + width]
    around = np.minimum(left, right)
    floor = float(np.percentile(strips, 1))
    bright = float(np.percentile(strips, 75)) - floor
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.clip((around - strips) / (around - floor), 0, 1)
    depth[np.maximum(left, right) - floor < 0.2 * bright] = np.nan  # an inactive cell is no evidence
    depth[:, np.isnan(depth).all(0)] = 0
    result: FloatArray = depth
    return result
