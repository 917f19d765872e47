"""Intersection over union of detections and ground truth, for all images at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.metrics.object_arrays import ObjectArrays, pick

# Chunks of this size keep their arrays in the processor's cache.
CHUNK_PAIRS = 200_000
CHUNK_RUNS = 200_000
COUNTS, SIZE_HW = attrgetter("counts"), attrgetter("size_hw")


@dataclass(frozen=True, eq=False)
class OverlapPairs:
    """Pairs of a detection and a ground truth that overlap.

    Attributes:
        detection: (p,) int64 rows of the detections, ascending.
        ground_truth: (p,) int64 rows of the ground truths.
        iou: (p,) float64 in (0, 1]; for a crowd, the share of the detection inside it.
    """

    detection: IntArray
    ground_truth: IntArray
    iou: FloatArray


def overlapping_pairs(
    detections: ObjectArrays, ground_truths: ObjectArrays, *, min_iou: float, across_labels: bool = False
) -> OverlapPairs:
    """Return every pair of a detection and a ground truth of one image whose IoU is at least `min_iou`.

    Args:
        detections: of all images, with masks if masks are compared.
        ground_truths: of the same images, with masks if masks are compared.
        min_iou: the smallest IoU; pairs without any overlap are always left out.
        across_labels: whether objects of different labels are compared too.

    Source:
        pycocotools.mask.iou, for boxes and for masks.
    """
    labels = 1 if across_labels else max(detections.label_count, 1)
    keys = [o.image * labels + (0 if across_labels else o.label) for o in (detections, ground_truths)]
    order = np.argsort(keys[1], kind="stable")
    sorted_keys = keys[1][order]
    first = np.searchsorted(sorted_keys, keys[0], side="left")
    count = np.searchsorted(sorted_keys, keys[0], side="right") - first
    parts = []
    for rows in _chunks(detections, ground_truths, count):
        per_row = count[rows]
        a = np.repeat(rows, per_row)
        starts = np.cumsum(per_row) - per_row
        b = order[np.arange(len(a)) - np.repeat(starts - first[rows], per_row)]
        compare = _box_iou if detections.masks is None else _mask_iou
        iou = compare(detections, ground_truths, a, b, min_iou)
        kept = (iou >= min_iou) & (iou > 0)
        parts.append((a[kept], b[kept], iou[kept]))
    if not parts:
        none = np.zeros(0, np.int64)
        return OverlapPairs(none, none, np.zeros(0))
    joined = [np.concatenate([p[i] for p in parts]) for i in range(3)]
    return OverlapPairs(joined[0], joined[1], joined[2])


def _chunks(detections: ObjectArrays, ground_truths: ObjectArrays, count: IntArray) -> Iterator[IntArray]:
    """Yield the rows of the detections in chunks of whole images that limit the use of memory."""
    if not len(detections):
        return
    ends = np.searchsorted(detections.image, np.arange(detections.images), side="right")
    load = np.concatenate([[0], np.cumsum(count)])[ends] / CHUNK_PAIRS
    if detections.masks is not None and ground_truths.masks is not None:
        for objects, masks in ((detections, detections.masks), (ground_truths, ground_truths.masks)):
            sizes = np.fromiter(map(len, map(COUNTS, masks)), np.int64, len(masks))
            runs = np.bincount(objects.image, sizes, detections.images)
            load = load + np.cumsum(runs) / CHUNK_RUNS
    # An image belongs to the chunk in which its load ends.
    borders = np.flatnonzero(np.diff(np.floor(load))) + 1
    for low, high in pairwise([0, *borders.tolist(), detections.images]):
        start, stop = (0 if low == 0 else ends[low - 1]), ends[high - 1]
        if stop > start:
            yield np.arange(start, stop)


def _box_iou(
    detections: ObjectArrays, ground_truths: ObjectArrays, a: IntArray, b: IntArray, min_iou: float
) -> FloatArray:
    """Return the (p,) IoU of boxes `a` of the detections with boxes `b` of the ground truths."""
    first, second = detections.boxes[a], ground_truths.boxes[b]
    shared = _shared_box(first, second)
    area = (first[:, 2] - first[:, 0]) * (first[:, 3] - first[:, 1])
    other = (second[:, 2] - second[:, 0]) * (second[:, 3] - second[:, 1])
    return _divide(shared, area, other, ground_truths.crowd[b])


def _shared_box(first: FloatArray, second: FloatArray) -> FloatArray:
    width = np.minimum(first[:, 2], second[:, 2]) - np.maximum(first[:, 0], second[:, 0])
    height = np.minimum(first[:, 3], second[:, 3]) - np.maximum(first[:, 1], second[:, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


def _divide(shared: FloatArray, area: FloatArray, other: FloatArray, crowd: NDArray[np.bool_]) -> FloatArray:
    """Divide the shared area by the union, or by the detection's area if the ground truth is a crowd."""
    whole = np.where(crowd, area, area + other - shared)
    return np.divide(shared, whole, out=np.zeros(len(shared)), where=shared > 0)


