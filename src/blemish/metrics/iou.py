"""Intersection over union of detections and ground truth, for all images at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.metrics.object_arrays import ObjectArrays

# Chunks of this size keep their arrays in the processor's cache.
CHUNK_PAIRS = 200_000
CHUNK_RUNS = 200_000


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
            runs = np.bincount(objects.image, [m.counts.size for m in masks], detections.images)
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
    first = _Runs.of([detections.masks[i] for i in rows_a.tolist()])
    second = _Runs.of([ground_truths.masks[i] for i in rows_b.tolist()])
    crowd = ground_truths.crowd[b]
    # An upper bound of the shared pixels spares most pairs the comparison of their runs.
    bound = np.minimum(_shared_box(first.box[at_a], second.box[at_b]), first.area[at_a])
    bound = np.minimum(bound, second.area[at_b])
    possible = _divide(bound, first.area[at_a], second.area[at_b], crowd) >= min_iou - 1e-9
    near = np.flatnonzero(possible & (bound > 0))
    shared = np.zeros(len(a))
    shared[near] = first.shared_with(second, at_a[near], at_b[near])
    return _divide(shared, first.area[at_a], second.area[at_b], crowd)


@dataclass(frozen=True, eq=False)
class _Runs:
    """The run lengths of many masks, concatenated: the pixels of each mask follow those of the one before.

    Attributes:
        edge: (e,) float64, the positions at which runs end, counted over all masks; the first is 0.
        covered: (e,) float64, the number of mask pixels before each edge.
        origin: (n,) int64, the position of the first pixel of each mask.
        first: (n,) int64, the first run of each mask.
        length: (n,) int64, the number of runs of each mask.
        area: (n,) float64, in pixels.
        box: (n, 4) float64 xyxy, in pixels.
    """

    edge: FloatArray
    covered: FloatArray
    origin: IntArray
    first: IntArray
    length: IntArray
    area: FloatArray
    box: FloatArray

    @classmethod
    def of(cls, masks: Sequence[Mask]) -> _Runs:
        """Concatenate the runs of masks."""
        length = np.array([m.counts.size for m in masks], np.int64)
        first = np.cumsum(length) - length
        counts = np.concatenate([m.counts for m in masks])
        inside = counts * ((np.arange(len(counts)) - np.repeat(first, length)) & 1)
        edge = np.concatenate([[0], np.cumsum(counts)])
        covered = np.concatenate([[0], np.cumsum(inside)])
        origin = edge[first]
        height = np.array([m.size_hw[0] for m in masks], np.int64)
        box = _boxes_of_runs(edge, inside, length, origin, height)
        area = (covered[first + length] - covered[first]).astype(np.float64)
        return cls(edge.astype(np.float64), covered.astype(np.float64), origin, first, length, area, box)

    def shared_with(self, other: _Runs, mine: IntArray, theirs: IntArray) -> FloatArray:
        """Return the (p,) numbers of pixels that masks `mine` share with masks `theirs` of `other`."""
        runs = other.length[theirs]
        which = np.repeat(np.arange(len(theirs)), runs)
        run = np.arange(len(which)) - np.repeat(np.cumsum(runs) - runs - other.first[theirs], runs)
        inside = ((run - other.first[theirs][which]) & 1).astype(bool)
        which, run = which[inside], run[inside]
        # Between edges, the number of mask pixels before a position is linear: interpolation is exact.
        shift = (self.origin[mine] - other.origin[theirs])[which]
        before = np.interp(other.edge[run] + shift, self.edge, self.covered)
        after = np.interp(other.edge[run + 1] + shift, self.edge, self.covered)
        return np.asarray(np.bincount(which, after - before, len(theirs)), np.float64)


def _boxes_of_runs(
    edge: NDArray[Any],
    inside: NDArray[Any],
    length: IntArray,
    origin: IntArray,
    height: IntArray,
) -> FloatArray:
    """Return the (n, 4) xyxy bounding box of each mask; zeros for an empty mask."""
    n = len(length)
    rows = np.flatnonzero(inside > 0)
    mask_index = np.repeat(np.arange(n), length)[rows]
    out = np.zeros((n, 4))
    if not len(rows):
        return out
    begins = np.flatnonzero(np.append(True, np.diff(mask_index) != 0))
    ends = np.append(begins[1:], len(rows)) - 1
    filled = mask_index[begins]
    start = (edge[rows] - origin[mask_index]).astype(np.int32)
    # Dividing by a scalar is several times as fast as dividing by an array of equal numbers.
    height = height.astype(np.int32)
    h = height[0] if (height == height[0]).all() else height[mask_index]
    column = start // h
    top = start - column * h
    bottom = top + inside[rows]
    wraps = bottom > h  # the run continues in the next column, so it touches both borders
    last = start[ends] + inside[rows[ends]] - 1
    out[filled, 0] = column[begins]
    out[filled, 2] = last // height[filled] + 1
    out[filled, 1] = np.minimum.reduceat(np.where(wraps, 0, top), begins)
    out[filled, 3] = np.maximum.reduceat(np.minimum(bottom, h), begins)
    return out
