"""Maps between three frames: the photograph, the network's input, and coarse grids over either."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.preprocessing import Placement
from blemish.vocabulary import FloatArray


def to_photograph(grid: NDArray[np.floating], placement: Placement) -> NDArray[np.float32]:
    """A map over the network's input, as the photograph sees it.

    Args:
        grid: (h, w), its cells covering the network's input evenly, such as a feature map.
        placement: where the photograph lies in that input.

    Returns:
        (H, W) float32 of the photograph's size, bilinear between the cells' centres; 0 where the network
        did not look, such as outside a centre crop.
    """
    height, width = placement.size_hw
    rows = _positions(height, placement.scale_xy[1], placement.offset_xy[1], placement.input_hw[0])
    columns = _positions(width, placement.scale_xy[0], placement.offset_xy[0], placement.input_hw[1])
    down, across = linear_weights(rows, grid.shape[0]), linear_weights(columns, grid.shape[1])
    down[(rows < 0) | (rows > 1)] = 0
    across[(columns < 0) | (columns > 1)] = 0
    return (down @ grid.astype(np.float64) @ across.T).astype(np.float32)


def to_network(grids: NDArray[np.floating], placement: Placement, *, outside: float = 1.0) -> FloatArray:
    """Maps over the photograph, as the network's input sees them.

    Args:
        grids: (n, h, w), their cells covering the photograph evenly.
        placement: where the photograph lies in the input.
        outside: the value of the input's border, where no photograph is.

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


def resample(grid: NDArray[np.floating], size_hw: tuple[int, int]) -> FloatArray:
    """(h, w) -> `size_hw`, bilinear between cell centres, as `align_corners=False` does."""
    down, across = (
        linear_weights((np.arange(n) + 0.5) / n, m) for n, m in zip(size_hw, grid.shape, strict=True)
    )
    return np.asarray(down @ grid.astype(np.float64) @ across.T, np.float64)


def linear_weights(places: FloatArray, count: int) -> FloatArray:
    """(n, count): how much of each of `count` even cells a place in [0, 1] takes, linear between centres.

    Example:
        >>> linear_weights(np.array([0.0, 0.5, 0.75]), 2).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    at = np.clip(places * count - 0.5, 0, count - 1)
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    weights = np.zeros((len(places), count))
    rows = np.arange(len(places))
    weights[rows, low] = 1 - (at - low)
    if count > 1:
        weights[rows, low + 1] = at - low
    return weights


def _positions(count: int, scale: float, offset: float, extent: int) -> FloatArray:
    """Where each pixel's centre of the photograph lies in the input, as a share of its extent."""
    return ((np.arange(count) + 0.5) * scale + offset) / extent
