"""One page of Pascal VOC: the XML file of an image, read and written."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blemish.data.read_context import ReadContext
from blemish.structures import Sample

FIRST_PIXEL_IS_ONE = "first pixel 1"  # what our own files say, so that nobody has to guess


@dataclass(slots=True)
class Written:
    """One object as its XML file says it."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    truncated: bool
    line: int


@dataclass(slots=True)
class VocAnnotation:
    """One XML file."""

    path: Path
    stated_hw: tuple[int, int] | None = None
    says_first_pixel: bool = False
    says_name: str = ""
    objects: list[Written] = field(default_factory=list)


def read_page(file: Path, context: ReadContext) -> VocAnnotation | None:
    """What an XML file says, or None where it cannot be read, which `context` is told."""
    raw = file.read_bytes()
    try:
        if b"<!ENTITY" in raw:
            raise ET.ParseError("it defines entities, which no annotation needs")
        root = ET.fromstring(raw)  # noqa: S314 - entities are refused above
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two of encodings
        line = error.position[0] if isinstance(error, ET.ParseError) and hasattr(error, "position") else 1
        context.problem(
            "bad-file",
            f"no valid XML ({error})",
            origin=f"{file}:{line}",
            path=file,
            remedy="mend it, save it in UTF-8, or remove it",
            fix="leaves the image out",
        )
        return None
    if root.tag.casefold() != "annotation":
        context.problem(
            "bad-file",
            f"no page of Pascal VOC, it begins with <{root.tag}> and not with <annotation>"[:200],
            origin=str(file),
            path=file,
            remedy="write it again or remove it",
            fix="leaves the image out",
        )
        return None
    page = VocAnnotation(
        file, says_first_pixel=FIRST_PIXEL_IS_ONE in (root.findtext("source/annotation") or "")
    )
    page.says_name = (root.findtext("filename") or "").strip()
    try:
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except (OverflowError, ValueError):
        height = width = 0
    page.stated_hw = (height, width) if height > 0 and width > 0 else None
    lines = [n for n, text in enumerate(raw.split(b"\n"), 1) for _ in range(text.count(b"<object"))]
    for number, element in enumerate(root.iter("object")):
        line = lines[number] if number < len(lines) else 1
        corners = _corners(element, file, line, context)
        name = (element.findtext("name") or "").strip()
        if corners is None:
            continue
        if not name:
            context.problem(
                "empty-label",
                "the object has no name",
                origin=f"{file}:{line}",
                remedy="name it",
                fix="drops it",
            )
            continue
        flags = (_flag(element, "difficult"), _flag(element, "truncated"))
        page.objects.append(Written(name, corners, *flags, line))
    return page


def _corners(
    element: ET.Element, file: Path, line: int, context: ReadContext
) -> tuple[float, float, float, float] | None:
    texts = [element.findtext(f"bndbox/{c}") for c in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(t or "none") for t in texts)
        finite = abs(x1) + abs(y1) + abs(x2) + abs(y2) < 1e9
    except ValueError:
        finite = False
    if not finite:
        context.problem(
            "bad-box",
            f"a bndbox takes xmin, ymin, xmax and ymax, not {texts}",
            origin=f"{file}:{line}",
            path=file,
            remedy="correct or drop the object",
            fix="drops it",
        )
        return None
    if x2 < x1 or y2 < y1:
        context.problem(
            "box-inside-out",
            f"the box {[x1, y1, x2, y2]} ends before it begins",
            origin=f"{file}:{line}",
            path=file,
            remedy="correct its corners",
            fix="swaps its corners",
        )
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _flag(element: ET.Element, name: str) -> bool:
    return (element.findtext(name) or "0").strip() in ("1", "true", "True")


def page_text(sample: Sample, name: str) -> str:
    """The XML file of a sample; its pixels count from 1, as the first one of the image does in VOC."""
    page = ET.Element("annotation")
    ET.SubElement(page, "folder").text = "JPEGImages"
    ET.SubElement(page, "filename").text = name
    source = ET.SubElement(page, "source")
    ET.SubElement(source, "annotation").text = f"blemish, {FIRST_PIXEL_IS_ONE}"
    if sample.size_hw is not None:
        size = ET.SubElement(page, "size")
        for side, value in (("width", sample.size_hw[1]), ("height", sample.size_hw[0]), ("depth", 3)):
            ET.SubElement(size, side).text = str(value)
    ground_truth = sample.ground_truth
    ET.SubElement(page, "segmented").text = str(
        int(ground_truth is not None and ground_truth.masks is not None)
    )
    for row, label in enumerate(() if ground_truth is None else ground_truth.label_names):
        thing = ET.SubElement(page, "object")
        ET.SubElement(thing, "name").text = label
        truncated = bool(ground_truth.truncated[row]) if ground_truth.truncated.size else False  # type: ignore[union-attr]
        ET.SubElement(thing, "truncated").text = str(int(truncated))
        ET.SubElement(thing, "difficult").text = str(int(ground_truth.difficult[row]))  # type: ignore[union-attr]
        corners = ground_truth.boxes_xyxy[row] + np.array([1, 1, 0, 0])  # type: ignore[union-attr, index]
        box = ET.SubElement(thing, "bndbox")
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), corners.tolist(), strict=True):
            ET.SubElement(box, corner).text = str(int(value)) if value == int(value) else repr(value)
    ET.indent(page)
    return ET.tostring(page, encoding="unicode") + "\n"
