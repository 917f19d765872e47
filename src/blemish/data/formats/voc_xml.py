"""Read and write the XML file of one image in the voc format."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.polygon_masks import outlines_box, rectangle_outline
from blemish.data.raw_annotations import as_box
from blemish.data.read_context import ReadContext
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.structures import Sample

COUNTS_FROM_ONE = "first pixel 1"  # Blemish writes it, so that readers need not guess


@dataclass(slots=True)
class VocObject:
    """One object of an XML file.

    Attributes:
        name: the label.
        corners: xmin, ymin, xmax, ymax as written, sorted; of the outline if there is no box.
        outline: (k, 2) x y of its polygon or rotated box, as written, or None.
        difficult: whether it is marked as difficult.
        truncated: whether it is marked as cut off.
        line: its line in the file.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    truncated: bool
    line: int
    outline: FloatArray | None = None


@dataclass(slots=True)
class VocAnnotation:
    """The content of one XML file.

    Attributes:
        path: the file.
        stated_hw: height and width in pixels, or None.
        counts_from_one: whether the file states that the first pixel has the coordinate 1.
        image_name: the file name of the image as written.
        objects: the valid objects.
    """

    path: Path
    stated_hw: tuple[int, int] | None = None
    counts_from_one: bool = False
    image_name: str = ""
    objects: list[VocObject] = field(default_factory=list)


def read_annotation(file: Path, context: ReadContext) -> VocAnnotation | None:
    """Return the content of an XML file, or None after an invalid file was reported to `context`."""
    raw = file.read_bytes()
    try:
        if b"<!ENTITY" in raw:
            raise ET.ParseError("it defines entities, which annotations do not need")
        root = ET.fromstring(raw)  # noqa: S314 - entities are rejected above
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two come from encodings
        line = error.position[0] if isinstance(error, ET.ParseError) and hasattr(error, "position") else 1
        context.problem(
            "bad-file",
            f"invalid XML ({error})",
            origin=f"{file}:{line}",
            path=file,
            remedy="correct it, save it as UTF-8, or remove it",
            fix="leaves the image out",
        )
        return None
    if root.tag.casefold() != "annotation":
        context.problem(
            "bad-file",
            f"expected the root element <annotation>, got <{root.tag}>"[:200],
            origin=str(file),
            path=file,
            remedy="export it again or remove it",
            fix="leaves the image out",
        )
        return None
    annotation = VocAnnotation(
        file, counts_from_one=COUNTS_FROM_ONE in (root.findtext("source/annotation") or "")
    )
    annotation.image_name = (root.findtext("filename") or "").strip()
    try:
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except (OverflowError, ValueError):
        height = width = 0
    annotation.stated_hw = (height, width) if height > 0 and width > 0 else None
    lines = [n for n, text in enumerate(raw.split(b"\n"), 1) for _ in range(text.count(b"<object"))]
    for number, element in enumerate(root.iter("object")):
        line = lines[number] if number < len(lines) else 1
        outline = _outline(element)
        corners = _corners(element, outline, file, line, context)
        name = (element.findtext("name") or "").strip()
        if corners is None:
            continue
        if not name:
            context.problem(
                "empty-label",
                "object: expected a name",
                origin=f"{file}:{line}",
                remedy="add a name",
                fix="drops it",
            )
            continue
        flags = (_flag(element, "difficult"), _flag(element, "truncated"))
        annotation.objects.append(VocObject(name, corners, *flags, line, outline))
    return annotation


def _outline(element: ET.Element) -> FloatArray | None:
    """Return the polygon (x1 y1 x2 y2 ..., as Roboflow writes it) or the rotated box of an object, or None.

    roLabelImg writes center, size and angle in radians, clockwise.
    """
    rotated = element.find("robndbox")
    polygon = element.find("polygon")
    try:
        if rotated is not None:
            values = [float(rotated.findtext(key) or "none") for key in ("cx", "cy", "w", "h", "angle")]
            x, y, width, height, angle = values
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            outline = rectangle_outline(box, math.degrees(angle))
        elif polygon is not None:
            count = sum(re.fullmatch(r"x\d+", child.tag) is not None for child in polygon)
            texts = [[polygon.findtext(f"{axis}{i}") or "none" for axis in "xy"] for i in range(1, count + 1)]
            outline = np.array([[float(text) for text in point] for point in texts], np.float64)
        else:
            return None
    except ValueError:
        return None
    return outline if len(outline) > 2 and (np.abs(outline) < MAX_COORDINATE).all() else None


def _corners(
    element: ET.Element, outline: FloatArray | None, file: Path, line: int, context: ReadContext
) -> tuple[float, float, float, float] | None:
    if outline is not None and element.find("bndbox") is None:
        return as_box(outlines_box((outline,)))
    texts = [element.findtext(f"bndbox/{c}") for c in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(t or "none") for t in texts)
        finite = abs(x1) + abs(y1) + abs(x2) + abs(y2) < 1e9
    except ValueError:
        finite = False
    if not finite:
        context.problem(
            "bad-box",
            f"bndbox: expected numbers for xmin, ymin, xmax and ymax, got {texts}",
            origin=f"{file}:{line}",
            path=file,
            remedy="correct or remove the object",
            fix="drops it",
        )
        return None
    if x2 < x1 or y2 < y1:
        context.problem(
            "box-inside-out",
            f"bndbox: expected xmin <= xmax and ymin <= ymax, got {[x1, y1, x2, y2]}",
            origin=f"{file}:{line}",
            path=file,
            remedy="correct its corners",
            fix="swaps its corners",
        )
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _flag(element: ET.Element, name: str) -> bool:
    return (element.findtext(name) or "0").strip() in ("1", "true", "True")


def annotation_xml(sample: Sample, name: str) -> str:
    """Return the XML of a sample; pixels are counted from 1, as in VOC.

    Args:
        sample: its boxes are in pixels of the upright image, counted from 0.
        name: file name of the image.
    """
    annotation = ET.Element("annotation")
    ET.SubElement(annotation, "folder").text = "JPEGImages"
    ET.SubElement(annotation, "filename").text = name
    source = ET.SubElement(annotation, "source")
    ET.SubElement(source, "annotation").text = f"blemish, {COUNTS_FROM_ONE}"
    if sample.size_hw is not None:
        size = ET.SubElement(annotation, "size")
        for side, value in (("width", sample.size_hw[1]), ("height", sample.size_hw[0]), ("depth", 3)):
            ET.SubElement(size, side).text = str(value)
    ground_truth = sample.ground_truth
    ET.SubElement(annotation, "segmented").text = str(
        int(ground_truth is not None and ground_truth.masks is not None)
    )
    for row, label in enumerate(() if ground_truth is None else ground_truth.label_names):
        element = ET.SubElement(annotation, "object")
        ET.SubElement(element, "name").text = label
        truncated = bool(ground_truth.truncated[row]) if ground_truth.truncated.size else False  # type: ignore[union-attr]
        ET.SubElement(element, "truncated").text = str(int(truncated))
        ET.SubElement(element, "difficult").text = str(int(ground_truth.difficult[row]))  # type: ignore[union-attr]
        corners = ground_truth.boxes_xyxy[row] + np.array([1, 1, 0, 0])  # type: ignore[union-attr, index]
        box = ET.SubElement(element, "bndbox")
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), corners.tolist(), strict=True):
            ET.SubElement(box, corner).text = str(int(value)) if value == int(value) else repr(value)
    ET.indent(annotation)
    return ET.tostring(annotation, encoding="unicode") + "\n"
