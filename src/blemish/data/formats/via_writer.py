"""Write a data set in the via format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blemish.data.object_shapes import ObjectShape, object_shapes
from blemish.data.write_context import (
    WriteContext,
    file_names,
    lose_extras,
    lose_order,
    require_task,
    split_folders,
)
from blemish.structures import Dataset, Sample, Task

ATTRIBUTE = "label"


def write_via(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write a project of VIA 2 next to the images, one in each split folder.

    Args:
        dataset: of any task. Labels of images become a file attribute.
        root: an existing, empty folder.
        context: copies the images; receives what VIA cannot represent.
    """
    require_task(dataset, "via", *Task)
    splits = split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True, "scores": dataset.task.has_boxes})
    lose_order(dataset, context)
    for split in dataset.splits if splits else (None,):
        part = dataset.of_split(split) if split else dataset
        folder = root / (split or "")
        entries: dict[str, dict[str, Any]] = {}
        for sample in part.samples:
            image = folder / names[sample.id]
            context.put(sample, image)
            size = image.stat().st_size if image.exists() else -1
            entries[f"{image.name}{size}"] = {"filename": image.name, "size": size, **_entry(sample, context)}
        folder.mkdir(exist_ok=True)
        content = json.dumps(_project(dataset, entries, context), ensure_ascii=False)
        (folder / "via_project.json").write_text(content, "utf-8")


def _project(dataset: Dataset, entries: dict[str, dict[str, Any]], context: WriteContext) -> dict[str, Any]:
    """Return a project, whose attribute with the label is a list to choose from."""
    kind = "checkbox" if dataset.task.has_label_set else "dropdown"
    options = dict.fromkeys(dataset.labels, "")
    attribute = {ATTRIBUTE: {"type": kind, "description": "", "options": options, "default_options": {}}}
    region: dict[str, Any] = attribute if dataset.task.has_boxes else {}
    if region and context.scores:
        region = {**region, "score": {"type": "text", "description": "", "default_value": ""}}
    return {
        "_via_settings": {"project": {"name": "blemish"}},
        "_via_img_metadata": entries,
        "_via_attributes": {"region": region, "file": {} if region else attribute},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(entries),
    }


def _entry(sample: Sample, context: WriteContext) -> dict[str, Any]:
    """Return the regions and the attributes of an image."""
    ground_truth = sample.ground_truth
    regions = [_region(shape) for shape in object_shapes(sample, context, holds_masks=False)]
    if ground_truth is None or ground_truth.boxes_xyxy is not None:
        return {"regions": regions, "file_attributes": {}}
    names = ground_truth.label_names
    value = dict.fromkeys(names, True) if ground_truth.task.has_label_set else names[0]
    return {"regions": regions, "file_attributes": {ATTRIBUTE: value}}


def _region(shape: ObjectShape) -> dict[str, Any]:
    x1, y1, x2, y2 = shape.box_xyxy
    attributes: dict[str, Any] = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    if shape.polygons:
        x, y = shape.polygons[0].T.tolist()
        attributes = {"name": "polygon", "all_points_x": x, "all_points_y": y}
    values = {ATTRIBUTE: shape.label}
    if shape.score is not None:
        values["score"] = f"{shape.score:.4f}"
    return {"shape_attributes": attributes, "region_attributes": values}
