"""Write a data set in the labelstudio format."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import quote

from blemish.data.formats.labelstudio_brush import encode_brush
from blemish.data.object_shapes import ObjectShape, check_names_in_xml, object_shapes, size_of
from blemish.data.write_context import (
    WriteContext,
    file_names,
    lose_extras,
    lose_order,
    require_task,
    split_folders,
)
from blemish.structures import Dataset, Sample, Task

CONFIG_NAME = "label_config.xml"
LOCAL_FILES = "/data/local-files/?d="  # Label Studio serves files below its document root at this address
CONTROL, IMAGE = "label", "image"
TAGS = {"rectanglelabels": "RectangleLabels", "polygonlabels": "PolygonLabels", "brushlabels": "BrushLabels"}


def write_labelstudio(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write `tasks.json` next to the images, one in each split folder, and `label_config.xml`.

    Predictions become pre-annotations, with their scores.

    Args:
        dataset: of any task. Labels of images become choices.
        root: an existing, empty folder.
        context: copies the images; receives what Label Studio cannot represent.

    Raises:
        BadInput: a label contains control characters, or the size of an image is unknown.
    """
    require_task(dataset, "labelstudio", *Task)
    check_names_in_xml(dataset)
    splits = split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True, "scores": True})
    lose_order(dataset, context)
    number = 0
    answers: list[dict[str, Any]] = []
    written: list[tuple[Path, list[dict[str, Any]]]] = []
    for split in dataset.splits if splits else (None,):
        part = dataset.of_split(split) if split else dataset
        tasks = []
        for sample in part.samples:
            number += 1
            name = f"{split}/{names[sample.id]}" if split else names[sample.id]
            context.put(sample, root / name)
            results = task_results(sample, context, prefix=f"{number}-")
            answer: dict[str, Any] = {"id": number, "result": results}
            if context.scores:
                answer = _prediction(results, context)
            answers.append(answer)
            data = {"image": LOCAL_FILES + quote(name)}
            key = "predictions" if context.scores else "annotations"
            tasks.append({"id": number, "data": data, key: [answer]})
        written.append((root / (split or "") / "tasks.json", tasks))
    kinds = {result["type"] for answer in answers for result in answer["result"]}
    for answer in answers if len(kinds) > 1 else ():
        for result in answer["result"]:
            result["from_name"] = control_name(result["type"])
    for file, tasks in written:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(tasks, ensure_ascii=False), "utf-8")
    (root / CONFIG_NAME).write_text(label_config(dataset, kinds), "utf-8")


def _prediction(results: list[dict[str, Any]], context: WriteContext) -> dict[str, Any]:
    scores = [result["score"] for result in results if "score" in result]
    return {
        "model_version": context.model or "blemish",
        "score": min(scores, default=1.0),  # the least certain image first, if sorted by score
        "result": results,
    }


def control_name(kind: str) -> str:
    """Return the name of the control of one type of result, in an interface with several.

    Example:
        >>> control_name("brushlabels")
        'label-brush'
    """
    return f"{CONTROL}-{kind.removesuffix('labels')}"


def label_config(dataset: Dataset, kinds: set[str]) -> str:
    """Return the labeling interface that the results need, as Label Studio's XML.

    Args:
        dataset: names the labels.
        kinds: types of the results; a data set without objects gets rectangles.
    """
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=IMAGE, value="$image")
    chosen = [tag for kind, tag in TAGS.items() if kind in kinds] or ["RectangleLabels"]
    if not dataset.task.has_boxes:
        chosen = ["Choices"]
    for tag in chosen:
        name = CONTROL if len(chosen) == 1 else control_name(tag.lower())
        control = ET.SubElement(view, tag, name=name, toName=IMAGE)
        if tag == "Choices":
            control.set("choice", "single" if dataset.task.has_one_label else "multiple")
        for label in dataset.labels:
            ET.SubElement(control, "Choice" if tag == "Choices" else "Label", value=label)
    ET.indent(view)
    return ET.tostring(view, "unicode") + "\n"


def task_results(
    sample: Sample, context: WriteContext, *, prefix: str = "", holds_masks: bool = True
) -> list[dict[str, Any]]:
    """Return the results of one image: its choices, or one region per object, in percent of its size.

    Args:
        sample: boxes and masks in pixels of the upright image.
        context: receives what is lost; knows the scores of predictions.
        prefix: put before the number of each region to make its id.
        holds_masks: whether masks become brush regions; otherwise they become polygons.
    """
    ground_truth = sample.ground_truth
    if ground_truth is None:
        return []
    if ground_truth.boxes_xyxy is None:
        if not len(ground_truth):
            return []
        choices: dict[str, Any] = {
            "id": f"{prefix}0",
            "from_name": CONTROL,
            "to_name": IMAGE,
            "type": "choices",
            "value": {"choices": list(ground_truth.label_names)},
        }
        if sample.id in context.scores:
            choices["score"] = float(context.scores[sample.id].min())
        return [choices]
    size_hw = size_of(sample)
    shapes = list(object_shapes(sample, context, holds_masks=holds_masks))
    return [_result(shape, size_hw, f"{prefix}{number}") for number, shape in enumerate(shapes)]


def _result(shape: ObjectShape, size_hw: tuple[int, int], identity: str) -> dict[str, Any]:
    height, width = size_hw
    x1, y1, x2, y2 = shape.box_xyxy
    kind = "rectanglelabels"
    value: dict[str, Any] = {
        "x": x1 / width * 100,
        "y": y1 / height * 100,
        "width": (x2 - x1) / width * 100,
        "height": (y2 - y1) / height * 100,
        "rotation": 0,
    }
    if shape.mask is not None:
        kind, value = "brushlabels", {"format": "rle", "rle": encode_brush(shape.mask)}
    elif shape.polygons:
        points = (shape.polygons[0] / [width, height] * 100).tolist()
        kind, value = "polygonlabels", {"points": points, "closed": True}
    result = {
        "id": identity,
        "from_name": CONTROL,
        "to_name": IMAGE,
        "type": kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, kind: [shape.label]},
    }
    return result if shape.score is None else {**result, "score": shape.score}
