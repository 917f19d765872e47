"""Checks of annotations: boxes outside the image or without area, repeated objects, masks of a few pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from blemish.data.annotation_faults import (
    MIN_MASK_PIXELS,
    boxes_outside,
    boxes_with_outlines,
    small_mask_area,
)
from blemish.data.check_context import CheckContext
from blemish.data.checks import register
from blemish.data.findings import Finding, Severity
from blemish.data.raw_annotations import PlacedAnnotations
from blemish.structures import Dataset


@register("annotations.zero-area-box", codes=("box-without-area",))
def check_area(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Boxes without width or height."""
    for placed in context.annotations:
        for row in np.flatnonzero(~placed.has_area).tolist():
            yield Finding(
                "box-without-area",
                Severity.ERROR,
                f"the box {np.round(placed.boxes_xyxy[row], 2).tolist()} has no area",
                placed.path,
                placed.origins[row],
                remedy="draw it again or drop it",
                fix="drops it",
            )


@register("annotations.outside-image", codes=("box-outside",))
def check_outside(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Boxes and polygons that exceed the image by more than a pixel."""
    for placed in context.annotations:
        if placed.size_hw is None:
            continue
        height, width = placed.size_hw
        extents = boxes_with_outlines(placed.boxes_xyxy, placed.regions)
        outside, entirely = boxes_outside(extents, placed.size_hw)
        for row in np.flatnonzero(outside & placed.has_area).tolist():
            amount = "entirely" if entirely[row] else "partly"
            yield Finding(
                "box-outside",
                Severity.WARNING,
                f"its box or polygon spans {np.round(extents[row], 1).tolist()},"
                f" {amount} outside the image of {width} x {height}",
                placed.path,
                placed.origins[row],
                remedy="correct it" if entirely[row] else "correct it or clip it to the image",
                fix="drops it" if entirely[row] else "clips it to the image",
            )


@register("annotations.repeated-object", codes=("repeated-object",))
def check_repeated(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Objects with the label and the outline of another object in the same image."""
    for placed in context.annotations:
        for row, first in placed.repeats.items():
            yield Finding(
                "repeated-object",
                Severity.WARNING,
                f"the same object is at {placed.origins[first]}",
                placed.path,
                placed.origins[row],
                remedy="drop one of them",
                fix="drops the later one",
            )


@register("annotations.empty-polygon", codes=("empty-polygon",))
def check_empty_masks(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Polygons and masks that contain no pixel."""
    for placed, row, area in _small_masks(context):
        if area == 0:
            yield _mask_finding("empty-polygon", "its outline contains no pixel", placed, row)


@register("annotations.tiny-mask", codes=("tiny-mask",))
def check_tiny_masks(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
    """Masks of fewer than 4 pixels."""
    for placed, row, area in _small_masks(context):
        if 0 < area < MIN_MASK_PIXELS:
            pixels = "1 pixel" if area == 1 else f"{area} pixels"
            yield _mask_finding("tiny-mask", f"its mask has {pixels}", placed, row)


def _small_masks(context: CheckContext) -> Iterator[tuple[PlacedAnnotations, int, int]]:
    for placed in context.annotations:
        if placed.size_hw is None or not any(region is not None for region in placed.regions):
            continue
        for row in np.flatnonzero(placed.kept).tolist():
            area = small_mask_area(placed.regions[row], placed.size_hw)
            if area is not None:
                yield placed, row, area


def _mask_finding(code: str, message: str, placed: PlacedAnnotations, row: int) -> Finding:
    return Finding(
        code,
        Severity.WARNING,
        message,
        placed.path,
        placed.origins[row],
        remedy="draw it again or drop it",
        fix="drops it",
    )
