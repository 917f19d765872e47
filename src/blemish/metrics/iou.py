"""How much each detection overlaps each truth it could be compared with, for many images at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.metrics.object_arrays import ObjectArrays

# Few enough that a chunk's arrays stay in the processor's cache.
CHUNK_PAIRS = 200_000
CHUNK_RUNS = 200_000


@dataclass(frozen=True, eq=False)
class OverlapPairs:
    """Detections beside truths that overlap enough.

    Attributes:
        found: (p,) int64 rows of the detections, ascending.
        ground_truth: (p,) int64 rows of the truths.
        iou: (p,) float64; for a crowd the share of the detection inside it.
    """

    found: IntArray
    ground_truth: IntArray
    iou: FloatArray


def overlapping_pairs(
    found: ObjectArrays, ground_truths: ObjectArrays, *, min_iou: float, across_labels: bool = False
) -> OverlapPairs:
    """Every detection and truth of one image that overlap by `min_iou` or more.

    Args:
        found: the detections, with masks where masks are to be compared.
        ground_truths: likewise.
        min_iou: pairs below it are left out; pairs without overlap always are.
        across_labels: whether to compare objects of different labels too.

    Source:
        Overlaps equal pycocotools.mask.iou, of boxes and of masks.
    """
    labels = 1 if across_labels else max(found.label_count, 1)
    keys = [o.image * labels + (0 if across_labels else o.label) for o in (found, ground_truths)]
    order = np.argsort(keys[1], kind="stable")
    sorted_keys = keys[1][order]
    first = np.searchsorted(sorted_keys, keys[0], side="left")
    count = np.searchsorted(sorted_keys, keys[0], side="right") - first
    parts = []
    for rows in _chunks(found, ground_truths, count):
        per_row = count[rows]
        a = np.repeat(rows, per_row)
        starts = np.cumsum(per_row) - per_row
        b = order[np.arange(len(a)) - np.repeat(starts - first[rows], per_row)]
        compare = _box_iou if found.masks is None else _mask_iou
        iou = compare(found, ground_truths, a, b, min_iou)
        kept = (iou >= min_iou) & (iou > 0)
        parts.append((a[kept], b[kept], iou[kept]))
    if not parts:
        none = np.zeros(0, np.int64)
        return OverlapPairs(none, none, np.zeros(0))
    joined = [np.concatenate([p[i] for p in parts]) for i in range(3)]
    return OverlapPairs(joined[0], joined[1], joined[2])


def _chunks(found: ObjectArrays, ground_truths: ObjectArrays, count: IntArray) -> Iterator[IntArray]:
    """Rows of the detections, whole images at a time, few enough to stay small in memory."""
    if not len(found):
        return
    ends = np.searchsorted(found.image, np.arange(found.images), side="right")
    load = np.concatenate([[0], np.cumsum(count)])[ends] / CHUNK_PAIRS
    if found.masks is not None and ground_truths.masks is not None:
        for objects, masks in ((found, found.masks), (ground_truths, ground_truths.masks)):
            runs = np.bincount(objects.image, [m.counts.size for m in masks], found.images)
            load = load + np.cumsum(runs) / CHUNK_RUNS
    # An image belongs to the chunk in which its load ends.
    borders = np.flatnonzero(np.diff(np.floor(load))) + 1
    for low, high in pairwise([0, *borders.tolist(), found.images]):
        start, stop = (0 if low == 0 else ends[low - 1]), ends[high - 1]
        if stop > start:
            yield np.arange(start, stop)


def _box_iou(
    found: ObjectArrays, ground_truths: ObjectArrays, a: IntArray, b: IntArray, min_iou: float
) -> FloatArray:
    """(p,) overlap of box a of `found` with box b of `ground_truths`."""
    first, second = found.boxes[a], ground_truths.boxes[b]
    shared = _shared_box(first, second)
    area = (first[:, 2] - first[:, 0]) * (first[:, 3] - first[:, 1])
    other = (second[:, 2] - second[:, 0]) * (second[:, 3] - second[:, 1])
    return _divided(shared, area, other, ground_truths.crowd[b])


def _shared_box(first: FloatArray, second: FloatArray) -> FloatArray:
    width = np.minimum(first[:, 2], second[:, 2]) - np.maximum(first[:, 0], second[:, 0])
    height = np.minimum(first[:, 3], second[:, 3]) - np.maximum(first[:, 1], second[:, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


def _divided(shared: FloatArray, area: FloatArray, other: FloatArray, crowd: NDArray[np.bool_]) -> FloatArray:
    whole = np.where(crowd, area, area + other - shared)
    return np.divide(shared, whole, out=np.zeros(len(shared)), where=shared > 0)


def _mask_iou(
    found: ObjectArrays, ground_truths: ObjectArrays, a: IntArray, b: IntArray, min_iou: float
) -> FloatArray:
    """(p,) overlap of mask a of `found` with mask b of `ground_truths`; 0 where it must be below `min_iou`."""
    assert found.masks is not None and ground_truths.masks is not None  # noqa: S101  (the caller looked)
    if not len(a):  # no detection and truth of one label in this whole chunk
        return np.zeros(0)
    rows_a, at_a = np.unique(a, return_inverse=True)
    rows_b, at_b = np.unique(b, return_inverse=True)
    first = _Runs.of([found.masks[i] for i in rows_a.tolist()])
    second = _Runs.of([ground_truths.masks[i] for i in rows_b.tolist()])
    crowd = ground_truths.crowd[b]
    # At most so many pixels can be shared; most pairs need no look at their runs.
    most = np.minimum(_shared_box(first.box[at_a], second.box[at_b]), first.area[at_a])
    most = np.minimum(most, second.area[at_b])
    hopeful = _divided(most, first.area[at_a], second.area[at_b], crowd) >= min_iou - 1e-9
    near = np.flatnonzero(hopeful & (most > 0))
    shared = np.zeros(len(a))
    shared[near] = first.shared_with(second, at_a[near], at_b[near])
    return _divided(shared, first.area[at_a], second.area[at_b], crowd)


@dataclass(frozen=True, eq=False)
class _Runs:
    """The runs of many masks in one row, one mask's pixels after the other's.

    Attributes:
        edge: (e,) float64 where runs end, counted over all masks; the first is 0.
        covered: (e,) float64, how many pixels of masks lie before each edge.
        origin: (n,) int64, where each mask's pixels begin.
        first: (n,) int64, the first run of each mask.
        length: (n,) int64, how many runs it has.
        area: (n,) float64 pixels.
        box: (n, 4) float64 xyxy.
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
        """(p,) pixels that mask `mine` of these shares with mask `theirs` of the others."""
        runs = other.length[theirs]
        which = np.repeat(np.arange(len(theirs)), runs)
        run = np.arange(len(which)) - np.repeat(np.cumsum(runs) - runs - other.first[theirs], runs)
        inside = ((run - other.first[theirs][which]) & 1).astype(bool)
        which, run = which[inside], run[inside]
        # The pixels of a mask before a position are straight lines between its edges: interpolation is exact.
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
    """(n, 4) xyxy, the smallest box of each mask; zeros for an empty one."""
    n = len(length)
    rows = np.flatnonzero(inside > 0)
    owner = np.repeat(np.arange(n), length)[rows]
    out = np.zeros((n, 4))
    if not len(rows):
        return out
    begins = np.flatnonzero(np.append(True, np.diff(owner) != 0))
    ends = np.append(begins[1:], len(rows)) - 1
    held = owner[begins]
    start = (edge[rows] - origin[owner]).astype(np.int32)
    # Dividing by one number is several times as fast as dividing by an array of the same number.
    height = height.astype(np.int32)
    h = height[0] if (height == height[0]).all() else height[owner]
    column = start // h
    top = start - column * h
    bottom = top + inside[rows]
    wraps = bottom > h  # goes round a corner of the image, so it touches both borders
    last = start[ends] + inside[rows[ends]] - 1
    out[held, 0] = column[begins]
    out[held, 2] = last // height[held] + 1
    out[held, 1] = np.minimum.reduceat(np.where(wraps, 0, top), begins)
    out[held, 3] = np.maximum.reduceat(np.minimum(bottom, h), begins)
    return out
