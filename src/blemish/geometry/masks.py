"""Create, read, measure and compare run-length masks without arrays of the size of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def mask_from_array(array: ArrayLike) -> Mask:
    """Return the mask of the pixels where `array` is not zero.

    Args:
        array: (h, w) bool or numbers, one value per pixel of the image.

    Raises:
        BadInput: the array is not two-dimensional.

    Source:
        Equals pycocotools.mask.encode.

    Example:
        >>> mask_from_array([[0, 1], [1, 1]]).counts.tolist()
        [1, 3]
    """
    full = np.asarray(array)
    if full.ndim != 2:
        raise BadInput(f"mask: expected an array of shape (h, w), got {full.shape}", reason="mask-shape")
    return paste_window(full, (0, 0), (int(full.shape[0]), int(full.shape[1])))


def mask_to_array(mask: Mask) -> BoolArray:
    """Return the mask as an (h, w) bool array of the whole image; such arrays are large."""
    height, width = mask.size_hw
    values = np.zeros(mask.counts.size, bool)
    values[1::2] = True
    return np.repeat(values, mask.counts).reshape(width, height).T


def paste_window(window: ArrayLike, corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> Mask:
    """Return the mask of an image that is background outside of a window.

    Args:
        window: (h, w) bool or numbers; not zero where the mask is. Parts outside the image are ignored.
        corner_xy: column and row of the window's first pixel in the image; may be negative.
        size_hw: height and width of the image, in pixels.

    Example:
        >>> paste_window([[1, 1], [1, 1]], (-1, 1), (3, 2)).counts.tolist()
        [1, 2, 3]
    """
    (x, y), (height, width) = corner_xy, size_hw
    inside = np.asarray(window)[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
    x, y = max(x, 0), max(y, 0)
    # Columns are contiguous, with a background pixel after each one and before the first: then every pixel
    # that differs from the one before it is a start or a stop, and these alternate.
    stride = inside.shape[0] + 1
    values = np.zeros(inside.shape[1] * stride + 1, bool)
    values[1:].reshape(-1, stride)[:, :-1] = inside.T if inside.dtype == np.bool_ else inside.T != 0
    column, row = np.divmod(np.flatnonzero(values[1:] != values[:-1]), stride)
    return mask_from_edges((column + x) * height + row + y, size_hw)


def crop_window(mask: Mask) -> tuple[BoolArray, tuple[int, int]]:
    """Return the smallest window that contains a mask, and its position; `paste_window` is the inverse.

    Returns:
        window: (h, w) bool; (0, 0) for an empty mask.
        corner_xy: column and row of the window's first pixel in the image.
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
    """Return the smallest box that contains a mask.

    Returns:
        (4,) float64, x1 y1 x2 y2 in pixels; zeros for an empty mask.

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
    if (
        starts // height != last // height
    ).any():  # a run over several columns touches the top and the bottom
        y1, y2 = 0, height
    else:
        y1, y2 = (starts % height).min(), (last % height).max() + 1
    return np.array([x1, y1, x2, y2], np.float64)


def mask_iou(masks_a: Sequence[Mask], masks_b: Sequence[Mask], crowd: ArrayLike | None = None) -> FloatArray:
    """Return the intersection over union of every mask in `masks_a` with every mask in `masks_b`.

    Args:
        masks_a: n masks of one image; the predictions if `crowd` is given.
        masks_b: m masks of the same image; the ground truth if `crowd` is given.
        crowd: (m,) bool; the intersection with a crowd mask is divided by the area of the mask of `masks_a`,
            not by the union. Default: no mask is a crowd.

    Returns:
        (n, m) float64 in [0, 1]; 0 where both masks are empty.

    Raises:
        BadInput: the masks belong to images of different sizes.

    Source:
        Equals pycocotools.mask.iou.
    """
    n, m = len(masks_a), len(masks_b)
    sizes = {mask.size_hw for mask in (*masks_a, *masks_b)}
    if len(sizes) > 1:
        raise BadInput(f"masks: expected masks of one image size, got {sorted(sizes)}", reason="mask-size")
    if not n or not m:
        return np.zeros((n, m))
    areas_a = np.array([mask.area for mask in masks_a], np.float64)
    areas_b = np.array([mask.area for mask in masks_b], np.float64)
    union = areas_a[:, None] + areas_b[None, :]
    intersection = _intersections(masks_a, masks_b)
    is_crowd = np.zeros(m, bool) if crowd is None else np.asarray(crowd, bool)
    union = np.where(is_crowd[None, :], areas_a[:, None], union - intersection)
    return np.divide(intersection, union, out=np.zeros((n, m)), where=union > 0)


def rle_to_text(mask: Mask) -> str:
    """Return the mask as COCO's compressed run lengths.

    Source:
        rleToString of COCO's maskApi.c.

    Example:
        >>> rle_to_text(mask_from_array([[0, 1], [1, 1]]))
        '13'
    """
    values = mask.counts.copy()
    values[3:] -= mask.counts[1:-2]
    rest = values
    digits, used = [], []
    unfinished = np.ones(values.size, bool)
    while unfinished.any():
        digit = rest & 0x1F
        rest = rest >> 5
        continues = unfinished & np.where(digit & 0x10, rest != -1, rest != 0)
        digits.append(np.where(unfinished, digit | continues * 0x20, -1) + 48)
        used.append(unfinished)
        unfinished = continues
    # (n, digits), least significant digit first; without the digits that a number does not use
    letters = np.stack(digits, 1)[np.stack(used, 1)]
    return str(letters.astype(np.uint8).tobytes(), "ascii")


def rle_from_text(text: str | bytes, size_hw: tuple[int, int]) -> Mask:
    """Return the mask of COCO's compressed run lengths; the inverse of `rle_to_text`.

    Args:
        text: compressed run lengths, ASCII.
        size_hw: height and width of the image, in pixels.

    Raises:
        BadInput: the text contains an invalid character, ends inside a number, or its runs do not add up to
            height x width.
    """
    raw = text.encode("utf-8") if isinstance(text, str) else bytes(text)
    letters = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if letters.size == 0 or letters.min() < 0 or letters.max() > 63 or letters[-1] & 0x20:
        raise BadInput(
            "compressed run lengths: expected ASCII characters from '0' to 'o' that end a number, got a text "
            "that is empty, cut short or has other characters",
            reason="run-lengths",
        )
    last = np.flatnonzero((letters & 0x20) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(letters.size) - np.repeat(first, last - first + 1)
    if place.max() > 11:  # 12 digits of 5 bits are more than the pixels of any image
        raise BadInput(
            f"compressed run lengths: expected numbers of at most 12 digits, got {place.max() + 1} digits",
            reason="run-lengths",
        )
    values = np.add.reduceat((letters & 0x1F) << (5 * place), first)
    values -= np.where(letters[last] & 0x10, np.int64(1) << (5 * (place[last] + 1)), 0)
    counts = values.copy()
    counts[1::2] = np.cumsum(values[1::2])
    counts[2::2] = np.cumsum(values[2::2])
    return Mask(size_hw, counts)


def union_of_intervals(starts: IntArray, stops: IntArray, size_hw: tuple[int, int]) -> Mask:
    """Return the mask of the pixels in at least one interval.

    Args:
        starts: (n,) int64, first pixel of each interval in column-major order.
        stops: (n,) int64, one past the last pixel of each interval.
        size_hw: height and width of the image, in pixels.
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
    """Return the mask whose runs start and stop at `edges`; runs that touch are joined.

    Args:
        edges: (2n,) int64 ascending positions in column-major order: start, stop, start, stop, …
        size_hw: height and width of the image, in pixels.
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
    """Return starts and stops of the runs inside the mask, without empty runs."""
    ends = np.cumsum(mask.counts)
    starts, stops = ends[:-1:2], ends[1::2]
    kept = stops > starts
    return (starts, stops) if kept.all() else (starts[kept], stops[kept])


def _intersections(masks_a: Sequence[Mask], masks_b: Sequence[Mask]) -> FloatArray:
    """Return the number of pixels that each pair shares, (n, m) float64."""
    intervals = [_intervals(mask) for mask in masks_b]
    boxes_b = np.array([mask_box(mask) for mask in masks_b])
    out = np.zeros((len(masks_a), len(masks_b)))
    for row, mask in enumerate(masks_a):
        box = mask_box(mask)
        low, high = np.maximum(box[:2], boxes_b[:, :2]), np.minimum(box[2:], boxes_b[:, 2:])
        near = np.flatnonzero((low < high).all(1))
        if not near.size:
            continue
        # The number of pixels of `mask` before each position is linear between the ends of its runs, so
        # linear interpolation is exact.
        edges = np.concatenate([[0], np.cumsum(mask.counts)])
        inside = mask.counts.copy()
        inside[::2] = 0
        covered = np.concatenate([[0], np.cumsum(inside)])
        starts = np.concatenate([intervals[j][0] for j in near])
        stops = np.concatenate([intervals[j][1] for j in near])
        pair_index = np.repeat(np.arange(near.size), [intervals[j][0].size for j in near])
        shared = np.interp(stops, edges, covered) - np.interp(starts, edges, covered)
        out[row, near] = np.bincount(pair_index, shared, near.size)
    return out
