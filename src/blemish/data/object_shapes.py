"""The objects of a sample as shapes that a format can hold, and what is lost by that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatArray, Mask
from blemish.data.image_headers import read_all_header_info
from blemish.data.polygon_masks import PolygonMask, outlines_box
from blemish.data.write_context import WriteContext
from blemish.errors import BadImage, BadInput
from blemish.geometry import mask_box, mask_to_polygons, mask_to_rings
from blemish.structures import Dataset, Sample

DEFAULT_LABEL = "object"  # of objects whose data set states none
BOX_TOLERANCE_PIXELS = 1.0  # many tools write the boxes of polygons in whole pixels
NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class ObjectShape:
    """One object, as a box, as polygons or as a mask.

    Attributes:
        label: its label.
        box_xyxy: x1 y1 x2 y2 in pixels of the upright image.
        polygons: (k, 2) float64 each, x y in pixels; empty for a box or a mask.
        mask: its pixels; None for a box or polygons.
        score: in [0, 1] if it was predicted, else None.
    """

    label: str
    box_xyxy: tuple[float, float, float, float]
    polygons: tuple[FloatArray, ...] = ()
    mask: Mask | None = None
    score: float | None = None


def object_shapes(
    sample: Sample, context: WriteContext, *, holds_masks: bool, holds_parts: bool = False
) -> Iterator[ObjectShape]:
    """Yield the objects of a sample as shapes that a format can hold; report what is lost by that.

    Args:
        sample: its boxes are in pixels of the upright image.
        context: receives what the format cannot represent, and knows the scores of predictions.
        holds_masks: whether the format has masks of pixels. Otherwise each becomes its outlines.
        holds_parts: whether several polygons can be one object. Otherwise they become a mask, or one polygon.
    """
    ground_truth = sample.ground_truth
    if ground_truth is None or ground_truth.boxes_xyxy is None:
        return
    scores = context.scores.get(sample.id)
    for row, index in enumerate(ground_truth.label_index.tolist()):
        label = ground_truth.labels.names[index] if len(ground_truth.labels) else DEFAULT_LABEL
        x1, y1, x2, y2 = ground_truth.boxes_xyxy[row].tolist()
        box = (x1, y1, x2, y2)
        mask = None if ground_truth.masks is None else ground_truth.masks[row]
        polygons: tuple[FloatArray, ...] = ()
        score = None if scores is None else float(scores[row])
        if isinstance(mask, PolygonMask):
            outlines = mask.polygons
            if mask.from_box:
                mask = None
            elif len(outlines) == 1 or holds_parts:
                mask, polygons = None, outlines
            elif holds_masks:
                context.lose(
                    "parts-as-mask",
                    "an object of several polygons was written as a mask, whose outline follows the pixels",
                    sample,
                )
            else:
                mask, polygons = None, (joined_parts(list(outlines), sample, context),)
        if mask is not None and not mask.area:
            context.lose("empty-mask", "an empty mask was left out", sample)
            continue
        if mask is not None and not holds_masks:
            parts = outlines_of_mask(mask, sample, context)
            polygons = tuple(parts) if holds_parts else (joined_parts(parts, sample, context),)
            mask = None
        if mask is not None or polygons:
            _lose_box(box, polygons, mask, sample, context)
        yield ObjectShape(label, box, polygons, mask, score)


def outlines_of_mask(mask: Mask, sample: Sample, context: WriteContext) -> list[FloatArray]:
    """Return the outer outlines of a mask, (k, 2) x y in pixels each; holes are filled and reported."""
    parts = mask_to_polygons(mask)
    if len(mask_to_rings(mask)) > len(parts):
        context.lose("holes", "a polygon of this format has no holes, so holes were filled", sample)
    return parts


def joined_parts(parts: list[FloatArray], sample: Sample, context: WriteContext) -> FloatArray:
    """Return one (k, 2) polygon: several parts are joined by bridges of zero width, and reported."""
    if len(parts) == 1:
        return parts[0]
    context.lose(
        "parts",
        "a polygon of this format has one part, so several parts were joined by bridges of zero width",
        sample,
    )
    start = parts[0][:1]
    return np.concatenate([parts[0], start, *(np.concatenate([p, p[:1], start]) for p in parts[1:])])


def _lose_box(
    box: tuple[float, float, float, float],
    polygons: tuple[FloatArray, ...],
    mask: Mask | None,
    sample: Sample,
    context: WriteContext,
) -> None:
    """Report a box that is not the bounding box of its outline, for formats that store the outline only."""
    bounds = outlines_box(polygons) if polygons else mask_box(mask)  # type: ignore[arg-type]
    clipped = bounds
    if sample.size_hw is not None:
        height, width = sample.size_hw
        clipped = np.clip(bounds, 0, [width, height, width, height])
    if min(np.abs(bounds - box).max(), np.abs(clipped - box).max()) > BOX_TOLERANCE_PIXELS:
        context.lose(
            "box-of-outline",
            "a box that is not the bounding box of its polygon or mask becomes that box",
            sample,
        )


def size_of(sample: Sample) -> tuple[int, int]:
    """Return height and width of the upright image in pixels, from the file if the data set states none.

    Raises:
        BadInput: the size is unknown.
    """
    if sample.size_hw is not None:
        return sample.size_hw
    (info,) = read_all_header_info([sample.path])
    header = info.header_or_error(sample.path)
    if isinstance(header, BadImage):
        raise BadInput(
            f"{sample.path}: the size of the image is unknown. Restore the image or leave it out.",
            reason="unknown-size",
        )
    return header.size_hw


def check_names_in_xml(dataset: Dataset) -> None:
    """Refuse labels with characters that an XML file cannot contain.

    Raises:
        BadInput: a label contains such a character.
    """
    for name in dataset.labels:
        if NOT_IN_XML.search(name):
            raise BadInput(
                f"label {name!r}: expected no control characters, which XML does not have. Rename it.",
                reason="label-name",
            )


def lose_single_label(dataset: Dataset, context: WriteContext) -> None:
    """Report that a format does not state that each image has exactly one label."""
    if dataset.task.has_one_label and not dataset.task.has_boxes:
        context.lose(
            "single-label", "that each image has exactly one label is not kept; it is read as multilabel"
        )
