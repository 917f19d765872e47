"""COCO's annotations: boxes, outlines and run lengths, each with its faults told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from blemish.arrays import Mask
from blemish.data.findings import Severity
from blemish.data.raw_annotations import Box, RawAnnotations, Region
from blemish.data.read_context import ReadContext
from blemish.errors import BadInput
from blemish.geometry import mask_box, rle_from_text
from blemish.geometry.polygons import MAX_COORDINATE

ABSENT = RawAnnotations(id="", path=Path())  # stands for an image whose image nobody finds
YES = (1, "1")  # as some write numbers; True is 1
MAX_AREA = MAX_COORDINATE**2


def is_size(value: object) -> TypeGuard[float]:
    """Whether it is a number of pixels that a side can have."""
    return isinstance(value, int | float) and 1 <= value < MAX_COORDINATE


def read_annotations(
    file: Path,
    content: dict[str, Any],
    taken: dict[Any, RawAnnotations],
    categories: Mapping[Any, int],
    context: ReadContext,
) -> None:
    """Give every image its objects."""
    for entry in content["annotations"]:
        origin = f"{file}: annotation {entry.get('id')}"
        drawn, category = taken.get(key_of(entry.get("image_id"))), key_of(entry.get("category_id"))
        if drawn is ABSENT:
            continue
        if drawn is None:
            context.problem(
                "label-without-image",
                f"it belongs to image {entry.get('image_id')!r}, which is not listed",
                origin=origin,
                remedy="list the image or drop the annotation",
                fix="drops it",
            )
            continue
        if category not in categories:
            context.problem(
                "unknown-label",
                f"its category {category!r} is not listed",
                origin=origin,
                path=drawn.path,
                remedy="list the category or correct the id",
                fix="drops it",
            )
            continue
        region = _region(entry.get("segmentation"), drawn, origin, context)
        box = _box(entry.get("bbox"), region, drawn, origin, context)
        if box is None:
            continue
        drawn.add(
            categories[category],
            box,
            region=region,
            crowd=entry.get("iscrowd") in YES,
            difficult=entry.get("difficult") in YES,
            truncated=entry.get("truncated") in YES,
            area=_area(entry.get("area")),
            origin=origin,
        )
    for key in [k for k, d in taken.items() if d is ABSENT]:
        del taken[key]


def key_of(value: Any) -> Any:
    """An id that can be looked up, whatever somebody wrote for one."""
    return value if isinstance(value, int | float | str) or value is None else repr(value)


def _area(value: Any) -> float:
    """The area as written, square pixels; nan for none that can be."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_AREA
    return float(value) if number else float("nan")


def _box(value: Any, region: Region, drawn: RawAnnotations, origin: str, context: ReadContext) -> Box | None:
    numbers = (
        [float(v) for v in value] if isinstance(value, list) and all(_is_number(v) for v in value) else []
    )
    if len(numbers) != 4:
        if region is not None:
            x1, y1, x2, y2 = (
                mask_box(region)
                if isinstance(region, Mask)
                else np.concatenate([_all(region).min(0), _all(region).max(0)])
            ).tolist()
            return x1, y1, x2, y2
        context.problem(
            "bad-box",
            f"a box takes four finite numbers, not {value!r}"[:200],
            origin=origin,
            path=drawn.path,
            remedy="correct or drop it",
            fix="drops it",
        )
        return None
    x, y, width, height = numbers
    if width < 0 or height < 0:
        context.problem(
            "box-inside-out",
            f"the box {numbers} has a negative side",
            origin=origin,
            path=drawn.path,
            remedy="write x, y, width, height",
            fix="swaps its corners",
        )
        x, y, width, height = min(x, x + width), min(y, y + height), abs(width), abs(height)
    return x, y, x + width, y + height


def _region(value: Any, drawn: RawAnnotations, origin: str, context: ReadContext) -> Region:
    """Outlines as written, or a mask of run lengths; None where there is neither."""
    if isinstance(value, dict):
        return _run_lengths(value, drawn, origin, context)
    if not isinstance(value, list) and value is not None:
        context.problem(
            "bad-run-lengths",
            f"its segmentation is {value!r}"[:80] + ", neither outlines nor run lengths",
            origin=origin,
            path=drawn.path,
            remedy="draw it again",
            fix="drops the outline",
        )
    if not isinstance(value, list) or not value:
        return None
    outlines = []
    for number, flat in enumerate(value):
        whole = (
            isinstance(flat, list) and len(flat) >= 6 and len(flat) % 2 == 0 and all(map(_is_number, flat))
        )
        if whole:
            outlines.append(np.array(flat, np.float64).reshape(-1, 2))
            continue
        context.problem(
            "empty-polygon",
            f"outline {number} takes at least three points, x and y of each in pixels",
            origin=origin,
            path=drawn.path,
            remedy="draw it again",
            severity=Severity.WARNING,
            fix="drops the outline",
        )
        context.note("outlines with fewer than three points were left out")
    return tuple(outlines) or None


def _run_lengths(value: dict[str, Any], drawn: RawAnnotations, origin: str, context: ReadContext) -> Region:
    counts, size = value.get("counts"), value.get("size")
    try:
        if not isinstance(size, list) or len(size) != 2 or not all(is_size(v) for v in size):
            raise BadInput(f"size is {size!r}, not height and width")
        height, width = int(size[0]), int(size[1])
        if isinstance(counts, str):
            mask = rle_from_text(counts, (height, width))
        else:
            runs = np.array(counts)
            if runs.ndim != 1 or runs.dtype.kind != "i":
                raise BadInput("counts is no list of whole numbers")
            mask = Mask((height, width), runs.astype(np.int64))
    except (BadInput, TypeError, ValueError, OverflowError) as error:
        context.problem(
            "bad-run-lengths",
            f"its run lengths cannot be read ({error})",
            origin=origin,
            path=drawn.path,
            remedy="write the mask again",
            fix="drops the outline",
        )
        return None
    if drawn.stated_hw is not None and drawn.stated_hw != (height, width):
        context.problem(
            "bad-run-lengths",
            f"its run lengths are of {width} x {height} pixels, its image states"
            f" {drawn.stated_hw[1]} x {drawn.stated_hw[0]}",
            origin=origin,
            path=drawn.path,
            remedy="write the mask again",
            fix="drops the outline",
        )
        return None
    return mask


def _is_number(value: object) -> bool:
    """Whether it is a coordinate: neither nan nor so far off that arithmetic with it fails."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_COORDINATE


def _all(region: tuple[Any, ...]) -> Any:
    return np.concatenate(region)
