"""Objects as somebody drew them, brought into the pixels of the upright image.

A format states the size of the picture it was drawn on. Where that is the size of the image before
its EXIF orientation is undone, the objects turn with it; where it is the same picture at another size, they
are scaled; where it can be neither, people must look.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from blemish.arrays import BoolArray, FloatArray, Mask
from blemish.data.checks.annotations import OUTSIDE_PIXELS, look_at_objects
from blemish.data.findings import DROPS_IMAGE, Severity
from blemish.data.image_headers import read_all_header_info
from blemish.data.polygon_masks import PolygonMask, RasterMask
from blemish.data.raw_annotations import RawAnnotations, Region
from blemish.data.read_context import ReadContext
from blemish.errors import BadImage
from blemish.imaging import Header, apply_orientation
from blemish.structures import GroundTruth, Labels, Sample, Task

RECTANGLE = [0, 1, 2, 1, 2, 3, 0, 3]  # from xyxy to the corners of a box, clockwise
ASPECT_TOLERANCE_PIXELS = 1.5  # sizes are rounded when a picture is scaled
LEAST_SIDE = 32  # pixels; in a smaller picture one pixel may be an object

TURNED = "their labels were drawn before the EXIF orientation was undone and were turned with them"
SCALED = "their labels were drawn on a copy of another size and were scaled"
STATED = "the size that their labels state is wrong, the labels fit the images and were left as they are"


def boxes_or_masks(drawn: Sequence[RawAnnotations], reading: ReadContext) -> Task:
    """Detection or segmentation, by what is drawn and what was asked."""
    drawn_regions = [r is not None for d in drawn for r in d.regions]
    asked = (
        reading.task is not None and reading.task.has_masks and not drawn_regions
    )  # nothing is drawn at all
    if reading.task is Task.DETECTION or not (asked or any(drawn_regions)):
        return Task.DETECTION
    bare = drawn_regions.count(False)
    if bare:
        reading.note(f"{bare} objects have a box and no outline; the box's rectangle stands in")
    return Task.SEGMENTATION


def place_all(
    drawn: Sequence[RawAnnotations], task: Task, labels: Labels, reading: ReadContext
) -> tuple[Sample, ...]:
    """Samples with their objects in pixels of the upright images; headers are read in parallel."""
    paths = [d.path for d in drawn]
    looks = read_all_header_info(paths)
    reading.looks.update(zip(paths, looks, strict=True))
    told: Counter[str] = Counter()
    samples = []
    for one, look in zip(drawn, looks, strict=True):
        header = look.header_or_error(one.path)
        sample = _place(one, header, task, labels, reading, told)
        if sample is not None:
            samples.append(sample)
    for sentence, count in () if reading.lenient else told.items():  # a check names each
        reading.note(f"{count} images: {sentence}" if count > 1 else f"1 image: {sentence}")
    return tuple(samples)


def _place(
    one: RawAnnotations,
    header: Header | BadImage,
    task: Task,
    labels: Labels,
    reading: ReadContext,
    told: Counter[str],
) -> Sample | None:
    boxes = np.array(one.boxes, np.float64).reshape(-1, 4)
    regions = list(one.regions)
    size_hw = one.stated_hw if isinstance(header, BadImage) else header.size_hw
    if size_hw is None:  # only masks and shares of a size need to know it
        if one.relative or task.has_masks:
            told["they cannot be opened, so their objects cannot be placed; left out"] += 1
            # A check goes on with the image alone, to say what is wrong with it.
            return (
                Sample(id=one.id, path=one.path, split=one.split, origin=one.origin)
                if reading.lenient
                else None
            )
    elif one.relative:
        boxes, regions = _scaled(boxes, regions, size_hw[1], size_hw[0], size_hw)
        if isinstance(header, Header) and header.orientation != 1 and len(one):
            _ambiguous(one, header, reading)
    elif isinstance(header, Header):
        _refuse_shares(one, boxes, size_hw, reading)
        boxes, regions = _on_upright(one, boxes, regions, header, reading, told)
    if len(one):
        keep = look_at_objects(one, boxes, regions, size_hw, reading, told)
        if not keep.all():
            boxes, regions = boxes[keep], [r for r, k in zip(regions, keep, strict=True) if k]
            one = one.keeping(keep)
    ground_truth = GroundTruth(
        task=task,
        labels=labels,
        label_index=np.array(one.label_index, np.int64),
        size_hw=size_hw,
        boxes_xyxy=boxes,
        masks=None if not task.has_masks or size_hw is None else _masks(regions, boxes, size_hw),
        crowd=_flags(one.crowd),
        difficult=_flags(one.difficult),
        truncated=_flags(one.truncated),
        areas=_stated_areas(one, size_hw),
    )
    return Sample(
        id=one.id,
        path=one.path,
        size_hw=size_hw,
        group=one.group,
        split=one.split,
        ground_truth=ground_truth,
        origin=one.origin,
        columns=one.columns,
    )


def _refuse_shares(
    one: RawAnnotations, boxes: FloatArray, size_hw: tuple[int, int], reading: ReadContext
) -> None:
    """Say it where all boxes lie inside the first pixel: they are shares, as YOLO's, and no pixels."""
    painted = any(isinstance(region, Mask) for region in one.regions)
    if not len(boxes) or painted or min(size_hw) < LEAST_SIDE:
        return
    if 0 < boxes.max() <= 1 and boxes.min() >= 0:
        reading.problem(
            "labels-in-another-scale",
            "all its boxes lie inside the first pixel: their numbers are shares of its sides, not pixels",
            origin=one.origin,
            path=one.path,
            remedy=f"multiply them by {size_hw[1]} and {size_hw[0]}",
            fix=DROPS_IMAGE,
        )


