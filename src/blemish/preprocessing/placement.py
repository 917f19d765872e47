"""`Placement`: the affine map between image coordinates and network coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray


@dataclass(frozen=True)
class Placement:
    """The position of an image in a network's input: network = image * scale + offset.

    Attributes:
        size_hw: size of the upright image in pixels.
        input_hw: size of the network's input in pixels.
        scale_xy: network pixels per image pixel, along x and y.
        offset_xy: network pixels; negative if a crop removed pixels at the left or top, positive for padding.

    Example:
        >>> half = Placement((100, 200), (64, 64), (0.32, 0.32), (0.0, 16.0))
        >>> half.to_network(np.array([[0, 0, 200, 100]])).tolist()
        [[0.0, 16.0, 64.0, 48.0]]
    """

    size_hw: tuple[int, int]
    input_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def to_network(self, boxes_xyxy: NDArray[Any]) -> FloatArray:
        """Return (n, 4) float64 boxes in network pixels, without clipping.

        Args:
            boxes_xyxy: (n, 4), image pixels.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return boxes * (self.scale_xy * 2) + (self.offset_xy * 2)

    def to_image(self, boxes_xyxy: NDArray[Any]) -> FloatArray:
        """Return (n, 4) float64 boxes in image pixels, without clipping.

        Args:
            boxes_xyxy: (n, 4), network pixels.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return (boxes - (self.offset_xy * 2)) / (self.scale_xy * 2)
