"""Array types shared by every package, and the run-length mask."""

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
    """A region of an image, as run lengths inside its bounding window.

    Attributes:
        size_hw: height and width of the image.
        counts: (n,) int64 run lengths over the whole image in column-major order, the first run
            being background: COCO's uncompressed RLE. They add up to height x width.

    Raises:
        BadInput: the runs are negative or do not add up.
    """

    size_hw: tuple[int, int]
    counts: IntArray

    def __post_init__(self) -> None:
        counts = np.ascontiguousarray(self.counts, np.int64)
        height, width = self.size_hw
        if (counts < 0).any() or counts.sum() != height * width:
            raise BadInput(f"a mask's runs add up to {counts.sum()}, not to {height} x {width}")
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.counts[1::2].sum())
