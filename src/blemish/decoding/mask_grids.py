"""Masks from coarse grids, computed only inside their boxes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.arrays import FloatArray, Mask
from blemish.geometry.masks import paste_window
from blemish.preprocessing import Placement


def mask_in_box(
    grid: NDArray[Any],
    scale_xy: tuple[float, float],
    offset_xy: tuple[float, float],
    box_xyxy: FloatArray,
    size_hw: tuple[int, int],
    threshold: float,
) -> Mask:
    """Return the pixels of a box at whose centers a grid over the image exceeds a threshold.

    The grid is interpolated bilinearly between the centers of its cells, and is constant beyond the
    outermost centers.

    Args:
        grid: (h, w) float32, one value per cell.
        scale_xy: cells per image pixel: grid = image * scale + offset.
        offset_xy: in cells.
        box_xyxy: (4,) image pixels, inside the image.
        size_hw: size of the image in pixels.
        threshold: pixels with a higher value belong to the mask.
    """
    (left, right), (top, bottom) = (
        _span(box_xyxy[axis], box_xyxy[axis + 2], scale_xy[axis], offset_xy[axis], grid.shape[1 - axis])
        for axis in (0, 1)
    )
    if right <= left or bottom <= top:
        return paste_window(np.zeros((0, 0), bool), (0, 0), size_hw)
    part = (
        max(left * scale_xy[0] + offset_xy[0], 0.0),
        max(top * scale_xy[1] + offset_xy[1], 0.0),
        min(right * scale_xy[0] + offset_xy[0], float(grid.shape[1])),
        min(bottom * scale_xy[1] + offset_xy[1], float(grid.shape[0])),
    )
    image = Image.fromarray(np.ascontiguousarray(grid, np.float32))
    values = image.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=part)
    return paste_window(np.asarray(values) > threshold, (left, top), size_hw)


def mask_over_input(
    grid: NDArray[Any],
    box_xyxy: FloatArray,
    placement: Placement,
    threshold: float = 0.0,
    weights: NDArray[Any] | None = None,
) -> Mask:
    """Return the mask of a box from a grid that covers the network's whole input.

    Args:
        grid: (h, w); with `weights`, (k, h, w) prototypes, which are summed only inside the box.
        box_xyxy: (4,) image pixels, inside the image.
        placement: the image's position in the network's input.
        threshold: pixels with a higher value belong to the mask.
        weights: (k,) coefficients of the prototypes.
    """
    cells = grid.shape[:-3:-1]  # w, h
    scales, offsets, window = [], [], []
    for axis in (0, 1):
        cells_per_pixel = cells[axis] / placement.input_hw[1 - axis]
        scale, offset = (
            placement.scale_xy[axis] * cells_per_pixel,
            placement.offset_xy[axis] * cells_per_pixel,
        )
        margin = 2 + math.ceil(scale)  # cells beyond the box from which its edge is interpolated
        first = max(math.floor(box_xyxy[axis] * scale + offset) - margin, 0)
        last = min(math.ceil(box_xyxy[axis + 2] * scale + offset) + margin, cells[axis])
        scales.append(scale)
        offsets.append(offset - first)
        window.append(slice(first, max(last, first + 1)))
    part = grid[..., window[1], window[0]].astype(np.float32, copy=False)
    if weights is not None:
        part = np.tensordot(weights.astype(np.float32, copy=False), part, 1)
    size_hw = placement.size_hw
    return mask_in_box(part, (scales[0], scales[1]), (offsets[0], offsets[1]), box_xyxy, size_hw, threshold)


def mask_over_box(
    grid: NDArray[Any],
    whole_xyxy: FloatArray,
    box_xyxy: FloatArray,
    size_hw: tuple[int, int],
    threshold: float = 0.5,
) -> Mask:
    """Return the mask of a box from a grid that covers the box and is zero outside it.

    Args:
        grid: (h, w) float probabilities.
        whole_xyxy: (4,) the box that the grid covers, in image pixels; it may leave the image.
        box_xyxy: (4,) its part inside the image.
        size_hw: size of the image in pixels.
        threshold: pixels with a higher value belong to the mask.

    Source:
        The mask pasting of Mask R-CNN at pixel centers: detectron2's `paste_masks_in_image`.
    """
    width, height = whole_xyxy[2] - whole_xyxy[0], whole_xyxy[3] - whole_xyxy[1]
    if width <= 0 or height <= 0:
        return paste_window(np.zeros((0, 0), bool), (0, 0), size_hw)
    scale = (grid.shape[1] / width, grid.shape[0] / height)
    offset = (1.0 - whole_xyxy[0] * scale[0], 1.0 - whole_xyxy[1] * scale[1])
    # A ring of zeros, so that the mask fades out toward the edge of the box.
    return mask_in_box(np.pad(grid, 1), scale, offset, box_xyxy, size_hw, threshold)


def _span(low: float, high: float, scale: float, offset: float, cells: int) -> tuple[int, int]:
    """Return the first pixel, and the one after the last, whose center is in [low, high) and on the grid."""
    first = max(low, -offset / scale)
    last = min(high, (cells - offset) / scale)
    return math.ceil(first - 0.5), math.ceil(last - 0.5)
