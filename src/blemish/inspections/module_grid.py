"""The grid of cells in the image of a solar module: how many, and where, rotated and in perspective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.arrays import FloatArray
from blemish.errors import BadInput
from blemish.geometry import homography_from_points, invert_homography, map_points
from blemish.imaging import LoadedImage
from blemish.inspections.module_counts import CountEvidence, count_cells
from blemish.inspections.module_edges import fit_grid
from blemish.inspections.module_outline import dark_and_bright, find_outline

SIDE = 1600  # larger images are reduced to this before the grid is searched
MAX_CELLS = 60  # per row and column
MIN_SUPPORT = 0.5  # share of the cell edges that must agree with the grid
MAX_RESIDUAL = 0.04  # of the pitch


@dataclass(frozen=True, eq=False)
class ModuleGrid:
    """The places of the cells of one module.

    Attributes:
        rows: number of rows.
        columns: number of columns.
        homography: (3, 3) float64 from the grid to pixels of the image: column c and row r reach from (c, r)
            to (c + 1, r + 1), so that the middle of a gap has whole numbers.
        gap_wh: horizontal and vertical gap between cells, as a share of the pitch, in [0, 1).
        size_hw: of the image, in pixels.
        support: share of the visible cell edges that agree with the grid, in [0, 1].
        residual: root mean square distance of these edges from the grid, as a share of the pitch.
    """

    rows: int
    columns: int
    homography: FloatArray
    gap_wh: tuple[float, float]
    size_hw: tuple[int, int]
    support: float
    residual: float

    def cell_quads(self) -> FloatArray:
        """Return the corners of the cells without the gaps, (rows, columns, 4, 2) float64 pixels.

        The order is upper left, upper right, lower right, lower left.
        """
        column, row = np.meshgrid(np.arange(self.columns), np.arange(self.rows))
        inset = np.array(self.gap_wh) / 2
        corner = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (1 - 2 * inset) + inset
        lattice = np.stack([column, row], -1)[:, :, None] + corner
        mapped = map_points(self.homography, lattice.reshape(-1, 2))
        assert mapped is not None  # noqa: S101  (checked when the grid was found)
        return mapped.reshape(self.rows, self.columns, 4, 2)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            "homography": self.homography.round(9).tolist(),
            "gap_wh": [round(value, 4) for value in self.gap_wh],
            "support": round(self.support, 3),
            "residual": round(self.residual, 4),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], size_hw: Sequence[int]) -> ModuleGrid:
        """Return the grid of plain values, which `to_dict` gave, in an image of this height and width."""
        wide, tall = values["gap_wh"]
        return cls(
            values["rows"],
            values["columns"],
            np.array(values["homography"], np.float64),
            (wide, tall),
            (size_hw[0], size_hw[1]),
            values["support"],
            values["residual"],
        )


def cell_name(row: int, column: int) -> str:
    """Return the name of a cell, such as "R2C5": row 2 from the top, column 5 from the left."""
    return f"R{row + 1}C{column + 1}"


def parse_grid(text: str) -> tuple[int, int]:
    """Return rows and columns of a text such as "6x10".

    Raises:
        BadInput: it is none ("bad-input.grid").

    Example:
        >>> parse_grid("6x10")
        (6, 10)
    """
    rows, _, columns = text.casefold().partition("x")
    try:
        grid = int(rows), int(columns)
    except ValueError:
        grid = (0, 0)
    _check_grid(grid, text)
    return grid


def _check_grid(grid: tuple[int, int], text: str) -> None:
    are_counts = len(grid) == 2 and all(isinstance(count, Integral) for count in grid)
    if not are_counts or not all(1 <= count <= MAX_CELLS for count in grid):
        raise BadInput(
            f"grid: expected ROWSxCOLUMNS such as 6x10, each from 1 to {MAX_CELLS}, got {text!r}",
            reason="grid",
        )


def find_grid(
    image: LoadedImage,
    grid: tuple[int, int] | None = None,
    *,
    corners: FloatArray | None = None,
) -> ModuleGrid:
    """Find the cells of a solar module in its electroluminescence image.

    The module is bright on a dark background, about upright (up to 45 degrees), and shown whole. The outline
    is found first, then the dark gaps between cells are counted, and at last the grid is fitted to the
    edges of all cells. A distortion by the lens is not corrected: `residual` shows it.

    Args:
        image: the image of the whole module.
        grid: rows and columns. Default: they are counted.
        corners: (4, 2) pixels, the outer corners of the cells: upper left, upper right, lower right, lower
            left. Default: they are found.

    Raises:
        BadInput: there is no module on a dark background ("bad-input.no-module"), no grid of cells is found
            ("bad-input.no-grid"), or the image shows other numbers of rows and columns ("bad-input.grid").

    Source:
        Deitsch et al. 2021, "Segmentation of photovoltaic module cells in uncalibrated electroluminescence
        images", for the order: outline, grid, then edges of the cells.
    """
    if grid is not None:
        _check_grid(grid, str(grid))
    gray, factor = _working_copy(image)
    if corners is None:
        outline = find_outline(gray)
        if outline is None or not _is_large(outline, gray.shape):
            raise BadInput(
                "module: no bright module on a dark background was found. Show the whole module, or give the "
                "corners of its cells.",
                reason="no-module",
            )
    else:
        outline = _check_corners(corners, image.size_hw) / factor
    evidence = count_cells(gray, outline)
    rows, columns = _choose_counts(evidence, grid)
    lattice = evidence.lattice(rows, columns)
    unit = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float64)
    start = homography_from_points(lattice, unit)  # pixels to grid
    fit = fit_grid(gray, start, rows, columns, background=dark_and_bright(gray)[0])
    if fit is None or min(fit.support, fit.outer_support) < MIN_SUPPORT or fit.residual > MAX_RESIDUAL:
        raise BadInput(
            f"module: the edges of the cells do not fit a grid of {rows}x{columns}. Expected a sharp image "
            "of the whole module without a strong distortion by the lens.",
            reason="no-grid",
        )
    scaled = np.diag([factor, factor, 1.0]) @ invert_homography(fit.to_grid)
    return ModuleGrid(
        rows,
        columns,
        scaled / scaled[2, 2],
        fit.gap_wh,
        image.size_hw,
        fit.support,
        fit.residual,
    )


def _working_copy(image: LoadedImage) -> tuple[NDArray[np.float32], float]:
    """Return gray levels in [0, 1], and how many pixels of the image one of theirs is."""
    if image.is_16bit:
        levels = Image.fromarray(image.pixels.astype(np.float32))
    else:
        levels = image.to_pil().convert("L").convert("F")
    height, width = image.size_hw
    factor = max(1.0, max(height, width) / SIDE)
    if factor > 1:
        size = (round(width / factor), round(height / factor))
        levels = levels.resize(size, Image.Resampling.BOX)
        factor = width / size[0]
    gray = np.asarray(levels, np.float32)
    white = max(float(np.percentile(gray, 99.5)), 1e-6)
    return np.clip(gray / white, 0, 1), factor


def _is_large(outline: FloatArray, size_hw: tuple[int, ...]) -> bool:
    x, y = outline.T
    area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    return area > 0.05 * size_hw[0] * size_hw[1]


def _check_corners(corners: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    quad = np.asarray(corners, np.float64)
    if quad.shape != (4, 2) or not np.isfinite(quad).all():
        raise BadInput("corners: expected four points of x and y", reason="corners")
    sides = np.roll(quad, -1, 0) - quad
    following = np.roll(sides, -1, 0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    height, width = size_hw
    if (
        not (turns > 0).all()
        or (quad < -0.1 * max(size_hw)).any()
        or (quad > np.array([width, height]) * 1.1).any()
    ):
        raise BadInput(
            "corners: expected upper left, upper right, lower right and lower left within "
            f"{width} x {height} pixels",
            reason="corners",
        )
    return quad


def _choose_counts(evidence: CountEvidence, grid: tuple[int, int] | None) -> tuple[int, int]:
    """Return rows and columns; raise `BadInput` if they are not found, or are not those that were given."""
    found = evidence.counts()
    if grid is None:
        if found is None:
            raise BadInput(
                "module: no regular gaps between cells were found. Give rows and columns, or a sharp image.",
                reason="no-grid",
            )
        return found
    if not evidence.supports(*grid):
        shown = "none that is regular" if found is None else f"{found[0]}x{found[1]}"
        hint = " Rows come first." if found == grid[::-1] else ""
        raise BadInput(
            f"grid: {grid[0]}x{grid[1]} was given, and the image shows {shown}.{hint}", reason="grid"
        )
    return grid
