"""`Tiling`: how to cut an image that is much larger than the network's input."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from blemish.arrays import IntArray
from blemish.errors import BadInput

MIN_SIZE = 16  # pixels


@dataclass(frozen=True)
class Tiling:
    """The size of tiles and their overlap.

    Attributes:
        size: side of a square tile in image pixels.
        overlap: of neighboring tiles, as a fraction of `size`; should be at least the size of an object.
        whole: whether inference also runs on the whole image, for objects larger than a tile.

    Raises:
        BadInput: a size below 16 pixels, or an overlap outside [0, 0.9].
    """

    size: int
    overlap: float = 0.25
    whole: bool = True

    def __post_init__(self) -> None:
        if self.size < MIN_SIZE:
            raise BadInput(
                f"tile size: expected {MIN_SIZE} pixels or more, got {self.size}", reason="tile-size"
            )
        if not 0 <= self.overlap <= 0.9:
            raise BadInput(f"tile overlap: expected 0 to 0.9, got {self.overlap:g}", reason="tile-overlap")

    def regions(self, size_hw: tuple[int, int]) -> IntArray:
        """Return (n, 4) int64 xyxy: the tiles of an image, row by row, evenly spread, which cover it.

        Args:
            size_hw: size of the image in pixels.

        Example:
            >>> Tiling(size=60, overlap=0.25).regions((50, 100)).tolist()
            [[0, 0, 60, 50], [40, 0, 100, 50]]
        """
        height, width = size_hw
        rows, columns = self._starts(height), self._starts(width)
        return np.array(
            [
                [x, y, min(x + self.size, width), min(y + self.size, height)]
                for y, x in itertools.product(rows, columns)
            ],
            np.int64,
        )

    def regions_with_whole(self, size_hw: tuple[int, int]) -> IntArray:
        """Return (n, 4) int64 xyxy: `regions`, and the whole image last if `whole` and several tiles."""
        regions = self.regions(size_hw)
        if self.whole and len(regions) > 1:
            regions = np.concatenate([regions, [[0, 0, size_hw[1], size_hw[0]]]])
        return regions

    def _starts(self, length: int) -> list[int]:
        """Return the first pixel of each tile along one axis."""
        if length <= self.size:
            return [0]
        step = max(self.size * (1 - self.overlap), 1)
        count = int(np.ceil((length - self.size) / step)) + 1
        return [round(i * (length - self.size) / (count - 1)) for i in range(count)]
