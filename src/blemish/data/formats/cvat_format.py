"""The cvat format: the XML of "CVAT for images 1.1", one file for all images."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.formats.cvat_writer import write_cvat
from blemish.data.image_index import ImageIndex, sample_id
from blemish.data.polygon_masks import ellipse_outline, outlines_box, rectangle_outline
from blemish.data.raw_annotations import Box, RawAnnotations, Region, as_box
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.geometry import mask_box, paste_window
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.structures import Dataset, GroundTruth, Sample, Task

HEAD_BYTES = 2000
SAME_BOX_PIXELS = 1.0  # between a box and the bounding box of the outline of the same object
SHAPES = frozenset({"box", "polygon", "ellipse", "mask"})
SHAPES_WITHOUT_AREA = frozenset({"polyline", "points", "cuboid", "skeleton"})
ELEMENT = re.compile(rb"<(?:box|polygon|ellipse|mask|polyline|points|cuboid|skeleton|tag|image)[\s>/]")
COMMENT = re.compile(rb"<!(?:--.*?--|\[CDATA\[.*?\]\])>", re.DOTALL)


@dataclass
class CvatContent:
    """The content of the files, before their images are searched.

    Attributes:
        names: names of the labels in the order of the task's list, then of those that only shapes have.
        images: one per `<image>` element.
        left_out: number of shapes without area of each kind.
    """

    names: dict[str, None] = field(default_factory=dict)
    images: list[CvatImage] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass
class CvatImage:
    """One `<image>` element.

    Attributes:
        name: the file name of the image as written.
        origin: file and line of the element.
        stated_hw: height and width in pixels, or None.
        split: train, val, test or None.
        shapes: label, element and origin of each shape.
        tags: label of each tag.
    """

    name: str
    origin: str
    stated_hw: tuple[int, int] | None
    split: str | None
    shapes: list[tuple[str, ET.Element, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@register("cvat", rank=35, description="annotations.xml of CVAT for images 1.1")
class CvatFormat:
    """Boxes, polygons, ellipses and masks of a task or project, or the tags of its images."""

    def recognizes(self, path: Path) -> bool:
        """Return whether the path is, or contains, an XML file that starts like one of CVAT."""
        return bool(_cvat_files(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per `<image>` element, in the order of the files."""
        files = _cvat_files(path)
        if not files:
            raise BadDataset(
                "found no XML file of CVAT",
                where=path,
                remedy="pass the path of annotations.xml",
                reason="no-label-file",
            )
        root = path if path.is_dir() else path.parent
        content = CvatContent()
        for file in files:
            split = split_named(file.stem) if len(files) > 1 else None
            _read_file(file, split, content, context)
        if not content.names:
            raise BadDataset(
                "no image has a label", where=path, remedy="label some images first", reason="no-labels"
            )
        for kind, count in content.left_out.items():
            context.note(f"{count} shapes of type {kind} have no area and were left out")
        image_index = ImageIndex(context.images or root)
        matched = _match_images(content.images, image_index, root, context)
        if not matched:
            raise BadDataset(
                f"none of the listed images is in {image_index.root}",
                where=path,
                remedy="pass the folder of the images with --images",
                reason="no-images",
            )
        if any(image.shapes for image, _ in matched):
            return _read_shapes(matched, content, root, context)
        return _read_tags(matched, content, root)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `annotations.xml` and the folder `images`."""
        write_cvat(dataset, root, context)


def _cvat_files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.glob("*.xml")) if path.is_dir() else []
    return [f for f in found if f.suffix.casefold() == ".xml" and _starts_like_cvat(f)]


def _starts_like_cvat(file: Path) -> bool:
    with file.open("rb") as stream:
        return b"<annotations" in stream.read(HEAD_BYTES)


def _read_file(file: Path, split: str | None, content: CvatContent, context: ReadContext) -> None:
    raw = file.read_bytes()
    lines = _lines(raw)
    try:
        if b"<!ENTITY" in raw:
            raise ET.ParseError("it defines entities, which annotations do not need")
        parents: list[str] = []
        image: CvatImage | None = None
        for event, element in ET.iterparse(io.BytesIO(raw), events=("start", "end")):  # noqa: S314
            if event == "start":
                if element.tag == "track":
                    raise BadDataset(
                        "the file contains tracks of a video",
                        where=file,
                        remedy="export the task as CVAT for images 1.1",
                        reason="video-tracks",
                    )
                line = next(lines, 0) if element.tag in ("tag", "image", *SHAPES, *SHAPES_WITHOUT_AREA) else 0
                origin = f"{file}:{line}"
                if element.tag == "image":
                    image = _image(element, origin, split)
                    content.images.append(image)
                elif image is not None and parents[-1] == "image":
                    _add_shape(element, origin, image, content, context)
                parents.append(element.tag)
                continue
            parents.pop()
            if element.tag == "label" and parents[-1:] == ["labels"]:
                name = (element.findtext("name") or "").strip()
                if name and not element.findtext("parent"):  # the parts of a skeleton have a parent
                    content.names.setdefault(name)
            elif element.tag == "image":
                element.clear()  # the elements of 100,000 images would fill the memory
                image = None
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two come from encodings
        if isinstance(error, BadDataset):
            raise
        line = error.position[0] if isinstance(error, ET.ParseError) and hasattr(error, "position") else 1
        raise BadDataset(
            f"invalid XML ({error})",
            where=f"{file}:{line}",
            remedy="correct the file",
            reason="invalid-xml",
        ) from error


def _lines(raw: bytes) -> Iterator[int]:
    """Yield the line number of each element that `ELEMENT` matches, in the order of the file."""
    number, position = 1, 0
    # Elements in a comment do not count; its lines do.
    raw = COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), raw)
    for match in ELEMENT.finditer(raw):
        number += raw.count(b"\n", position, match.start())
        position = match.start()
        yield number


def _image(element: ET.Element, origin: str, split: str | None) -> CvatImage:
    try:
        height, width = (int(element.get(side, "0")) for side in ("height", "width"))
    except ValueError:
        height = width = 0
    stated_hw = (height, width) if 0 < height < MAX_COORDINATE and 0 < width < MAX_COORDINATE else None
    return CvatImage(
        element.get("name", ""), origin, stated_hw, split_named(element.get("subset", "")) or split
    )


def _add_shape(
    element: ET.Element, origin: str, image: CvatImage, content: CvatContent, context: ReadContext
) -> None:
    if element.tag in SHAPES_WITHOUT_AREA:
        content.left_out[element.tag] += 1
        return
    if element.tag not in SHAPES and element.tag != "tag":
        return
    name = element.get("label", "").strip()
    if not name:
        context.problem(
            "empty-label",
            f"{element.tag}: expected a label",
            origin=origin,
            remedy="add a label",
            fix="drops it",
        )
        return
    content.names.setdefault(name)
    if element.tag == "tag":
        image.tags.append(name)
    else:
        image.shapes.append((name, ET.Element(element.tag, element.attrib), origin))


def _match_images(
    images: list[CvatImage], image_index: ImageIndex, root: Path, context: ReadContext
) -> list[tuple[CvatImage, RawAnnotations]]:
    """Return each `<image>` element with its image; report images that do not exist or are listed twice."""
    missing: list[tuple[str, str]] = []
    matched: dict[Path, tuple[CvatImage, RawAnnotations]] = {}
    for entry in images:
        image = image_index.by_name(entry.name, split=entry.split)
        if image is None:
            if context.missing != "keep" or context.lenient:
                missing.append((entry.name, entry.origin))
                continue
            image = image_index.root / entry.name
        first = matched[image][0] if image in matched else None
        if first is not None and first.split and entry.split and first.split != entry.split:
            if _annotations_of(first) != _annotations_of(entry):
                context.problem(
                    "contradicting-labels",
                    f"{entry.name!r} is in {first.split} and in {entry.split}, with different labels",
                    origin=entry.origin,
                    path=image,
                    remedy="keep the correct labels, and list the image in one subset only",
                )
            if (
                context.in_two_splits(entry.name, first.split, entry.split, origin=entry.origin)
                == first.split
            ):
                continue
        elif first is not None:
            context.problem(
                "repeated-line",
                f"{entry.name!r} is listed twice",
                origin=entry.origin,
                path=image,
                remedy="remove one, and move its shapes to the other",
                fix="drops the later one",
            )
            continue
        raw = RawAnnotations(
            id=sample_id(image, root),
            path=image,
            split=entry.split,
            origin=entry.origin,
            stated_hw=entry.stated_hw,
        )
        matched[image] = (entry, raw)
    context.missing_images(missing, image_index.root, image_index)
    return list(matched.values())


def _annotations_of(image: CvatImage) -> list[object]:
    """Return the tags and shapes of an image for a comparison."""
    return [*image.tags, *((name, element.tag, element.attrib) for name, element, _ in image.shapes)]


def _read_tags(matched: list[tuple[CvatImage, RawAnnotations]], content: CvatContent, root: Path) -> Dataset:
    """Return a multilabel data set from the tags of images without shapes."""
    labels = labels_with_display_names(content.names)
    samples = tuple(
        Sample(
            id=raw.id,
            path=raw.path,
            split=raw.split,
            origin=raw.origin,
            ground_truth=GroundTruth(
                task=Task.MULTILABEL,
                labels=labels,
                label_index=np.array(sorted({labels.index(n) for n in image.tags}), np.int64),
            ),
        )
        for image, raw in matched
    )
    return Dataset(task=Task.MULTILABEL, labels=labels, samples=samples, root=root, format="cvat")


def _read_shapes(
    matched: list[tuple[CvatImage, RawAnnotations]], content: CvatContent, root: Path, context: ReadContext
) -> Dataset:
    labels = labels_with_display_names(content.names)
    index = {n: i for i, n in enumerate(labels.names)}
    tags = sum(len(image.tags) for image, _ in matched)
    if tags:
        context.note(f"{tags} tags of images were left out, because other images have shapes")
    for image, raw in matched:
        groups: list[str] = []
        for name, element, origin in image.shapes:
            read = _read_shape(element, origin, raw, context)
            if read is not None:
                raw.add(index[name], read[0], region=read[1], origin=origin)
                groups.append(element.get("group_id", "0"))
        _drop_boxes_of_outlines(raw, groups, context)
    annotations = [raw for _, raw in matched]
    task = boxes_or_masks(annotations, context)
    samples = place_all(annotations, task, labels, context)
    return Dataset(task=task, labels=labels, samples=samples, root=root, format="cvat")


def _drop_boxes_of_outlines(raw: RawAnnotations, groups: list[str], context: ReadContext) -> None:
    """Drop and report each box whose object has an outline too, in the same group, as Datumaro writes them.

    Args:
        raw: the shapes of one image.
        groups: the group of each shape; "0" for none.
        context: receives the findings.
    """
    outlines: dict[tuple[int, str], list[int]] = {}
    for row, region in enumerate(raw.regions):
        if region is not None and groups[row] != "0":
            outlines.setdefault((raw.label_index[row], groups[row]), []).append(row)
    kept = np.ones(len(raw), bool)
    for row, region in enumerate(raw.regions):
        for other in outlines.get((raw.label_index[row], groups[row]), ()) if region is None else ():
            if np.allclose(raw.boxes[row], raw.boxes[other], atol=SAME_BOX_PIXELS):
                kept[row] = False
                context.note("boxes of objects that have an outline in the same group were left out")
                context.problem(
                    "repeated-object",
                    f"the box is that of the outline at {raw.origins[other]}, in the same group",
                    origin=raw.origins[row],
                    path=raw.path,
                    remedy="no action is necessary: the outline is read as one object",
                    severity=Severity.WARNING,
                    fix="drops the box",
                )
    if not kept.all():
        rest = raw.select(kept)
        for name in (
            "label_index",
            "boxes",
            "regions",
            "crowd",
            "difficult",
            "truncated",
            "areas",
            "origins",
        ):
            setattr(raw, name, getattr(rest, name))


def _read_shape(
    element: ET.Element, origin: str, raw: RawAnnotations, context: ReadContext
) -> tuple[Box, Region] | None:
    """Return box and region of a shape, in pixels of the annotated image, or None for an invalid shape."""
    code, expected, severity = "bad-box", "", Severity.ERROR
    try:
        if element.tag == "mask":
            code = "bad-run-lengths"
            return _mask(element, raw)
        numbers = _numbers(element)
        if element.tag == "polygon" and len(numbers) < 6:
            code, expected, severity = "empty-polygon", "at least three points", Severity.WARNING
            raise ValueError
    except ValueError as error:
        context.problem(
            code,
            f"{element.tag}: expected {expected or error}",
            origin=origin,
            path=raw.path,
            remedy="draw it again",
            severity=severity,
            fix="drops it",
        )
        return None
    degrees = numbers.pop() if element.tag != "polygon" else 0.0
    if element.tag == "box":
        x1, y1, x2, y2 = numbers
        if x2 < x1 or y2 < y1:
            context.problem(
                "box-inside-out",
                f"box: expected xtl <= xbr and ytl <= ybr, got {numbers}",
                origin=origin,
                path=raw.path,
                remedy="correct its corners",
                fix="swaps its corners",
            )
        box = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        if not degrees:
            return box, None
        outline = rectangle_outline(box, degrees)
    elif element.tag == "ellipse":
        outline = ellipse_outline(numbers[:2], numbers[2:], degrees)
    else:
        outline = np.array(numbers).reshape(-1, 2)
    return as_box(outlines_box((outline,))), (outline,)


NUMBERS = {"box": ("xtl", "ytl", "xbr", "ybr", "rotation"), "ellipse": ("cx", "cy", "rx", "ry", "rotation")}


def _numbers(element: ET.Element) -> list[float]:
    """Return the numbers of a shape, for boxes and ellipses with the rotation in degrees last.

    Raises:
        ValueError: the numbers are invalid; the message describes valid ones.
    """
    try:
        if element.tag == "polygon":
            pairs = [p.split(",") for p in element.get("points", "").split(";") if p.strip()]
            numbers = [float(v) for x, y in pairs for v in (x, y)]
        else:
            numbers = [
                float(element.get(name) or ("0" if name == "rotation" else "none"))
                for name in NUMBERS[element.tag]
            ]
    except ValueError:
        numbers = [float("nan")]
    if not (np.abs(numbers) < MAX_COORDINATE).all():
        names = "points x,y;x,y;..." if element.tag == "polygon" else ", ".join(NUMBERS[element.tag])
        raise ValueError(f"finite numbers: {names}")
    return numbers


def _mask(element: ET.Element, raw: RawAnnotations) -> tuple[Box, Region]:
    """Return box and mask of run lengths, in row-major order inside a window, the first run being background.

    Raises:
        ValueError: the runs do not fit the window; the message describes valid ones.
    """
    try:
        runs = np.array([int(v) for v in element.get("rle", "").split(",")], np.int64)
        left, top, width, height = (
            int(float(element.get(k, ""))) for k in ("left", "top", "width", "height")
        )
    except (OverflowError, ValueError):
        raise ValueError("integers: rle, left, top, width, height") from None
    if raw.stated_hw is None:
        raise ValueError("the width and height of its image")
    fits = 0 < width <= raw.stated_hw[1] + 1 and 0 < height <= raw.stated_hw[0] + 1
    fits = fits and abs(left) < MAX_COORDINATE and abs(top) < MAX_COORDINATE
    # Each run is checked on its own first, because the sum of very long runs overflows.
    if not fits or (runs < 0).any() or (runs > width * height).any() or runs.sum() > width * height:
        total = sum(runs.tolist())
        raise ValueError(
            f"a window inside the image and runs that fit it, got {total} pixels in {width} x {height}"
        )
    window = np.zeros(width * height, bool)
    ends = np.cumsum(runs).tolist()
    for start, stop in list(pairwise(ends))[::2]:
        window[start:stop] = True
    mask = paste_window(window.reshape(height, width), (left, top), raw.stated_hw)
    return as_box(mask_box(mask)), mask
