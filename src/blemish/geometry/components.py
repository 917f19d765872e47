"""Divide a mask into its connected regions."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import IntArray, Mask
from blemish.geometry.masks import union_of_intervals

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def connected_components(mask: ArrayLike) -> list[Mask]:
    """Return the regions of pixels that touch, also at corners, in the order of their first pixels.

    Args:
        mask: (h, w) bool.

    Returns:
        One mask per region, each of the size of the image; the order is by column, then by row.

    Source:
        Run-based labeling with a union-find structure, as in He, Chao and Suzuki 2008, "A Run-Based Two-Scan
        Labeling Algorithm"; equals scipy.ndimage.label with a 3 x 3 structure of ones.

    Example:
        >>> regions = connected_components([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
        >>> [region.area for region in regions]
        [2, 1]
    """
    array = np.asarray(mask, bool)
    height, width = array.shape
    padded = np.zeros((width, height + 2), np.int8)
    padded[:, 1:-1] = array.T
    steps = np.diff(padded, axis=1)
    column, first = np.nonzero(steps == 1)
    last = np.nonzero(steps == -1)[1]
    starts: IntArray = (column * height + first).astype(np.int64)
    stops: IntArray = (column * height + last).astype(np.int64)
    roots = _joined(starts, stops, column.astype(np.int64), height)
    order = np.argsort(roots, kind="stable")
    limits = np.flatnonzero(np.diff(roots[order], prepend=-1, append=len(roots)))
    return [
        union_of_intervals(starts[rows], stops[rows], (height, width))
        for rows in (order[a:b] for a, b in pairwise(limits.tolist()))
    ]


def _joined(starts: IntArray, stops: IntArray, column: IntArray, height: int) -> IntArray:
    """Return for each run the first run of its region, (n,) int64.

    Args:
        starts: (n,) int64, first pixel of each run in column-major order, ascending.
        stops: (n,) int64, one past the last pixel of each run.
        column: (n,) int64, the column of each run.
        height: height of the image.
    """
    # Runs of the next column that touch a run, the shifted run included with its two corners.
    low = np.searchsorted(stops, starts + height, "left")
    high = np.searchsorted(starts, stops + height, "right")
    counts = np.maximum(high - low, 0)
    left = np.repeat(np.arange(starts.size), counts)
    right = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    touching = column[right] == column[left] + 1
    parent = list(range(starts.size))

    def root_of(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    for one, other in zip(left[touching].tolist(), right[touching].tolist(), strict=True):
        a, b = root_of(one), root_of(other)
        if a != b:
            parent[max(a, b)] = min(a, b)
    return np.array([root_of(run) for run in range(starts.size)], np.int64)
