"""Masks as run lengths: made, read, measured and compared without arrays of the image's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.errors import BadInput


def mask_from_array(array: ArrayLike) -> Mask:
    """The region where `array` is true.

    Args:
        array: (h, w) bool or numbers, of the whole image.

    Source:
        Equals pycocotools.mask.encode.

    Example:
        >>> mask_from_array([[0, 1], [1, 1]]).counts.tolist()
        [1, 3]
    """
    full = np.asarray(array)
    if full.ndim != 2:
        raise BadInput(f"a mask has shape {full.shape}, not (h, w)")
    return paste_window(full, (0, 0), (int(full.shape[0]), int(full.shape[1])))


def mask_to_array(mask: Mask) -> BoolArray:
    """(h, w) bool of the whole image; for one mask at a time, they are large."""
    height, width = mask.size_hw
    values = np.zeros(mask.counts.size, bool)
    values[1::2] = True
    return np.repeat(values, mask.counts).reshape(width, height).T


def paste_window(window: ArrayLike, corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> Mask:
    """A mask that is known inside a window only; what lies outside the image is cut off.

    Args:
        window: (h, w) bool or numbers.
        corner_xy: where the window's first pixel lies in the image, pixels; may be negative.
        size_hw: height and width of the image.
    """
    (x, y), (height, width) = corner_xy, size_hw
    inside = np.asarray(window)[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
    x, y = max(x, 0), max(y, 0)
    padded = np.zeros((inside.shape[1], inside.shape[0] + 2), np.int8)  # (w, h + 2): columns lie together
    padded[:, 1:-1] = inside.T != 0
    column, row = np.nonzero(np.diff(padded, axis=1))
    # Starts and ends alternate, as in every column they come in pairs.
    return mask_from_edges((column + x) * height + row + y, size_hw)


def crop_window(mask: Mask) -> tuple[BoolArray, tuple[int, int]]:
    """The smallest window that holds a mask, and where it lies; `paste_window` is the way back.

    Returns:
        (h, w) bool, and x and y of its first pixel in the image. (0, 0) bool for an empty mask.
    """
    x1, y1, x2, y2 = (int(v) for v in mask_box(mask))
    if x1 == x2:
        return np.zeros((0, 0), bool), (0, 0)
    height = mask.size_hw[0]
    ends = np.cumsum(mask.counts)
    starts, stops = ends[:-1:2] - x1 * height, ends[1::2] - x1 * height
    changes = np.zeros((x2 - x1) * height + 1, np.int8)
    changes[starts[starts < stops]] += 1
    changes[stops[starts < stops]] -= 1
    columns = np.cumsum(changes[:-1], dtype=np.int8).reshape(x2 - x1, height)
    return columns[:, y1:y2].T.astype(bool), (x1, y1)


def mask_box(mask: Mask) -> FloatArray:
    """(4,) float64 xyxy pixels, the smallest box that holds a mask; zeros for an empty one.

    Example:
        >>> mask_box(mask_from_array([[0, 0, 0], [0, 1, 1]])).tolist()
        [1.0, 1.0, 3.0, 2.0]
    """
    starts, stops = _intervals(mask)
    if not starts.size:
        return np.zeros(4)
    height = mask.size_hw[0]
    last = stops - 1
    x1, x2 = starts[0] // height, last[-1] // height + 1
    if (starts // height != last // height).any():  # a run that goes round a corner touches both borders
        y1, y2 = 0, height
    else:
        y1, y2 = (starts % height).min(), (last % height).max() + 1
    return np.array([x1, y1, x2, y2], np.float64)


def mask_iou(first: Sequence[Mask], second: Sequence[Mask], crowd: ArrayLike | None = None) -> FloatArray:
    """Overlap of every mask of `first` with every mask of `second`, on the runs themselves.

    Args:
        first: n masks of one image; the predictions, where `crowd` is given.
        second: m masks of the same image.
        crowd: (m,) bool; for those of `second` the overlap is divided by the area of `first` alone.

    Returns:
        (n, m) float64 in [0, 1]; 0 where both masks are empty.

    Raises:
        BadInput: masks of different image sizes.

    Source:
        Equals pycocotools.mask.iou.
    """
    n, m = len(first), len(second)
    if len({mask.size_hw for mask in (*first, *second)}) > 1:
        raise BadInput("masks of images of different sizes cannot be compared")
    if not n or not m:
        return np.zeros((n, m))
    areas_a = np.array([mask.area for mask in first], np.float64)
    areas_b = np.array([mask.area for mask in second], np.float64)
    union = areas_a[:, None] + areas_b[None, :]
    shared = _intersections(first, second)
    is_crowd = np.zeros(m, bool) if crowd is None else np.asarray(crowd, bool)
    union = np.where(is_crowd[None, :], areas_a[:, None], union - shared)
    return np.divide(shared, union, out=np.zeros((n, m)), where=union > 0)


def rle_to_text(mask: Mask) -> str:
    """COCO's compressed run lengths.

    Source:
        rleToString of COCO's maskApi.c.

    Example:
        >>> rle_to_text(mask_from_array([[0, 1], [1, 1]]))
        '13'
    """
    values = mask.counts.copy()
    values[3:] -= mask.counts[1:-2]
    rest = values
    digits, more = [], []
    unfinished = np.ones(values.size, bool)
    while unfinished.any():
        digit = rest & 0x1F
        rest = rest >> 5
        goes_on = unfinished & np.where(digit & 0x10, rest != -1, rest != 0)
        digits.append(np.where(unfinished, digit | goes_on * 0x20, -1) + 48)
        more.append(unfinished)
        unfinished = goes_on
    # (n, digits), least significant digit first; only those that are needed
    letters = np.stack(digits, 1)[np.stack(more, 1)]
    return str(letters.astype(np.uint8).tobytes(), "ascii")


def rle_from_text(text: str | bytes, size_hw: tuple[int, int]) -> Mask:
    """The mask that COCO's compressed run lengths stand for.

    Args:
        text: as `rle_to_text` gives it.
        size_hw: height and width of the image.

    Raises:
        BadInput: letters that do not occur in it, an unfinished number, or runs that do not add up.
    """
    raw = text.encode("utf-8") if isinstance(text, str) else bytes(text)
    letters = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if letters.size == 0 or letters.min() < 0 or letters.max() > 63 or letters[-1] & 0x20:
        raise BadInput("compressed run lengths are empty, cut short or hold letters that do not belong there")
    last = np.flatnonzero((letters & 0x20) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(letters.size) - np.repeat(first, last - first + 1)
    if place.max() > 11:  # 12 digits of 5 bits: more than any image
        raise BadInput("compressed run lengths hold a number that is too large")
    values = np.add.reduceat((letters & 0x1F) << (5 * place), first)
    values -= np.where(letters[last] & 0x10, np.int64(1) << (5 * (place[last] + 1)), 0)
    counts = values.copy()
    counts[1::2] = np.cumsum(values[1::2])
    counts[2::2] = np.cumsum(values[2::2])
    return Mask(size_hw, counts)


def union_of_intervals(starts: IntArray, stops: IntArray, size_hw: tuple[int, int]) -> Mask:
    """The mask of pixels that at least one interval covers.

    Args:
        starts: (n,) int64 positions in column-major order.
        stops: (n,) int64, one past the last pixel of each.
        size_hw: height and width of the image.
    """
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], np.maximum.accumulate(stops[order])
    begins = np.ones(starts.size, bool)
    begins[1:] = starts[1:] > stops[:-1]
    ends = np.ones(starts.size, bool)
    ends[:-1] = begins[1:]
    edges = np.empty(2 * int(begins.sum()), np.int64)
    edges[::2], edges[1::2] = starts[begins], stops[ends]
    return mask_from_edges(edges, size_hw)


def mask_from_edges(edges: NDArray[Any], size_hw: tuple[int, int]) -> Mask:
    """The mask that begins, ends, begins, ... at some positions; touching pieces become one.

    Args:
        edges: (2n,) int64 ascending positions in column-major order.
        size_hw: height and width of the image.
    """
    touching = edges[1:-1:2] == edges[2::2]
    if touching.any():
        kept = np.ones(edges.size, bool)
        kept[1:-1:2] = kept[2::2] = ~touching
        edges = edges[kept]
    total = size_hw[0] * size_hw[1]
    counts = np.diff(edges, prepend=0, append=total)
    return Mask(size_hw, counts[:-1] if edges.size and edges[-1] == total else counts)


def _intervals(mask: Mask) -> tuple[IntArray, IntArray]:
    """Starts and stops of the runs that belong to the mask and are not empty."""
    ends = np.cumsum(mask.counts)
    starts, stops = ends[:-1:2], ends[1::2]
    kept = stops > starts
    return (starts, stops) if kept.all() else (starts[kept], stops[kept])


def _intersections(first: Sequence[Mask], second: Sequence[Mask]) -> FloatArray:
    """(n, m) pixels that each pair shares."""
    intervals = [_intervals(mask) for mask in second]
    boxes_b = np.array([mask_box(mask) for mask in second])
    out = np.zeros((len(first), len(second)))
    for row, mask in enumerate(first):
        box = mask_box(mask)
        low, high = np.maximum(box[:2], boxes_b[:, :2]), np.minimum(box[2:], boxes_b[:, 2:])
        near = np.flatnonzero((low < high).all(1))
        if not near.size:
            continue
        # How many pixels of `mask` lie before each position: straight lines between its runs' ends, so
        # that interpolation is exact.
        edges = np.concatenate([[0], np.cumsum(mask.counts)])
        inside = mask.counts.copy()
        inside[::2] = 0
        covered = np.concatenate([[0], np.cumsum(inside)])
        starts = np.concatenate([intervals[j][0] for j in near])
        stops = np.concatenate([intervals[j][1] for j in near])
        owner = np.repeat(np.arange(near.size), [intervals[j][0].size for j in near])
        shared = np.interp(stops, edges, covered) - np.interp(starts, edges, covered)
        out[row, near] = np.bincount(owner, shared, near.size)
    return out
