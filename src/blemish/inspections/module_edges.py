"""Fit a grid to the edges of its cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, FloatArray
from blemish.geometry import invert_homography, map_points, sample_levels

_ROUNDS = 4
_REACH = 0.16  # of the pitch: how far from the middle of a gap its edges are searched
_SAMPLES, _ALONG = 65, 9
_LEVEL = 0.25  # of the way from the gap to the cell: the dark rim of a wafer belongs to the cell
_AGREES = 0.03  # of the pitch


@dataclass(frozen=True, eq=False)
class GridFit:
    """A grid that was fitted to the edges of cells.

    Attributes:
        to_grid: (3, 3) float64 from pixels to columns and rows.
        gap_wh: horizontal and vertical gap, as a share of the pitch.
        support: share of the visible edges that agree, in [0, 1].
        outer_support: the same share for the edges at the border of the module; the lowest of its four
            sides. A side without a visible edge, as at the border of the image, counts as 1.
        residual: root mean square distance of these, as a share of the pitch.
    """

    to_grid: FloatArray
    gap_wh: tuple[float, float]
    support: float
    outer_support: float
    residual: float


def fit_grid(
    gray: NDArray[np.float32], to_grid: FloatArray, rows: int, columns: int, *, background: float
) -> GridFit | None:
    """Return the grid that fits the edges of the cells best; None if there are too few edges.

    Args:
        gray: (h, w) float32 in [0, 1].
        to_grid: (3, 3) float64, a first guess: from pixels to columns and rows.
        rows: number of rows.
        columns: number of columns.
        background: gray level around the module.

    Source:
        Iteratively reweighted least squares with Tukey's biweight, linearized as in Gauss-Newton.
    """
    result: GridFit | None = None
    matrix = to_grid
    for _ in range(_ROUNDS):
        found = [_edges(gray, matrix, rows, columns, axis, background) for axis in (0, 1)]
        if any(len(edges.points) < 4 for edges in found):
            return result
        matrix, gaps, residuals = _solve(matrix, found, gray.shape)
        ends = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]], np.float64)
        if map_points(invert_homography(matrix), ends) is None:
            return None
        agree = np.abs(residuals) < _AGREES
        result = GridFit(
            matrix,
            (float(np.clip(gaps[0], 0, 0.3)), float(np.clip(gaps[1], 0, 0.3))),
            float(agree.mean()),
            _outer_support(found, agree, (columns, rows)),
            float(np.sqrt((residuals[agree] ** 2).mean())) if agree.any() else 1.0,
        )
    return result


def _outer_support(found: list[_Edges], agree: BoolArray, counts: tuple[int, int]) -> float:
    parts = np.split(agree, [len(found[0].lines)])
    shares = [
        float(part[edges.lines == line].mean())
        for edges, part, count in zip(found, parts, counts, strict=True)
        for line in (0, count)
        if (edges.lines == line).any()
    ]
    return min(shares, default=1.0)


@dataclass(frozen=True, eq=False)
class _Edges:
    """Measured edges that cross one axis.

    Attributes:
        axis: 0 for edges at the left and right of cells, 1 for those above and below.
        points: (n, 2) float64 pixels.
        lines: (n,) float64, the gap that each belongs to.
        sides: (n,) float64, -1 for the end of the cell before the gap, 1 for the begin of the next.
    """

    axis: int
    points: FloatArray
    lines: FloatArray
    sides: FloatArray


def _edges(
    gray: NDArray[np.float32], to_grid: FloatArray, rows: int, columns: int, axis: int, background: float
) -> _Edges:
    """Return where the cells at each gap end and begin, one measurement for each side of each cell."""
    across, along = (columns, rows) if axis == 0 else (rows, columns)
    to_image = invert_homography(to_grid)
    offsets = np.linspace(-_REACH, _REACH, _SAMPLES)
    spread = np.linspace(0.2, 0.8, _ALONG)
    line, cell = (a.ravel() for a in np.meshgrid(np.arange(across + 1), np.arange(along)))
    first = line[:, None, None] + offsets[:, None] + np.zeros(_ALONG)  # (n, samples, along)
    second = cell[:, None, None] + spread + np.zeros((_SAMPLES, 1))
    grid = np.stack([first, second] if axis == 0 else [second, first], -1)
    points = map_points(to_image, grid.reshape(-1, 2))
    if points is None:
        return _Edges(axis, np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    profiles = sample_levels(gray, points.reshape(grid.shape)).mean(2).astype(np.float64)  # (n, samples)
    before, is_before = _positions(profiles[:, ::-1], background)
    after, is_after = _positions(profiles, background)
    is_before &= line > 0
    is_after &= line < across
    place = np.concatenate([-before[is_before], after[is_after]])
    lines = np.concatenate([line[is_before], line[is_after]]).astype(np.float64)
    cells = np.concatenate([cell[is_before], cell[is_after]]) + 0.5
    sides = np.concatenate([-np.ones(is_before.sum()), np.ones(is_after.sum())])
    lattice = np.stack([lines + place, cells] if axis == 0 else [cells, lines + place], -1)
    mapped = map_points(to_image, lattice)
    assert mapped is not None  # noqa: S101  (within the grid)
    return _Edges(axis, mapped, lines, sides)


def _positions(profiles: FloatArray, background: float) -> tuple[FloatArray, BoolArray]:
    """Return where profiles rise from the gap in their middle to the cell at their end, and whether they do.

    Args:
        profiles: (n, samples) float64, from -reach to reach.
        background: gray level around the module.

    Returns:
        (n,) float64 as a share of the pitch, and (n,) bool.
    """
    count = len(profiles)
    quarter = _SAMPLES // 4
    cell = np.median(profiles[:, -quarter:], axis=1)
    middle = profiles[:, quarter // 2 : -quarter]
    lowest = middle.argmin(1) + quarter // 2
    floor = np.minimum(profiles[np.arange(count), lowest], np.maximum(background, 0))
    floor = profiles[np.arange(count), lowest] * 0.5 + floor * 0.5
    level = floor + _LEVEL * (cell - floor)
    index = np.arange(_SAMPLES)
    above = (profiles >= level[:, None]) & (index > lowest[:, None])
    first = above.argmax(1)
    usable = above.any(1) & (cell - profiles[np.arange(count), lowest] > 0.06) & (first > 0)
    first = np.maximum(first, 1)
    low, high = profiles[np.arange(count), first - 1], profiles[np.arange(count), first]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(high > low, (level - low) / (high - low), 0.5)
    step = 2 * _REACH / (_SAMPLES - 1)
    return -_REACH + (first - 1 + np.clip(part, 0, 1)) * step, usable


def _solve(
    matrix: FloatArray, found: list[_Edges], shape: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the fitted matrix, the gaps, and the residuals of all edges."""
    scale = 2 / max(shape)
    normal = np.array([[scale, 0, -scale * shape[1] / 2], [0, scale, -scale * shape[0] / 2], [0, 0, 1]])
    current = matrix @ np.linalg.inv(normal)
    current = current / current[2, 2]
    gaps = np.zeros(2)
    residuals = np.zeros(0)
    for _ in range(12):
        rows, targets = [], []
        for edges in found:
            p = np.column_stack([edges.points, np.ones(len(edges.points))]) @ normal.T
            depth = p @ current[2]
            value = p @ current[edges.axis] / depth
            jacobian = np.zeros((len(p), 10))
            jacobian[:, 3 * edges.axis : 3 * edges.axis + 3] = p / depth[:, None]
            jacobian[:, 6:8] = -(value / depth)[:, None] * p[:, :2]
            jacobian[:, 8 + edges.axis] = -edges.sides / 2
            rows.append(jacobian)
            targets.append(edges.lines + edges.sides * gaps[edges.axis] / 2 - value)
        design, residuals = np.concatenate(rows), np.concatenate(targets)
        spread = max(1.4826 * float(np.median(np.abs(residuals))), 0.002)
        weight = np.clip(1 - (residuals / (4.7 * spread)) ** 2, 0, None)  # square root of the biweight
        step = np.linalg.lstsq(design * weight[:, None], residuals * weight, rcond=None)[0]
        current = current + np.append(step[:8], 0).reshape(3, 3)
        gaps = gaps + step[8:]
        if np.abs(step).max() < 1e-7:
            break
    fitted = current @ normal
    return fitted / fitted[2, 2], gaps, residuals
