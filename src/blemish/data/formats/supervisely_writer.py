"""Write a data set in the supervisely format."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

from blemish.arrays import Mask
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

FOLDER = "ds0"  # of a data set without splits, as Supervisely names it
COLORS = ("#E6194B", "#3CB44B", "#4363D8", "#F58231", "#911EB4", "#46F0F0", "#F032E6", "#BCF60C")


def write_supervisely(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write a project: `meta.json`, and one folder per split with `ann` and `img`.

    Args:
        dataset: of any task. Labels of images become tags.
        root: an existing, empty folder.
        context: copies the images; receives what Supervisely cannot represent.

    Raises:
        BadInput: the size of an image is unknown.
    """
    require_task(dataset, "supervisely", *Task)
    split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True})
    lose_single_label(dataset, context)
    entries = [(name, COLORS[i % len(COLORS)]) for i, name in enumerate(dataset.labels)]
    classes = [{"title": name, "shape": "any", "color": color} for name, color in entries]
    tags = [{"name": name, "value_type": "none", "color": color} for name, color in entries]
    is_image_level = not dataset.task.has_boxes
    meta = {"classes": [] if is_image_level else classes, "tags": tags if is_image_level else []}
    (root / "meta.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), "utf-8")
    if is_image_level:
        lose_order(dataset, context)
    for sample in dataset.samples:
        folder, name = root / (sample.split or FOLDER), names[sample.id]
        context.put(sample, folder / "img" / name)
        (folder / "ann").mkdir(parents=True, exist_ok=True)
        content = json.dumps(_content(sample, context), ensure_ascii=False)
        (folder / "ann" / f"{name}.json").write_text(content, "utf-8")


def _content(sample: Sample, context: WriteContext) -> dict[str, Any]:
    height, width = size_of(sample)
    ground_truth = sample.ground_truth
    tags = ground_truth.label_names if ground_truth is not None and ground_truth.boxes_xyxy is None else ()
    return {
        "description": "",
        "tags": [{"name": name, "value": None} for name in tags],
        "size": {"height": height, "width": width},
        "objects": [_object(shape) for shape in object_shapes(sample, context, holds_masks=True)],
    }


def _object(shape: ObjectShape) -> dict[str, Any]:
    x1, y1, x2, y2 = shape.box_xyxy
    out: dict[str, Any] = {"classTitle": shape.label, "description": "", "tags": []}
    if shape.mask is not None:
        return {**out, "geometryType": "bitmap", "bitmap": _bitmap(shape.mask)}
    exterior = shape.polygons[0].tolist() if shape.polygons else [[x1, y1], [x2, y2]]
    kind = "polygon" if shape.polygons else "rectangle"
    return {**out, "geometryType": kind, "points": {"exterior": exterior, "interior": []}}


def _bitmap(mask: Mask) -> dict[str, Any]:
    """Return the pixels of a mask as a compressed PNG, and the column and row of its first pixel."""
    from PIL import Image

    window, (x, y) = crop_window(mask)
    buffer = io.BytesIO()
    Image.fromarray(window).save(buffer, "PNG")
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode("ascii")
    return {"data": data, "origin": [x, y]}
