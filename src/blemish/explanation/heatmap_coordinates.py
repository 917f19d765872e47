"""Maps between three frames: the image, the network's input, and coarse grids over either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.preprocessing import Placement


@dataclass(frozen=True)
class ReceptiveGrid:
    """Where the cells of a feature map look: the centre of cell i lies at start + i * stride.

    Convolutions of odd kernels that halve an even map look half a cell further up and left than cells
    that cover the input evenly would: drawn as if they did, a map of 5 x 5 cells is a tenth of the
    image off.

    Attributes:
        start_yx: of the first cell, as shares of the input's height and width.
        stride_yx: likewise.
    """

    start_yx: tuple[float, float]
    stride_yx: tuple[float, float]

    @classmethod
    def even(cls, cells_hw: tuple[int, ...]) -> ReceptiveGrid:
        """Of cells that cover the input evenly."""
        return cls((0.5 / cells_hw[0], 0.5 / cells_hw[1]), (1 / cells_hw[0], 1 / cells_hw[1]))


def to_image(
    grid: NDArray[np.floating], placement: Placement, lattice: ReceptiveGrid | None = None
) -> NDArray[np.float32]:
    """A map over the network's input, as the image sees it.

    Args:
        grid: (h, w), such as a feature map.
        placement: where the image lies in that input.
        lattice: where the cells look; evenly over the input where nobody knows.

    Returns:
        (H, W) float32 of the image's size, bilinear between the cells' centres; 0 where the network
        did not look, such as outside a centre crop.
    """
    height, width = placement.size_hw
    rows = _positions(height, placement.scale_xy[1], placement.offset_xy[1], placement.input_hw[0])
    columns = _positions(width, placement.scale_xy[0], placement.offset_xy[0], placement.input_hw[1])
    down, across = _weights((rows, columns), grid.shape, lattice)
    down[(rows < 0) | (rows > 1)] = 0
    across[(columns < 0) | (columns > 1)] = 0
    return (down @ grid.astype(np.float64) @ across.T).astype(np.float32)


def to_network(grids: NDArray[np.floating], placement: Placement, *, outside: float = 1.0) -> FloatArray:
    """Maps over the image, as the network's input sees them.

    Args:
        grids: (n, h, w), their cells covering the image evenly.
        placement: where the image lies in the input.
        outside: the value of the input's border, where no image is.

    Returns:
        (n, H, W) float64 of the input's size, bilinear between the cells' centres.
    """
    axes = []
    for axis, count in ((1, grids.shape[1]), (0, grids.shape[2])):
        network = np.arange(placement.input_hw[1 - axis]) + 0.5
        scale, offset = placement.scale_xy[axis], placement.offset_xy[axis]
        places = (network - offset) / scale / placement.size_hw[1 - axis]
        axes.append((linear_weights(places, count), (places >= 0) & (places <= 1)))
    (down, row_in), (across, column_in) = axes
    out = down @ grids @ across.T
    out[:, ~(row_in[:, None] & column_in[None, :])] = outside
    return np.asarray(out, np.float64)


def resample(
    grid: NDArray[np.floating], size_hw: tuple[int, int], lattice: ReceptiveGrid | None = None
) -> FloatArray:
    """(h, w) -> `size_hw`, bilinear between cell centres; without a lattice as `align_corners=False` does."""
    down, across = _weights([(np.arange(n) + 0.5) / n for n in size_hw], grid.shape, lattice)
    return np.asarray(down @ grid.astype(np.float64) @ across.T, np.float64)


def linear_weights(places: FloatArray, count: int) -> FloatArray:
    """(n, count): how much of each of `count` even cells a place in [0, 1] takes, linear between centres.

    Example:
        >>> linear_weights(np.array([0.0, 0.5, 0.75]), 2).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    return _between(places * count - 0.5, count)


def _weights(
    places: Sequence[FloatArray], cells_hw: tuple[int, ...], lattice: ReceptiveGrid | None
) -> list[FloatArray]:
    """By axis, how much of each cell each place takes."""
    there = lattice or ReceptiveGrid.even(cells_hw)
    return [
        _between((places[axis] - there.start_yx[axis]) / there.stride_yx[axis], cells_hw[axis])
        for axis in (0, 1)
    ]


def _between(at: FloatArray, count: int) -> FloatArray:
    """(n, count): the two cells around each place, given in cells, linearly."""
    at, places = np.clip(at, 0, count - 1), at
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    weights = np.zeros((len(places), count))
    rows = np.arange(len(places))
    weights[rows, low] = 1 - (at - low)
    if count > 1:
        weights[rows, low + 1] = at - low
    return weights


def _positions(count: int, scale: float, offset: float, extent: int) -> FloatArray:
    """Where each pixel's centre of the image lies in the input, as a share of its extent."""
    return ((np.arange(count) + 0.5) * scale + offset) / extent