_NO_FLAGS = np.zeros(0, bool)
_NO_FLAGS.setflags(write=False)
_NO_AREAS = np.zeros(0)
_NO_AREAS.setflags(write=False)


def _flags(values: list[bool]) -> BoolArray:
    return np.array(values, bool) if True in values else _NO_FLAGS


def _stated_areas(one: RawAnnotations, size_hw: tuple[int, int] | None) -> FloatArray:
    """The areas that the format states; none where it states none, or for a picture of another size."""
    resized = size_hw is not None and one.stated_hw is not None and sorted(size_hw) != sorted(one.stated_hw)
    if resized or all(map(math.isnan, one.areas)):
        return _NO_AREAS
    return np.array(one.areas, np.float64)


def _on_upright(
    one: RawAnnotations,
    boxes: FloatArray,
    regions: list[Region],
    header: Header,
    reading: ReadContext,
    told: Counter[str],
) -> tuple[FloatArray, list[Region]]:
    """Boxes and regions in upright pixels, from the size they state and the header."""
    stated, size_hw = one.stated_hw, header.size_hw
    if not len(one):
        return boxes, regions
    if stated is None or stated == size_hw:
        if header.orientation != 1 and (stated is None or header.stored_size_hw == stated):
            _ambiguous(one, header, reading)
        return boxes, regions
    if stated == header.stored_size_hw:
        reading.problem(
            "labels-not-upright",
            f"the labels state {_wh(stated)}, the size of the image before its EXIF orientation"
            f" {header.orientation} is undone: they were drawn on the picture as it lies in the file",
            origin=one.origin,
            path=one.path,
            remedy="they are turned with it when read; write them anew to be rid of the doubt",
            severity=Severity.WARNING,
            fix="turns the labels",
        )
        told[TURNED] += 1
        return turned(boxes, regions, header.orientation, stated)
    height, width = size_hw
    reach_x, reach_y = (boxes[:, 2].max(), boxes[:, 3].max())
    fits_stated = reach_x <= stated[1] + OUTSIDE_PIXELS and reach_y <= stated[0] + OUTSIDE_PIXELS
    fits_real = reach_x <= width + OUTSIDE_PIXELS and reach_y <= height + OUTSIDE_PIXELS
    same_shape = abs(stated[1] * height / max(stated[0], 1) - width) <= ASPECT_TOLERANCE_PIXELS * max(
        1.0, height / max(stated[0], 1)
    )
    what = f"the labels state {_wh(stated)} beside an image of {_wh(size_hw)}"
    if same_shape and fits_stated and min(stated) > 0:
        reading.problem(
            "labels-in-another-scale",
            what,
            origin=one.origin,
            path=one.path,
            remedy="they are scaled when read; write them anew to be rid of the doubt",
            severity=Severity.WARNING,
            fix="scales the labels",
        )
        told[SCALED] += 1
        return _scaled(boxes, regions, width / stated[1], height / stated[0], size_hw)
    if fits_real:
        reading.problem(
            "wrong-stated-size",
            what + ", and the boxes fit the image only" * (not fits_stated),
            origin=one.origin,
            path=one.path,
            remedy="correct the size",
            severity=Severity.WARNING,
            fix="states the image's size",
        )
        told[STATED] += 1
    else:
        reading.problem(
            "labels-in-another-scale",
            what + ", of another shape, and the boxes reach over its edge",
            origin=one.origin,
            path=one.path,
            remedy="find the picture that they were drawn on, or drop them",
            fix=DROPS_IMAGE,
        )
    return boxes, regions


