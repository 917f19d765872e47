"""Array type aliases and the run-length mask; every package may import them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Mask:
    """A region of an image, stored as run lengths.

    Attributes:
        size_hw: height and width of the image, in pixels.
        counts: (n,) int64, >= 0, in pixels: alternating lengths of background and mask runs over the whole
            image in column-major order, the first run being background (COCO's uncompressed RLE). Their sum
            is height x width. Read-only.

    Raises:
        BadInput: a run is negative, or the sum of the runs is not height x width.

    Example:
        >>> Mask((2, 3), np.array([2, 3, 1])).area
        3
    """

    size_hw: tuple[int, int]
    counts: IntArray

    def __post_init__(self) -> None:
        counts = np.ascontiguousarray(self.counts, np.int64)
        height, width = self.size_hw
        if (counts < 0).any() or counts.sum() != height * width:
            raise BadInput(
                f"run lengths of a mask: expected non-negative numbers that add up to {height} x {width}, "
                f"got a sum of {counts.sum()} and a minimum of {counts.min(initial=0)}",
                reason="run-lengths",
            )
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(self.counts[1::2].sum())
