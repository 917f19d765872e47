"""Resample heatmaps between three coordinate systems: image, network input, and coarse grids over either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.preprocessing import Placement


@dataclass(frozen=True)
class ReceptiveGrid:
    """Positions of a feature map's cells over the network's input: cell i is centered at start + i * stride.

    Convolutions with odd kernels that halve an even map are centered half a cell further up and left than
    cells that cover the input evenly. Without this correction, a map of 5 x 5 cells is off by a tenth of
    the image.

    Attributes:
        start_yx: center of the first cell, as fractions of the input's height and width.
        stride_yx: distance of neighboring cells, as fractions of the input's height and width.
    """

    start_yx: tuple[float, float]
    stride_yx: tuple[float, float]

    @classmethod
    def even(cls, cells_hw: tuple[int, ...]) -> ReceptiveGrid:
        """Return the grid of cells that cover the input evenly."""
        return cls((0.5 / cells_hw[0], 0.5 / cells_hw[1]), (1 / cells_hw[0], 1 / cells_hw[1]))


def to_image(
    grid: NDArray[np.floating], placement: Placement, receptive_grid: ReceptiveGrid | None = None
) -> NDArray[np.float32]:
    """Return a map over the network's input as a map over the image.

    Args:
        grid: (h, w), such as a feature map.
        placement: the image's position in that input.
        receptive_grid: positions of the cells. Default: evenly over the input.

    Returns:
        (H, W) float32 of the image's size, bilinear between the centers of the cells; 0 where the image is
        outside the input, such as outside a center crop.
    """
    height, width = placement.size_hw
    rows = _positions(height, placement.scale_xy[1], placement.offset_xy[1], placement.input_hw[0])
    columns = _positions(width, placement.scale_xy[0], placement.offset_xy[0], placement.input_hw[1])
    down, across = _weights((rows, columns), grid.shape, receptive_grid)
    down[(rows < 0) | (rows > 1)] = 0
    across[(columns < 0) | (columns > 1)] = 0
    return (down @ grid.astype(np.float64) @ across.T).astype(np.float32)


def to_network(grids: NDArray[np.floating], placement: Placement, *, outside: float = 1.0) -> FloatArray:
    """Return maps over the image as maps over the network's input.

    Args:
        grids: (n, h, w) whose cells cover the image evenly.
        placement: the image's position in the input.
        outside: value of the input's padding, outside the image.

    Returns:
        (n, H, W) float64 of the input's size, bilinear between the centers of the cells.
    """
    axes = []
    for axis, count in ((1, grids.shape[1]), (0, grids.shape[2])):
        network = np.arange(placement.input_hw[1 - axis]) + 0.5
        scale, offset = placement.scale_xy[axis], placement.offset_xy[axis]
        image = (network - offset) / scale / placement.size_hw[1 - axis]  # fractions of the image's side
        axes.append((linear_weights(image, count), (image >= 0) & (image <= 1)))
    (down, row_in), (across, column_in) = axes
    out = down @ grids @ across.T
    out[:, ~(row_in[:, None] & column_in[None, :])] = outside
    return np.asarray(out, np.float64)


def resample(
    grid: NDArray[np.floating], size_hw: tuple[int, int], receptive_grid: ReceptiveGrid | None = None
) -> FloatArray:
    """Return a (h, w) map at another size, bilinear between the centers of the cells.

    Without a receptive grid, this equals `torch.nn.functional.interpolate` with `align_corners=False`.
    """
    down, across = _weights([(np.arange(n) + 0.5) / n for n in size_hw], grid.shape, receptive_grid)
    return np.asarray(down @ grid.astype(np.float64) @ across.T, np.float64)


def linear_weights(positions: FloatArray, count: int) -> FloatArray:
    """Return (n, count): the weights of `count` even cells at positions in [0, 1], linear between centers.

    Example:
        >>> linear_weights(np.array([0.0, 0.5, 0.75]), 2).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    return interpolation_weights(positions * count - 0.5, count)


def _weights(
    positions: Sequence[FloatArray], cells_hw: tuple[int, ...], receptive_grid: ReceptiveGrid | None
) -> list[FloatArray]:
    """Return, for each axis, the weight of each cell at each position."""
    grid = receptive_grid or ReceptiveGrid.even(cells_hw)
    return [
        interpolation_weights((positions[axis] - grid.start_yx[axis]) / grid.stride_yx[axis], cells_hw[axis])
        for axis in (0, 1)
    ]


def interpolation_weights(positions: FloatArray, count: int) -> FloatArray:
    """Return (n, count): linear weights of the two cells around each position, which is in units of cells."""
    at = np.clip(positions, 0, count - 1)
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    weights = np.zeros((len(positions), count))
    rows = np.arange(len(positions))
    weights[rows, low] = 1 - (at - low)
    if count > 1:
        weights[rows, low + 1] = at - low
    return weights


def _positions(count: int, scale: float, offset: float, extent: int) -> FloatArray:
    """Return the centers of the image's pixels in the input, as fractions of the input's extent."""
    return ((np.arange(count) + 0.5) * scale + offset) / extent