def turned(
    boxes: FloatArray, regions: list[Region], orientation: int, stored_hw: tuple[int, int]
) -> tuple[FloatArray, list[Region]]:
    """Boxes and regions after an EXIF orientation is undone.

    Args:
        boxes: (n, 4) xyxy in pixels as stored.
        regions: outlines or masks, likewise.
        orientation: EXIF's, 1 to 8.
        stored_hw: height and width before.
    """
    corners = turned_points(boxes.reshape(-1, 2), orientation, stored_hw).reshape(-1, 2, 2)
    out = np.concatenate([corners.min(1), corners.max(1)], 1)
    new: list[Region] = []
    for region in regions:
        if isinstance(region, Mask):
            from blemish.geometry import mask_from_array, mask_to_array

            new.append(
                mask_from_array(np.ascontiguousarray(apply_orientation(mask_to_array(region), orientation)))
            )
        else:
            new.append(
                None if region is None else tuple(turned_points(p, orientation, stored_hw) for p in region)
            )
    return out, new


def turned_points(points: FloatArray, orientation: int, stored_hw: tuple[int, int]) -> FloatArray:
    """(k, 2) x y as stored to x y upright.

    Example:
        >>> turned_points(np.array([[1.0, 2.0]]), 6, (10, 20)).tolist()
        [[8.0, 1.0]]
    """
    height, width = stored_hw
    x, y = points[:, 0], points[:, 1]
    if orientation >= 5:
        x, y, height, width = y, x, width, height
    if orientation in (2, 3, 6, 7):
        x = width - x
    if orientation in (3, 4, 7, 8):
        y = height - y
    return np.stack([x, y], 1)


def _scaled(
    boxes: FloatArray, regions: list[Region], scale_x: float, scale_y: float, size_hw: tuple[int, int]
) -> tuple[FloatArray, list[Region]]:
    factor = np.array([scale_x, scale_y, scale_x, scale_y], np.float64)
    new: list[Region] = []
    for region in regions:
        if isinstance(region, Mask):
            from blemish.geometry import mask_from_array, mask_to_array

            array = mask_to_array(region)
            rows = np.minimum((np.arange(size_hw[0]) + 0.5) / scale_y, array.shape[0] - 1).astype(int)
            columns = np.minimum((np.arange(size_hw[1]) + 0.5) / scale_x, array.shape[1] - 1).astype(int)
            new.append(mask_from_array(array[rows][:, columns]))
        else:
            new.append(None if region is None else tuple(p * factor[:2] for p in region))
    return boxes * factor, new


def _masks(regions: list[Region], boxes: FloatArray, size_hw: tuple[int, int]) -> tuple[Mask, ...]:
    corners = boxes[:, RECTANGLE].reshape(-1, 4, 2)

    def one(region: Region, rectangle: FloatArray) -> Mask:
        if region is None:
            return PolygonMask(size_hw, (rectangle,), stands_in=True)
        if isinstance(region, RasterMask):  # its file may not have stated a size
            return RasterMask(size_hw, region.path, region.value)
        return region if isinstance(region, Mask) else PolygonMask(size_hw, region)

    return tuple(one(r, c) for r, c in zip(regions, corners, strict=True))


def _ambiguous(one: RawAnnotations, header: Header, reading: ReadContext) -> None:
    reading.problem(
        "orientation-ambiguous",
        f"the image has EXIF orientation {header.orientation}, and its labels do not say whether"
        f" they were"
        " drawn before or after it was undone; they are read as drawn on the upright picture",
        origin=one.origin,
        path=one.path,
        remedy="look at it with blemish data preview",
        severity=Severity.WARNING,
    )


def _wh(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]} x {size_hw[0]}"