def _mask_iou(
    detections: ObjectArrays, ground_truths: ObjectArrays, a: IntArray, b: IntArray, min_iou: float
) -> FloatArray:
    """Return the (p,) IoU of masks `a` of the detections with masks `b` of the ground truths.

    An IoU that the boxes of the masks prove to be below `min_iou` is returned as 0.
    """
    assert detections.masks is not None and ground_truths.masks is not None  # noqa: S101  (the caller checks)
    if not len(a):  # this chunk has no detection and ground truth of one label
        return np.zeros(0)
    rows_a, at_a = np.unique(a, return_inverse=True)
    rows_b, at_b = np.unique(b, return_inverse=True)
    first = _Runs.of(pick(detections.masks, rows_a))
    second = _Runs.of(pick(ground_truths.masks, rows_b))
    crowd = ground_truths.crowd[b]
    # An upper bound of the shared pixels spares most pairs the comparison of their runs.
    left = np.maximum(first.left[at_a], second.left[at_b])
    right = np.minimum(first.right[at_a], second.right[at_b])
    bound = np.minimum(first.area[at_a], second.area[at_b])
    bound = np.minimum(bound, np.maximum(right - left, 0) * first.height[at_a])
    possible = _divide(bound, first.area[at_a], second.area[at_b], crowd) >= min_iou - 1e-9
    near = possible & (bound > 0)
    # Most masks have one run in each column, which are compared without a search.
    simple = near & first.is_simple[at_a] & second.is_simple[at_b]
    shared = np.zeros(len(a))
    rows = np.flatnonzero(simple)
    if len(rows):
        shared[rows] = first.columns_shared_with(second, at_a[rows], at_b[rows], left[rows], right[rows])
    rows = np.flatnonzero(near & ~simple)
    if len(rows):
        shared[rows] = first.shared_with(second, at_a[rows], at_b[rows])
    return _divide(shared, first.area[at_a], second.area[at_b], crowd)


