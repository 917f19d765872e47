"""Read the annotations of a COCO file: boxes, polygons and run-length masks; report their faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from blemish.arrays import Mask
from blemish.data.findings import Severity
from blemish.data.polygon_masks import outlines_box, rectangle_outline
from blemish.data.raw_annotations import Box, RawAnnotations, Region, as_box
from blemish.data.read_context import ReadContext
from blemish.errors import BadInput
from blemish.geometry import mask_box, mask_from_array, mask_to_array, rle_from_text
from blemish.geometry.polygons import MAX_COORDINATE

ABSENT = RawAnnotations(id="", path=Path())  # placeholder for an image that is listed and does not exist
MAX_NESTING = 4  # of the lists of an outline
TRUE_VALUES = (1, "1")  # some tools write numbers as strings; True equals 1
MAX_AREA = MAX_COORDINATE**2


def is_size(value: object) -> TypeGuard[float]:
    """Return whether the value is a possible width or height, in pixels."""
    return isinstance(value, int | float) and 1 <= value < MAX_COORDINATE


def read_annotations(
    file: Path,
    content: dict[str, Any],
    images_by_id: dict[Any, RawAnnotations],
    categories: Mapping[Any, int],
    context: ReadContext,
) -> None:
    """Add the annotations of a COCO file to their images.

    Annotations of images that do not exist are skipped without a finding, because the image has one.

    Args:
        file: the file, for the places of faults.
        content: its content.
        images_by_id: the images by their ids, `ABSENT` for those that do not exist; changed in place: every
            image gets its annotations, and absent images are removed.
        categories: index of the label of each category id.
        context: receives the faults.
    """
    for entry in content["annotations"]:
        origin = f"{file}: annotation {entry.get('id')}"
        raw, category = images_by_id.get(key_of(entry.get("image_id"))), key_of(entry.get("category_id"))
        if raw is ABSENT:
            continue
        if raw is None:
            context.problem(
                "label-without-image",
                f"its image_id {entry.get('image_id')!r} is not among the listed images",
                origin=origin,
                remedy="add the image or remove the annotation",
                fix="drops it",
            )
            continue
        if category not in categories:
            context.problem(
                "unknown-label",
                f"its category_id {category!r} is not among the listed categories",
                origin=origin,
                path=raw.path,
                remedy="add the category or correct the id",
                fix="drops it",
            )
            continue
        region = _region(entry.get("segmentation"), raw, origin, context)
        box = _box(entry.get("bbox"), region, raw, origin, context)
        if box is None:
            continue
        degrees = _rotation(entry.get("attributes"))
        if degrees and region is None:  # as CVAT exports rotated boxes
            outline = rectangle_outline(box, degrees)
            region, box = (outline,), as_box(outlines_box((outline,)))
        raw.add(
            categories[category],
            box,
            region=region,
            crowd=entry.get("iscrowd") in TRUE_VALUES,
            difficult=entry.get("difficult") in TRUE_VALUES,
            truncated=entry.get("truncated") in TRUE_VALUES,
            area=_area(entry.get("area")),
            origin=origin,
        )
    for key in [k for k, d in images_by_id.items() if d is ABSENT]:
        del images_by_id[key]


def key_of(value: Any) -> Any:
    """Return an id as a hashable value, also if the file contains a list or an object in its place."""
    return value if isinstance(value, int | float | str) or value is None else repr(value)


def _rotation(attributes: Any) -> float:
    """Return the rotation of a box in CVAT's attributes, in degrees clockwise; 0 if there is none."""
    degrees = attributes.get("rotation") if isinstance(attributes, dict) else None
    return float(degrees) if _is_number(degrees) else 0.0


def _area(value: Any) -> float:
    """Return the stated area in square pixels; NaN if it is missing or impossible."""
    is_area = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_AREA
    return float(value) if is_area else float("nan")


def _box(value: Any, region: Region, raw: RawAnnotations, origin: str, context: ReadContext) -> Box | None:
    numbers = (
        [float(v) for v in value] if isinstance(value, list) and all(_is_number(v) for v in value) else []
    )
    if len(numbers) != 4:
        if region is not None:
            return as_box(mask_box(region) if isinstance(region, Mask) else outlines_box(region))
        context.problem(
            "bad-box",
            f"bbox: expected four finite numbers, got {value!r}"[:200],
            origin=origin,
            path=raw.path,
            remedy="correct or remove it",
            fix="drops it",
        )
        return None
    x, y, width, height = numbers
    if width < 0 or height < 0:
        context.problem(
            "box-inside-out",
            f"bbox: expected a width and height >= 0, got {numbers}",
            origin=origin,
            path=raw.path,
            remedy="write x, y, width, height",
            fix="swaps its corners",
        )
        x, y, width, height = min(x, x + width), min(y, y + height), abs(width), abs(height)
    return x, y, x + width, y + height


