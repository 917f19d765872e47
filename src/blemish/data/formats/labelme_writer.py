"""Write a data set in the labelme format."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

from blemish.arrays import FloatArray, Mask
from blemish.data.object_shapes import ObjectShape, lose_single_label, object_shapes, size_of
from blemish.data.write_context import (
    WriteContext,
    file_names,
    lose_extras,
    lose_order,
    require_task,
    split_folders,
)
from blemish.geometry import crop_window
from blemish.structures import Dataset, Sample, Task

VERSION = "5.5.0"  # of LabelMe, the first files of which have all fields that are written here


def write_labelme(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write a JSON file next to each image, in a folder per split.

    Args:
        dataset: of any task. Labels of images become flags.
        root: an existing, empty folder.
        context: copies the images; receives what LabelMe cannot represent.
    """
    require_task(dataset, "labelme", *Task)
    split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True, "scores": dataset.task.has_boxes})
    if dataset.task.has_boxes:
        lose_order(dataset, context)
    lose_single_label(dataset, context)
    for sample in dataset.samples:
        image = root / (sample.split or "") / names[sample.id]
        context.put(sample, image)
        image.with_suffix(".json").write_text(
            json.dumps(_content(dataset, sample, image, context), ensure_ascii=False, indent=1), "utf-8"
        )


def _content(dataset: Dataset, sample: Sample, image: Path, context: WriteContext) -> dict[str, Any]:
    flags: dict[str, bool] = {}
    shapes: list[dict[str, Any]] = []
    if not dataset.task.has_boxes:
        present = () if sample.ground_truth is None else sample.ground_truth.label_names
        flags = {name: name in present for name in dataset.labels}
    else:
        for number, shape in enumerate(object_shapes(sample, context, holds_masks=True, holds_parts=True)):
            shapes += _shapes_of(shape, number)
    height, width = size_of(sample)
    return {
        "version": VERSION,
        "flags": flags,
        "shapes": shapes,
        "imagePath": os.fspath(image.name),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _shapes_of(shape: ObjectShape, number: int) -> list[dict[str, Any]]:
    """Return the shapes of one object; the polygons of an object share a group."""
    x1, y1, x2, y2 = shape.box_xyxy
    if shape.mask is not None:
        return [_mask(shape, shape.mask)]
    if not shape.polygons:
        return [_shape(shape, "rectangle", [[x1, y1], [x2, y2]])]
    group = number if len(shape.polygons) > 1 else None
    return [_shape(shape, "polygon", _points(p), group=group) for p in shape.polygons]


def _points(polygon: FloatArray) -> list[list[float]]:
    points: list[list[float]] = polygon.tolist()
    return points


def _mask(shape: ObjectShape, mask: Mask) -> dict[str, Any]:
    """Return the pixels of a mask as an embedded PNG, between the first and the last pixel it covers."""
    from PIL import Image

    window, (x, y) = crop_window(mask)
    buffer = io.BytesIO()
    Image.fromarray(window).save(buffer, "PNG")
    height, width = window.shape
    corners = [[float(x), float(y)], [float(x + width - 1), float(y + height - 1)]]
    return _shape(shape, "mask", corners, mask=base64.b64encode(buffer.getvalue()).decode("ascii"))


def _shape(
    shape: ObjectShape,
    kind: str,
    points: list[list[float]],
    *,
    group: int | None = None,
    mask: str | None = None,
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "label": shape.label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }
    if shape.score is not None:  # X-AnyLabeling's field; LabelMe shows and keeps the description
        out["score"] = shape.score
        out["description"] = f"score {shape.score:.3f}"
    return out
