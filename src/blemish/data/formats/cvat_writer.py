"""Write a data set in the cvat format."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import groupby
from pathlib import Path

import numpy as np

from blemish.arrays import Mask
from blemish.data.object_shapes import (
    ObjectShape,
    check_names_in_xml,
    lose_single_label,
    object_shapes,
    size_of,
)
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task, split_folders
from blemish.geometry import crop_window
from blemish.structures import Dataset, Sample, Task


def write_cvat(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write `annotations.xml` of CVAT for images 1.1, with splits as subsets, and the folder `images`.

    Args:
        dataset: of any task. Labels of images become tags.
        root: an existing, empty folder.
        context: copies the images; receives what CVAT cannot represent.

    Raises:
        BadInput: a label contains control characters, or the size of an image is unknown.
    """
    require_task(dataset, "cvat", *Task)
    check_names_in_xml(dataset)
    splits = split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True})
    lose_single_label(dataset, context)
    top = ET.Element("annotations")
    ET.SubElement(top, "version").text = "1.1"
    owner = ET.SubElement(ET.SubElement(top, "meta"), "project" if splits else "task")
    ET.SubElement(owner, "name").text = "blemish"
    if splits:
        ET.SubElement(owner, "subsets").text = "\n".join(dataset.splits)
    labels = ET.SubElement(owner, "labels")
    for name in dataset.labels:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "attributes")
    source = "auto" if context.scores else "manual"
    for number, sample in enumerate(dataset.samples):
        height, width = size_of(sample)
        image = ET.SubElement(top, "image", id=str(number), name=names[sample.id])
        if sample.split:
            image.set("subset", sample.split)
        image.set("width", str(width))
        image.set("height", str(height))
        _add_annotations(image, sample, source, context)
        context.put(sample, root / "images" / names[sample.id])
    tree = ET.ElementTree(top)
    ET.indent(tree)
    tree.write(root / "annotations.xml", "utf-8", xml_declaration=True)


def _add_annotations(image: ET.Element, sample: Sample, source: str, context: WriteContext) -> None:
    ground_truth = sample.ground_truth
    if ground_truth is not None and ground_truth.boxes_xyxy is None:
        for name in ground_truth.label_names:
            ET.SubElement(image, "tag", label=name, source=source)
    for shape in object_shapes(sample, context, holds_masks=True):
        tag, attributes = _geometry(shape)
        fixed = {"label": shape.label, "source": source, "occluded": "0"}
        ET.SubElement(image, tag, {**fixed, **attributes, "z_order": "0"})


def _geometry(shape: ObjectShape) -> tuple[str, dict[str, str]]:
    """Return the element of a shape and its numbers."""
    if shape.mask is not None:
        return "mask", _mask(shape.mask)
    if shape.polygons:
        return "polygon", {"points": ";".join(f"{x!r},{y!r}" for x, y in shape.polygons[0].tolist())}
    return "box", dict(zip(("xtl", "ytl", "xbr", "ybr"), map(repr, shape.box_xyxy), strict=True))


def _mask(mask: Mask) -> dict[str, str]:
    """Return the run lengths of a mask in row-major order inside its window, the first run background."""
    window, (left, top) = crop_window(mask)
    runs = [(value, sum(1 for _ in pixels)) for value, pixels in groupby(np.ravel(window).tolist())]
    lengths = [length for _, length in runs]
    if runs[0][0]:
        lengths.insert(0, 0)
    height, width = window.shape
    sides = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, lengths)), **{key: str(value) for key, value in sides.items()}}
