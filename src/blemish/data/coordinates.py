"""Convert annotations to pixels of the upright image.

A format may state the size of the image that the boxes were drawn on. If that is the size before the EXIF
orientation is applied, the boxes are rotated with the image. If it is another size of the same shape, they
are scaled. If it is neither, a finding asks the user to decide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from blemish.arrays import BoolArray, FloatArray, Mask
from blemish.data.annotation_faults import (
    OUTSIDE_TOLERANCE_PIXELS,
    boxes_outside,
    boxes_with_area,
    repeated_objects,
)
from blemish.data.findings import Severity
from blemish.data.image_headers import read_all_header_info
from blemish.data.polygon_masks import PolygonMask, RasterMask
from blemish.data.raw_annotations import PlacedAnnotations, RawAnnotations, Region
from blemish.data.read_context import ReadContext
from blemish.errors import BadImage
from blemish.geometry import mask_from_array, mask_to_array
from blemish.imaging import Header, apply_orientation
from blemish.structures import GroundTruth, Labels, Sample, Task

MAX_SHARE_OF_BOXES = 0.5  # of the objects of a segmentation data set, without a warning
RECTANGLE = [0, 1, 2, 1, 2, 3, 0, 3]  # from x1 y1 x2 y2 to the corners of a box, clockwise
ASPECT_TOLERANCE_PIXELS = 1.5  # sizes are rounded when an image is scaled
MIN_SIDE_PIXELS = 32  # in a smaller image, one pixel may be an object

UNREADABLE = "cannot be opened, so their objects have no place; left out"
ROTATED = "have labels that were drawn before the EXIF orientation was applied; the labels were rotated"
SCALED = "have labels that were drawn on a copy of another size; the labels were scaled"
WRONG_SIZE = "have labels that state a wrong size and fit the image; the labels were left unchanged"
NO_AREA = "have boxes without area, which were left out; run blemish data check to list them"
AMBIGUOUS = (
    "have an EXIF orientation, and labels that do not state whether they were drawn before it was applied;"
    " they were read as drawn on the upright image"
)
OUTSIDE = "have boxes that exceed the image; run blemish data check to list them"


def boxes_or_masks(annotations: Sequence[RawAnnotations], context: ReadContext) -> Task:
    """Return detection or segmentation, depending on the annotations and the task that the user asked for."""
    has_region = [region is not None for raw in annotations for region in raw.regions]
    asked = (
        context.task is not None and context.task.has_masks and not has_region
    )  # there is no object at all
    if context.task is Task.DETECTION or not (asked or any(has_region)):
        return Task.DETECTION
    boxes_only = has_region.count(False)
    if boxes_only:
        context.note(f"{boxes_only} objects have a box and no polygon; the box is used as polygon")
    if boxes_only > MAX_SHARE_OF_BOXES * len(has_region):
        context.note("most objects have a box only; --task detection reads all as boxes")
        context.problem(
            "boxes-among-outlines",
            f"{boxes_only} of {len(has_region)} objects have a box and no polygon; "
            "the box is used as polygon",
            remedy="pass --task detection, or draw the polygons",
            severity=Severity.WARNING,
        )
    return Task.SEGMENTATION


def place_all(
    annotations: Sequence[RawAnnotations], task: Task, labels: Labels, context: ReadContext
) -> tuple[Sample, ...]:
    """Return the samples of images with annotations, in pixels of the upright images.

    Headers are read in parallel. Objects without area are left out; if the reading is lenient, so are
    repeated objects.

    Args:
        annotations: one entry per image.
        task: the task of the data set.
        labels: its labels.
        context: receives header infos, faults and notes.
    """
    _report_crowds(annotations, context)
    paths = [raw.path for raw in annotations]
    infos = read_all_header_info(paths)
    context.headers.update(zip(paths, infos, strict=True))
    image_counts: Counter[str] = Counter()
    samples = []
    for raw, info in zip(annotations, infos, strict=True):
        sample = _place(raw, info.header_or_error(raw.path), task, labels, context, image_counts)
        if sample is not None:
            samples.append(sample)
    if not context.lenient:  # the checks name each of them
        for predicate, count in image_counts.items():
            context.note(f"{count} images {predicate}" if count > 1 else f"1 image: {predicate}")
    return tuple(samples)


def _report_crowds(annotations: Sequence[RawAnnotations], context: ReadContext) -> None:
    """Count the objects that are marked as crowd, or read them as objects if the user asked for it."""
    count, total = (sum(sum(raw.crowd) for raw in annotations), sum(map(len, annotations)))
    if not count:
        return
    marked = f"{count} of {total} objects are marked as crowd"
    if context.crowd == "objects":
        for raw in annotations:
            raw.crowd = [False] * len(raw)
        context.note(f"{marked} and were read as objects")
        return
    context.note(f"{marked}: they are neither learned nor counted; --crowd objects reads them as objects")
    context.problem(
        "crowd-objects",
        f"{marked}, so they are neither learned nor counted",
        remedy="if they are objects, as those of CVAT's brush and of SAM, pass --crowd objects",
        severity=Severity.WARNING,
    )


def _place(
    raw: RawAnnotations,
    header: Header | BadImage,
    task: Task,
    labels: Labels,
    context: ReadContext,
    image_counts: Counter[str],
) -> Sample | None:
    boxes = np.array(raw.boxes, np.float64).reshape(-1, 4)
    regions = list(raw.regions)
    size_hw = raw.stated_hw if isinstance(header, BadImage) else header.size_hw
    if size_hw is None:  # only masks and fractions depend on the size
        if raw.relative or task.has_masks:
            image_counts[UNREADABLE] += 1
            # The checks continue with the image alone, to report its fault.
            return (
                Sample(id=raw.id, path=raw.path, split=raw.split, origin=raw.origin)
                if context.lenient
                else None
            )
    elif raw.relative:
        boxes, regions = _scaled(boxes, regions, size_hw[1], size_hw[0], size_hw)
        if isinstance(header, Header) and header.orientation != 1 and len(raw):
            _report_ambiguous_orientation(raw, header, context, image_counts)
    elif isinstance(header, Header):
        _report_fractions(raw, boxes, size_hw, context)
        boxes, regions = _on_upright(raw, boxes, regions, header, context, image_counts)
    if len(raw):
        kept = _kept_objects(raw, boxes, regions, size_hw, context, image_counts)
        if not kept.all():
            boxes, regions = boxes[kept], [r for r, k in zip(regions, kept, strict=True) if k]
            raw = raw.select(kept)
    ground_truth = GroundTruth(
        task=task,
        labels=labels,
        label_index=np.array(raw.label_index, np.int64),
        size_hw=size_hw,
        boxes_xyxy=boxes,
        masks=None if not task.has_masks or size_hw is None else _masks(regions, boxes, size_hw),
        crowd=_flags(raw.crowd),
        difficult=_flags(raw.difficult),
        truncated=_flags(raw.truncated),
        areas=_stated_areas(raw, size_hw),
    )
    return Sample(
        id=raw.id,
        path=raw.path,
        size_hw=size_hw,
        group=raw.group,
        split=raw.split,
        ground_truth=ground_truth,
        origin=raw.origin,
        columns=raw.columns,
    )


def _kept_objects(
    raw: RawAnnotations,
    boxes: FloatArray,
    regions: list[Region],
    size_hw: tuple[int, int] | None,
    context: ReadContext,
    image_counts: Counter[str],
) -> BoolArray:
    """(n,) bool, the objects to read; a lenient reading keeps all of them for the checks."""
    has_area = boxes_with_area(boxes)
    if context.lenient:
        repeats = repeated_objects(raw.label_index, boxes, regions, has_area)
        placed = PlacedAnnotations(raw.path, raw.origins, boxes, regions, size_hw, has_area, repeats)
        context.annotations.append(placed)
        return placed.kept
    if not has_area.all():
        image_counts[NO_AREA] += 1
    if size_hw is not None and (boxes_outside(boxes, size_hw)[0] & has_area).any():
        image_counts[OUTSIDE] += 1
    return has_area


def _report_fractions(
    raw: RawAnnotations, boxes: FloatArray, size_hw: tuple[int, int], context: ReadContext
) -> None:
    """Report boxes that all lie inside the first pixel: they are fractions, as in YOLO, instead of pixels."""
    has_masks = any(isinstance(region, Mask) for region in raw.regions)
    if not len(boxes) or has_masks or min(size_hw) < MIN_SIDE_PIXELS:
        return
    if 0 < boxes.max() <= 1 and boxes.min() >= 0:
        context.problem(
            "labels-in-another-scale",
            "expected boxes in pixels, got boxes that all lie inside the first pixel: they are fractions of"
            " width and height",
            origin=raw.origin,
            path=raw.path,
            remedy=f"multiply them by {size_hw[1]} and {size_hw[0]}",
            fix="drops the image",
            drops_image=True,
        )


_NO_FLAGS = np.zeros(0, bool)
_NO_FLAGS.setflags(write=False)
_NO_AREAS = np.zeros(0)
_NO_AREAS.setflags(write=False)


def _flags(values: list[bool]) -> BoolArray:
    return np.array(values, bool) if True in values else _NO_FLAGS


def _stated_areas(raw: RawAnnotations, size_hw: tuple[int, int] | None) -> FloatArray:
    """The areas that the format states, or none if they are for an image of another size."""
    resized = size_hw is not None and raw.stated_hw is not None and sorted(size_hw) != sorted(raw.stated_hw)
    if resized or all(map(math.isnan, raw.areas)):
        return _NO_AREAS
    return np.array(raw.areas, np.float64)


def _on_upright(
    raw: RawAnnotations,
    boxes: FloatArray,
    regions: list[Region],
    header: Header,
    context: ReadContext,
    image_counts: Counter[str],
) -> tuple[FloatArray, list[Region]]:
    """Return boxes and regions in pixels of the upright image, given the size that the format states."""
    stated, size_hw = raw.stated_hw, header.size_hw
    if not len(raw):
        return boxes, regions
    if stated is None or stated == size_hw:
        if header.orientation != 1 and (stated is None or header.stored_size_hw == stated):
            _report_ambiguous_orientation(raw, header, context, image_counts)
        return boxes, regions
    if stated == header.stored_size_hw:
        context.problem(
            "labels-not-upright",
            f"the labels state {_width_x_height(stated)}, the size of the image before its EXIF orientation"
            f" {header.orientation} is applied, so they were drawn on the image as it is stored",
            origin=raw.origin,
            path=raw.path,
            remedy="they are rotated when read; write a converted copy to make this permanent",
            severity=Severity.WARNING,
            fix="rotates the labels",
        )
        image_counts[ROTATED] += 1
        return orient(boxes, regions, header.orientation, stated)
    return _on_other_size(raw, boxes, regions, size_hw, context, image_counts)


def _on_other_size(
    raw: RawAnnotations,
    boxes: FloatArray,
    regions: list[Region],
    size_hw: tuple[int, int],
    context: ReadContext,
    image_counts: Counter[str],
) -> tuple[FloatArray, list[Region]]:
    """Return boxes and regions that were drawn on an image of another size than the real one."""
    stated = raw.stated_hw or size_hw
    height, width = size_hw
    max_x, max_y = boxes[:, 2].max(), boxes[:, 3].max()
    fits_stated = (
        max_x <= stated[1] + OUTSIDE_TOLERANCE_PIXELS and max_y <= stated[0] + OUTSIDE_TOLERANCE_PIXELS
    )
    fits_real = max_x <= width + OUTSIDE_TOLERANCE_PIXELS and max_y <= height + OUTSIDE_TOLERANCE_PIXELS
    same_shape = abs(stated[1] * height / max(stated[0], 1) - width) <= ASPECT_TOLERANCE_PIXELS * max(
        1.0, height / max(stated[0], 1)
    )
    sizes = f"the labels state {_width_x_height(stated)} and the image is {_width_x_height(size_hw)}"
    if same_shape and fits_stated and min(stated) > 0:
        context.problem(
            "labels-in-another-scale",
            sizes,
            origin=raw.origin,
            path=raw.path,
            remedy="they are scaled when read; write a converted copy to make this permanent",
            severity=Severity.WARNING,
            fix="scales the labels",
        )
        image_counts[SCALED] += 1
        return _scaled(boxes, regions, width / stated[1], height / stated[0], size_hw)
    if fits_real:
        context.problem(
            "wrong-stated-size",
            sizes + ", and the boxes fit the image only" * (not fits_stated),
            origin=raw.origin,
            path=raw.path,
            remedy="correct the size",
            severity=Severity.WARNING,
            fix="writes the size of the image",
        )
        image_counts[WRONG_SIZE] += 1
    else:
        context.problem(
            "labels-in-another-scale",
            sizes + ", which has another shape, and the boxes exceed it",
            origin=raw.origin,
            path=raw.path,
            remedy="find the image that they were drawn on, or drop them",
            fix="drops the image",
            drops_image=True,
        )
    return boxes, regions


def orient(
    boxes: FloatArray, regions: list[Region], orientation: int, stored_hw: tuple[int, int]
) -> tuple[FloatArray, list[Region]]:
    """Return boxes and regions in pixels of the upright image, given those in pixels of the stored image.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels of the stored image.
        regions: polygons or masks in pixels of the stored image.
        orientation: the EXIF orientation, 1 to 8.
        stored_hw: height and width of the stored image.
    """
    corners = orient_points(boxes.reshape(-1, 2), orientation, stored_hw).reshape(-1, 2, 2)
    oriented_boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    oriented: list[Region] = []
    for region in regions:
        if isinstance(region, Mask):
            array = apply_orientation(mask_to_array(region), orientation)
            oriented.append(mask_from_array(np.ascontiguousarray(array)))
        elif region is None:
            oriented.append(None)
        else:
            oriented.append(tuple(orient_points(p, orientation, stored_hw) for p in region))
    return oriented_boxes, oriented


def orient_points(points: FloatArray, orientation: int, stored_hw: tuple[int, int]) -> FloatArray:
    """Return points in pixels of the upright image, given those in pixels of the stored image.

    Args:
        points: (k, 2) x y.
        orientation: the EXIF orientation, 1 to 8.
        stored_hw: height and width of the stored image.

    Returns:
        (k, 2) x y.

    Example:
        >>> orient_points(np.array([[1.0, 2.0]]), 6, (10, 20)).tolist()
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
    scaled: list[Region] = []
    for region in regions:
        if isinstance(region, Mask):
            array = mask_to_array(region)
            rows = np.minimum((np.arange(size_hw[0]) + 0.5) / scale_y, array.shape[0] - 1).astype(int)
            columns = np.minimum((np.arange(size_hw[1]) + 0.5) / scale_x, array.shape[1] - 1).astype(int)
            scaled.append(mask_from_array(array[rows][:, columns]))
        else:
            scaled.append(None if region is None else tuple(p * factor[:2] for p in region))
    return boxes * factor, scaled


def _masks(regions: list[Region], boxes: FloatArray, size_hw: tuple[int, int]) -> tuple[Mask, ...]:
    corners = boxes[:, RECTANGLE].reshape(-1, 4, 2)

    def to_mask(region: Region, rectangle: FloatArray) -> Mask:
        if region is None:
            return PolygonMask(size_hw, (rectangle,), from_box=True)
        if isinstance(region, RasterMask):  # its file may not state a size
            return RasterMask(size_hw, region.path, region.value)
        return region if isinstance(region, Mask) else PolygonMask(size_hw, region)

    return tuple(to_mask(r, c) for r, c in zip(regions, corners, strict=True))


def _report_ambiguous_orientation(
    raw: RawAnnotations, header: Header, context: ReadContext, image_counts: Counter[str]
) -> None:
    image_counts[AMBIGUOUS] += 1
    context.problem(
        "orientation-ambiguous",
        f"the image has EXIF orientation {header.orientation}, and its labels do not state whether they"
        " were drawn before or after it was applied; they are read as drawn on the upright image",
        origin=raw.origin,
        path=raw.path,
        remedy="compare them with blemish data preview",
        severity=Severity.WARNING,
    )


def _width_x_height(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]} x {size_hw[0]}"
