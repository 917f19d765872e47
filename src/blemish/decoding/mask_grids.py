"""Masks from coarse grids, computed only inside their box."""

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
    """The pixels of a box, by their centres, where a grid laid over the image is above a threshold.

    Between the centres of its cells the grid is interpolated bilinearly, beyond the outermost it goes on.

    Args:
        grid: (h, w) float32, one value a cell.
        scale_xy: grid = image * scale + offset, in cells.
        offset_xy: likewise.
        box_xyxy: (4,) pixels of the image, inside it.
        size_hw: of the image.
        threshold: pixels above it belong to the mask.
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


def over_input(
    grid: NDArray[Any],
    box_xyxy: FloatArray,
    placement: Placement,
    threshold: float = 0.0,
    weights: NDArray[Any] | None = None,
) -> Mask:
    """The mask of a box from a grid that covers the network's whole input.

    Args:
        grid: (h, w); with `weights`, (k, h, w) prototypes, which are summed only under the box.
        box_xyxy: (4,) pixels of the image, inside it.
        placement: of the image.
        threshold: pixels above it belong to the mask.
        weights: (k,).
    """
    cells = grid.shape[:-3:-1]  # w, h
    scales, offsets, window = [], [], []
    for axis in (0, 1):
        share = cells[axis] / placement.input_hw[1 - axis]
        scale, offset = placement.scale_xy[axis] * share, placement.offset_xy[axis] * share
        around = 2 + math.ceil(scale)  # cells beyond the box that its edge is interpolated from
        first = max(math.floor(box_xyxy[axis] * scale + offset) - around, 0)
        last = min(math.ceil(box_xyxy[axis + 2] * scale + offset) + around, cells[axis])
        scales.append(scale)
        offsets.append(offset - first)
        window.append(slice(first, max(last, first + 1)))
    part = grid[..., window[1], window[0]].astype(np.float32, copy=False)
    if weights is not None:
        part = np.tensordot(weights.astype(np.float32, copy=False), part, 1)
    size_hw = placement.size_hw
    return mask_in_box(part, (scales[0], scales[1]), (offsets[0], offsets[1]), box_xyxy, size_hw, threshold)


def over_box(
    grid: NDArray[Any],
    whole_xyxy: FloatArray,
    box_xyxy: FloatArray,
    size_hw: tuple[int, int],
    threshold: float = 0.5,
) -> Mask:
    """The mask of a box from a grid that covers the box, zero outside it.

    Args:
        grid: (h, w) float, probabilities.
        whole_xyxy: (4,) the box that the grid covers, pixels of the image; it may leave it.
        box_xyxy: (4,) the part of it inside the image.
        size_hw: of the image.
        threshold: pixels above it belong to the mask.

    Source:
        Mask R-CNN's paste, by pixel centres: detectron2's `paste_masks_in_image`.
    """
    width, height = whole_xyxy[2] - whole_xyxy[0], whole_xyxy[3] - whole_xyxy[1]
    if width <= 0 or height <= 0:
        return paste_window(np.zeros((0, 0), bool), (0, 0), size_hw)
    scale = (grid.shape[1] / width, grid.shape[0] / height)
    offset = (1.0 - whole_xyxy[0] * scale[0], 1.0 - whole_xyxy[1] * scale[1])
    # A ring of zeros, so that the mask fades out towards the box's edge.
    return mask_in_box(np.pad(grid, 1), scale, offset, box_xyxy, size_hw, threshold)


def _span(low: float, high: float, scale: float, offset: float, cells: int) -> tuple[int, int]:
    """First and past-the-last pixel whose centre lies in [low, high) and over the grid."""
    first = max(low, -offset / scale)
    last = min(high, (cells - offset) / scale)
    return math.ceil(first - 0.5), math.ceil(last - 0.5)
