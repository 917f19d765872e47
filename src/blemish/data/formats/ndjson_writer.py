"""Write a data set in the ndjson format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.object_shapes import object_shapes, size_of
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task, split_folders
from blemish.structures import Dataset, Sample, Task

SEVERAL_LABELS = "multilabel"  # our own key: whether an image may have several labels
KINDS = {"segmentation": "segment", "classification": "classify", "multilabel": "classify"}


def write_ndjson(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write `dataset.ndjson` next to the images.

    Args:
        dataset: of any task.
        root: an existing, empty folder.
        context: copies the images; receives what the format cannot represent.

    Raises:
        BadInput: the size of an image is unknown.
    """
    require_task(dataset, "ndjson", *Task)
    split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True})
    with (root / "dataset.ndjson").open("w", encoding="utf-8", newline="\n") as file:
        for line in _lines(dataset, names, context):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    for sample in dataset.samples:
        context.put(sample, root / "images" / names[sample.id])


def _lines(dataset: Dataset, names: dict[str, str], context: WriteContext) -> Iterator[dict[str, Any]]:
    yield {
        "type": "dataset",
        "task": KINDS.get(str(dataset.task), "detect"),
        **({SEVERAL_LABELS: True} if dataset.task.has_label_set else {}),
        "class_names": {str(i): name for i, name in enumerate(dataset.labels)},
    }
    for sample in dataset.samples:
        height, width = size_of(sample)
        line = {"type": "image", "file": f"images/{names[sample.id]}", "width": width, "height": height}
        if sample.split:
            line["split"] = sample.split
        yield {**line, "annotations": _annotations(dataset, sample, (height, width), context)}


def _annotations(
    dataset: Dataset, sample: Sample, size_hw: tuple[int, int], context: WriteContext
) -> dict[str, list[Any]]:
    """Return label indices, boxes and outlines in fractions of width and height."""
    ground_truth = sample.ground_truth
    if ground_truth is None:
        return {}
    if ground_truth.boxes_xyxy is None:
        return {"classification": ground_truth.label_index.tolist()}
    out: dict[str, list[Any]] = {}
    height, width = size_hw
    for shape in object_shapes(sample, context, holds_masks=False):
        index = dataset.labels.index(shape.label) if len(dataset.labels) else 0
        if shape.polygons:
            points = (shape.polygons[0] / [width, height]).reshape(-1)
            out.setdefault("segments", []).append([index, *points.tolist()])
            continue
        low, high = (
            np.array(shape.box_xyxy[:2]) / [width, height],
            np.array(shape.box_xyxy[2:]) / [width, height],
        )
        out.setdefault("boxes", []).append([index, *((low + high) / 2).tolist(), *(high - low).tolist()])
    if len(out) > 1:
        context.lose("object-order", "the order of objects with and without a polygon is not kept", sample)
    return out
