"""Objects that cannot be right: outside the image, without area, drawn twice, masks of a few pixels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.data.findings import Severity
from blemish.data.polygon_masks import PolygonMask, RasterMask, outlines_box, painted_objects
from blemish.data.read_context import ReadContext
from blemish.geometry import polygon_area

if TYPE_CHECKING:
    from blemish.data.raw_annotations import RawAnnotations, Region

OUTSIDE_PIXELS = 1.0  # a box may reach so far over the edge before anyone is told
FEWEST_PIXELS = 4  # a mask of fewer is no object that anyone could see
SURELY_ENOUGH = 64.0  # square pixels inside an outline that need no counting
SAME_PIXELS = 0.01  # boxes closer than this are the same box

OUTSIDE = "boxes reach over the edge; blemish data check names them"
WITHOUT_AREA = "boxes without area were left out; blemish data check names them"


def look_at_objects(
    one: RawAnnotations,
    boxes: FloatArray,
    regions: list[Region],
    size_hw: tuple[int, int] | None,
    reading: ReadContext,
    told: Counter[str],
) -> BoolArray:
    """Tell `reading` what is wrong with one image's objects; (n,) bool, which of them can be kept.

    Args:
        one: the image, for where each object stands in its file.
        boxes: (n, 4) xyxy in pixels of the upright image.
        regions: outlines or masks, likewise.
        size_hw: of the upright image, where known.
        reading: told about each fault.
        told: counts images by the sentence that people shall read once.
    """
    keep = _without_area(one, boxes, reading, told)
    reach = boxes
    if reading.lenient and any(isinstance(r, tuple) for r in regions):
        reach = np.array([_with_outline(b, r) for b, r in zip(boxes, regions, strict=True)], np.float64)
    if size_hw is not None and not _surely_inside(reach, size_hw):
        _outside(one, reach, keep, size_hw, reading, told)
    if reading.lenient:  # only a check has time for these
        if len(boxes) > 1:
            keep &= _repeated(one, boxes, keep, reading)
        if size_hw is not None and any(r is not None for r in regions):
            _tiny_masks(one, regions, keep, size_hw, reading)
    return keep


def _with_outline(box_xyxy: FloatArray, region: Region) -> FloatArray:
    """The box around a box and its outline, which may reach farther."""
    if not isinstance(region, tuple):
        return box_xyxy
    around = outlines_box(region)
    return np.concatenate([np.minimum(box_xyxy[:2], around[:2]), np.maximum(box_xyxy[2:], around[2:])])


def _surely_inside(boxes: FloatArray, size_hw: tuple[int, int]) -> bool:
    far_x, far_y = boxes[:, 2:].max(0)
    return bool(boxes.min() >= 0 and far_x <= size_hw[1] and far_y <= size_hw[0])


def _without_area(
    one: RawAnnotations, boxes: FloatArray, reading: ReadContext, told: Counter[str]
) -> BoolArray:
    ascending: BoolArray = boxes[:, 2:] > boxes[:, :2]
    if ascending.all():  # nearly always, and in half the time
        return np.ones(len(boxes), bool)
    keep: BoolArray = np.all(ascending, axis=1)
    if not keep.all():
        told[WITHOUT_AREA] += 1
        for row in np.flatnonzero(~keep) if reading.lenient else ():
            reading.problem(
                "box-without-area",
                f"the box {np.round(boxes[row], 2).tolist()} has no area",
                origin=one.origins[row],
                path=one.path,
                remedy="draw it again or drop it",
                fix="drops it",
            )
    return keep


def _outside(
    one: RawAnnotations,
    boxes: FloatArray,
    keep: BoolArray,
    size_hw: tuple[int, int],
    reading: ReadContext,
    told: Counter[str],
) -> None:
    height, width = size_hw
    over = np.stack([-boxes[:, 0], -boxes[:, 1], boxes[:, 2] - width, boxes[:, 3] - height], 1)
    gone = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    for row in np.flatnonzero(((over > OUTSIDE_PIXELS).any(1) | gone) & keep):
        wholly = bool(gone[row])
        reading.problem(
            "box-outside",
            f"its box or outline reaches over {np.round(boxes[row], 1).tolist()},"
            f" {'wholly' if wholly else 'partly'} outside its image of {width} x {height}",
            origin=one.origins[row],
            path=one.path,
            remedy="correct it" if wholly else "correct it or cut it at the edge",
            severity=Severity.WARNING,
            fix="drops it" if wholly else "cuts it at the edge",
        )
        told[OUTSIDE] += 1


def _repeated(one: RawAnnotations, boxes: FloatArray, keep: BoolArray, reading: ReadContext) -> BoolArray:
    unique = np.ones(len(boxes), bool)
    keys = [(i, *k) for i, k in zip(one.label_index, np.rint(boxes / SAME_PIXELS).tolist(), strict=True)]
    if len(set(keys)) == len(keys):
        return unique
    seen: dict[tuple[float, ...], int] = {}
    for row in np.flatnonzero(keep).tolist():
        key = keys[row]
        first = seen.setdefault(key, row)
        if first != row and _same_region(one.regions[first], one.regions[row]):
            unique[row] = False
            reading.problem(
                "repeated-object",
                f"the same object stands here and at {one.origins[first]}",
                origin=one.origins[row],
                path=one.path,
                remedy="drop one",
                severity=Severity.WARNING,
                fix="drops the later one",
            )
    return unique


def _same_region(first: Region, second: Region) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(np.array_equal, first, second))
    if isinstance(first, RasterMask) or isinstance(second, RasterMask):
        return False  # a pixel belongs to one object only
    if isinstance(first, Mask) and isinstance(second, Mask):
        return np.array_equal(first.counts, second.counts)
    return first is second


def _tiny_masks(
    one: RawAnnotations,
    regions: list[Region],
    keep: BoolArray,
    size_hw: tuple[int, int],
    reading: ReadContext,
) -> None:
    painted: dict[Path, IntArray] = {}
    for row in np.flatnonzero(keep).tolist():
        region = regions[row]
        if region is None:
            continue
        if isinstance(region, RasterMask):
            if region.path not in painted:
                pixels = painted_objects(region.path).reshape(-1)
                painted[region.path] = np.bincount(pixels, minlength=256).astype(np.int64)
            area = int(painted[region.path][region.value])
        elif isinstance(region, Mask):
            area = region.area
        elif sum(polygon_area(p) for p in region) >= SURELY_ENOUGH:
            continue
        else:
            area = PolygonMask(size_hw, region).area
        if area == 0:
            reading.problem(
                "empty-polygon",
                "its outline holds no pixel",
                origin=one.origins[row],
                path=one.path,
                remedy="draw it again or drop it",
                severity=Severity.WARNING,
                fix="drops it",
            )
        elif area < FEWEST_PIXELS:
            reading.problem(
                "tiny-mask",
                f"its mask has {area} pixels" if area > 1 else "its mask has one pixel",
                origin=one.origins[row],
                path=one.path,
                remedy="draw it again or drop it",
                severity=Severity.WARNING,
                fix="drops it",
            )