@dataclass(frozen=True, eq=False)
class _Runs:
    """The runs of many masks, concatenated: the pixels of each mask follow those of the one before.

    Attributes:
        start: (r,) int64, the position at which each run of mask pixels starts, counted over all masks.
        stop: (r,) int64, the position after each run.
        origin: (n,) int64, the position of the first pixel of each mask.
        first: (n,) int64, the first run of each mask.
        length: (n,) int64, the number of runs of each mask.
        height: (n,) int64, the height of the image.
        area: (n,) float64, in pixels.
        left: (n,) int64, the first column with pixels of each mask; 0 for an empty mask.
        right: (n,) int64, the column after the last one; 0 for an empty mask.
        is_simple: (n,) bool, whether each column from `left` to `right` has one run, which ends in it.
        top: (r,) int64, the row of `start` if the runs of a simple mask are its columns.
    """

    start: IntArray
    stop: IntArray
    origin: IntArray
    first: IntArray
    length: IntArray
    height: IntArray
    area: FloatArray
    left: IntArray
    right: IntArray
    is_simple: NDArray[np.bool_]
    top: IntArray

    @classmethod
    def of(cls, masks: Sequence[Mask]) -> _Runs:
        """Concatenate the runs of masks."""
        arrays = list(map(COUNTS, masks))
        sizes = np.fromiter(map(len, arrays), np.int64, len(arrays))
        height, width = np.fromiter(chain.from_iterable(map(SIZE_HW, masks)), np.int64).reshape(-1, 2).T
        counts = np.concatenate(arrays)
        # Without the end of the background after the last run of each mask, starts and stops alternate.
        kept = np.ones(len(counts), bool)
        kept[(np.cumsum(sizes) - 1)[(sizes & 1).astype(bool)]] = False
        edges = np.cumsum(counts)[kept]
        start, stop = edges[::2], edges[1::2]
        length = sizes >> 1
        first = np.cumsum(length) - length
        pixels = height * width
        origin = np.cumsum(pixels) - pixels
        covered = np.concatenate([[0], np.cumsum(stop - start)])
        area = (covered[first + length] - covered[first]).astype(np.float64)
        columns = _columns(start, stop, origin, first, length, height)
        return cls(start, stop, origin, first, length, height, area, *columns)

    def columns_shared_with(
        self, other: _Runs, mine: IntArray, theirs: IntArray, left: IntArray, right: IntArray
    ) -> FloatArray:
        """Return what `shared_with` returns for pairs of simple masks.

        Args:
            other: the other masks.
            mine: (p,) rows of these masks.
            theirs: (p,) rows of the other masks.
            left: (p,) first column that both masks have.
            right: (p,) the column after the last one, > `left`.
        """
        count = right - left
        begins = np.cumsum(count) - count
        place = np.arange(int(count.sum()))
        run = place + np.repeat(self.first[mine] + left - self.left[mine] - begins, count)
        their_run = place + np.repeat(other.first[theirs] + left - other.left[theirs] - begins, count)
        top, their_top = self.top[run], other.top[their_run]
        end = top + (self.stop[run] - self.start[run])
        their_end = their_top + (other.stop[their_run] - other.start[their_run])
        rows = np.minimum(end, their_end) - np.maximum(top, their_top)
        return np.asarray(np.add.reduceat(np.maximum(rows, 0), begins), np.float64)

    def shared_with(self, other: _Runs, mine: IntArray, theirs: IntArray) -> FloatArray:
        """Return the (p,) numbers of pixels that masks `mine` share with masks `theirs` of `other`."""
        count = other.length[theirs]
        which = np.repeat(np.arange(len(theirs)), count)
        run = np.arange(len(which)) + np.repeat(other.first[theirs] - (np.cumsum(count) - count), count)
        # Between edges, the number of mask pixels before a position is linear: interpolation is exact.
        edge = np.stack([self.start, self.stop], 1).ravel().astype(np.float64)
        after_run = np.cumsum(self.stop - self.start)
        covered = np.stack([after_run - (self.stop - self.start), after_run], 1).ravel().astype(np.float64)
        shift = (self.origin[mine] - other.origin[theirs])[which]
        before = np.interp(other.start[run] + shift, edge, covered)
        after = np.interp(other.stop[run] + shift, edge, covered)
        return np.asarray(np.bincount(which, after - before, len(theirs)), np.float64)


def _columns(
    start: IntArray, stop: IntArray, origin: IntArray, first: IntArray, length: IntArray, height: IntArray
) -> tuple[IntArray, IntArray, NDArray[np.bool_], IntArray]:
    """Return `left`, `right`, `is_simple` and `top` of `_Runs`."""
    filled = np.flatnonzero(length)
    left, right = np.zeros(len(length), np.int64), np.zeros(len(length), np.int64)
    at = first[filled]
    left[filled] = (start[at] - origin[filled]) // height[filled]
    right[filled] = (stop[at + length[filled] - 1] - 1 - origin[filled]) // height[filled] + 1
    is_simple = right - left == length
    if (height == height[0]).all():
        base = np.arange(len(start)) * height[0]
    else:
        base = (np.arange(len(start)) - np.repeat(first, length)) * np.repeat(height, length)
        first = np.zeros_like(first)
    base += np.repeat(origin + (left - first) * height, length)
    top = start - base
    bottom = stop - base
    fits = (top >= 0) & (bottom <= np.repeat(height, length)) & (bottom > top)
    if len(at):
        is_simple[filled] &= np.logical_and.reduceat(fits, at)
    is_simple[length == 0] = False
    return left, right, is_simple, top