def _region(value: Any, raw: RawAnnotations, origin: str, context: ReadContext) -> Region:
    """Return the polygons as written, or a run-length mask, or None if there is neither.

    Tools nest the numbers of an outline differently: `[[x, y, ...], ...]` as in COCO, `[x, y, ...]`,
    `[[x, y], ...]`, or `[[[x, y], ...], ...]`; run lengths may be in a list. No two of them can be confused.
    """
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        masks = [_run_lengths(v, raw, origin, context) for v in value]
        return _union([m for m in masks if m is not None])
    if isinstance(value, dict):
        return _run_lengths(value, raw, origin, context)
    if not isinstance(value, list) and value is not None:
        context.problem(
            "bad-run-lengths",
            f"segmentation: expected polygons or run lengths, got {value!r}"[:120],
            origin=origin,
            path=raw.path,
            remedy="draw it again",
            fix="drops the segmentation",
        )
    if not isinstance(value, list) or not value:
        return None
    polygons = []
    for number, flat in enumerate(_outlines(value)):
        if len(flat) >= 6 and len(flat) % 2 == 0 and all(map(_is_number, flat)):
            polygons.append(np.array(flat, np.float64).reshape(-1, 2))
            continue
        context.problem(
            "empty-polygon",
            f"polygon {number}: expected at least three points, x and y of each in pixels",
            origin=origin,
            path=raw.path,
            remedy="draw it again",
            severity=Severity.WARNING,
            fix="drops the segmentation",
        )
        context.note("polygons with fewer than three points were left out")
    return tuple(polygons) or None


def _outlines(value: list[Any], depth: int = 0) -> list[list[Any]]:
    """Return the numbers of each outline, x y x y ..., for any nesting of lists.

    Example:
        >>> _outlines([1, 2, 3, 4, 5, 6]), _outlines([[1, 2], [3, 4], [5, 6]])
        ([[1, 2, 3, 4, 5, 6]], [[1, 2, 3, 4, 5, 6]])
        >>> _outlines([[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 9], [7, 9]]])
        [[1, 2, 3, 4, 5, 6], [7, 8, 9, 9, 7, 9]]
    """
    if depth >= MAX_NESTING or not any(isinstance(v, list) for v in value):
        return [value]
    if len(value) > 2 and all(isinstance(v, list) and len(v) == 2 and all(map(_is_number, v)) for v in value):
        return [[number for point in value for number in point]]
    return [outline for v in value for outline in (_outlines(v, depth + 1) if isinstance(v, list) else [[v]])]


def _union(masks: list[Mask]) -> Mask | None:
    if len(masks) < 2:
        return masks[0] if masks else None
    if len({m.size_hw for m in masks}) > 1:
        return masks[0]
    return mask_from_array(np.logical_or.reduce([mask_to_array(m) for m in masks]))


def _run_lengths(
    value: dict[str, Any], raw: RawAnnotations, origin: str, context: ReadContext
) -> Mask | None:
    counts, size = value.get("counts"), value.get("size")
    try:
        if not isinstance(size, list) or len(size) != 2 or not all(is_size(v) for v in size):
            raise BadInput(f"size: expected height and width, got {size!r}", reason="run-lengths")
        height, width = int(size[0]), int(size[1])
        if isinstance(counts, str):
            mask = rle_from_text(counts, (height, width))
        else:
            runs = np.array(counts)
            if runs.ndim != 1 or runs.dtype.kind != "i":
                raise BadInput("counts: expected a list of integers", reason="run-lengths")
            mask = Mask((height, width), runs.astype(np.int64))
    except (BadInput, TypeError, ValueError, OverflowError) as error:
        context.problem(
            "bad-run-lengths",
            f"its run lengths cannot be decoded ({error})",
            origin=origin,
            path=raw.path,
            remedy="export the mask again",
            fix="drops the segmentation",
        )
        return None
    if raw.stated_hw is not None and raw.stated_hw != (height, width):
        context.problem(
            "bad-run-lengths",
            f"run lengths: expected the size of the image, {raw.stated_hw[1]} x {raw.stated_hw[0]} pixels,"
            f" got {width} x {height}",
            origin=origin,
            path=raw.path,
            remedy="export the mask again",
            fix="drops the segmentation",
        )
        return None
    return mask


def _is_number(value: object) -> TypeGuard[float]:
    """Return whether the value is a finite coordinate of a plausible size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_COORDINATE
