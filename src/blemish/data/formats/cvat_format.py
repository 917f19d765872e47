"""CVAT's own XML, "CVAT for images 1.1": one file for all images."""

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

from blemish.arrays import FloatArray
from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.image_index import ImageIndex, sample_id
from blemish.data.polygon_masks import ellipse_outline, outlines_box, rectangle_outline
from blemish.data.raw_annotations import Box, RawAnnotations, Region
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.errors import BadDataset
from blemish.geometry import mask_box, paste_window
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.structures import Dataset, GroundTruth, Sample, Task

HEAD_BYTES = 2000
SHAPES = frozenset({"box", "polygon", "ellipse", "mask"})
LEFT_OUT = frozenset({"polyline", "points", "cuboid", "skeleton"})
ELEMENT = re.compile(rb"<(?:box|polygon|ellipse|mask|polyline|points|cuboid|skeleton|tag|image)[\s>/]")
COMMENT = re.compile(rb"<!(?:--.*?--|\[CDATA\[.*?\]\])>", re.DOTALL)


@dataclass
class Content:
    """What the files say, before images are looked for.

    Attributes:
        names: labels in the order of the task's list, then those that only shapes name.
        images: one for each `<image>`.
        left_out: how many shapes of each kind have no area.
    """

    names: dict[str, None] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass
class Image:
    """One `<image>`: its name, size and split, its shapes and tags with the lines where they stand."""

    name: str
    origin: str
    stated_hw: tuple[int, int] | None
    split: str | None
    shapes: list[tuple[str, ET.Element, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@register("cvat", rank=35, description="annotations.xml of CVAT for images 1.1")
class CvatReader:
    """Boxes, polygons, ellipses and masks of a task or project, or the tags of whole images."""

    def recognizes(self, path: Path) -> bool:
        """Whether it is, or holds, an XML file that begins as CVAT's do."""
        return bool(_files(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """One sample for each `<image>`, in the order of the files."""
        files = _files(path)
        if not files:
            raise BadDataset(f"{path}: no XML file of CVAT in it; give the path of annotations.xml")
        root = path if path.is_dir() else path.parent
        content = Content()
        for file in files:
            split = split_named(file.stem) if len(files) > 1 else None
            _read_file(file, split, content, context)
        if not content.names:
            raise BadDataset(f"{path}: it names no label; label some images first")
        for kind, count in content.left_out.items():
            context.note(f"{count} shapes of kind {kind} have no area and were left out")
        shelf = ImageIndex(context.images or root)
        placed = _placed(content.images, shelf, root, context)
        if not placed:
            raise BadDataset(
                f"{path}: it names no image that lies in {shelf.root}; say where they are with images="
            )
        if any(image.shapes for image, _ in placed):
            return _objects(placed, content, root, context)
        return _whole_images(placed, content, root)


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.glob("*.xml")) if path.is_dir() else []
    return [f for f in found if f.suffix.casefold() == ".xml" and _begins_as_cvat(f)]


def _begins_as_cvat(file: Path) -> bool:
    with file.open("rb") as stream:
        return b"<annotations" in stream.read(HEAD_BYTES)


def _read_file(file: Path, split: str | None, content: Content, context: ReadContext) -> None:
    raw = file.read_bytes()
    lines = _lines(raw)
    try:
        if b"<!ENTITY" in raw:
            raise ET.ParseError("it defines entities, which no annotation needs")
        parents: list[str] = []
        image: Image | None = None
        for event, element in ET.iterparse(io.BytesIO(raw), events=("start", "end")):  # noqa: S314
            if event == "start":
                if element.tag == "track":
                    raise BadDataset(
                        f"{file}: these are tracks of a video; export the task as CVAT for images 1.1"
                    )
                line = next(lines, 0) if element.tag in ("tag", "image", *SHAPES, *LEFT_OUT) else 0
                origin = f"{file}:{line}"
                if element.tag == "image":
                    image = _image(element, origin, split)
                    content.images.append(image)
                elif image is not None and parents[-1] == "image":
                    _note_shape(element, origin, image, content, context)
                parents.append(element.tag)
                continue
            parents.pop()
            if element.tag == "label" and parents[-1:] == ["labels"]:
                name = (element.findtext("name") or "").strip()
                if name and not element.findtext("parent"):  # a skeleton's parts name theirs
                    content.names.setdefault(name)
            elif element.tag == "image":
                element.clear()  # what a hundred thousand images leave behind fills the memory
                image = None
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two of encodings
        if isinstance(error, BadDataset):
            raise
        line = error.position[0] if isinstance(error, ET.ParseError) and hasattr(error, "position") else 1
        raise BadDataset(f"{file}:{line}: no valid XML ({error}); mend it there") from error


def _lines(raw: bytes) -> Iterator[int]:
    """The line of each element that is asked for, in their order."""
    number, at = 1, 0
    # What stands in a comment is no element, and its lines still count.
    raw = COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), raw)
    for found in ELEMENT.finditer(raw):
        number += raw.count(b"\n", at, found.start())
        at = found.start()
        yield number


def _image(element: ET.Element, origin: str, split: str | None) -> Image:
    try:
        height, width = (int(element.get(side, "0")) for side in ("height", "width"))
    except ValueError:
        height = width = 0
    stated = (height, width) if 0 < height < MAX_COORDINATE and 0 < width < MAX_COORDINATE else None
    return Image(element.get("name", ""), origin, stated, split_named(element.get("subset", "")) or split)


def _note_shape(
    element: ET.Element, origin: str, image: Image, content: Content, context: ReadContext
) -> None:
    if element.tag in LEFT_OUT:
        content.left_out[element.tag] += 1
        return
    if element.tag not in SHAPES and element.tag != "tag":
        return
    name = element.get("label", "").strip()
    if not name:
        context.problem(
            "empty-label",
            f"the {element.tag} has no label",
            origin=origin,
            remedy="name it",
            fix="drops it",
        )
        return
    content.names.setdefault(name)
    if element.tag == "tag":
        image.tags.append(name)
    else:
        image.shapes.append((name, ET.Element(element.tag, element.attrib), origin))


def _placed(
    images: list[Image], shelf: ImageIndex, root: Path, context: ReadContext
) -> list[tuple[Image, RawAnnotations]]:
    """Each entry with its image; those that nobody finds, or that stand there twice, are told."""
    missing: list[tuple[str, str]] = []
    placed: dict[Path, tuple[Image, RawAnnotations]] = {}
    for entry in images:
        image = shelf.by_name(entry.name)
        if image is None:
            if context.missing != "keep" or context.lenient:
                missing.append((entry.name, entry.origin))
                continue
            image = shelf.root / entry.name
        first = placed[image][0] if image in placed else None
        if first is not None and first.split and entry.split and first.split != entry.split:
            if _says(first) != _says(entry):
                context.problem(
                    "contradicting-labels",
                    f"{entry.name!r} stands in {first.split} and in {entry.split}, with other labels in each",
                    origin=entry.origin,
                    path=image,
                    remedy="decide which are right, and list it in one subset only",
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
                remedy="drop one, and give its shapes to the other",
                fix="drops the later one",
            )
            continue
        one = RawAnnotations(
            id=sample_id(image, root),
            path=image,
            split=entry.split,
            origin=entry.origin,
            stated_hw=entry.stated_hw,
        )
        placed[image] = (entry, one)
    context.missing_images(missing, shelf.root, shelf)
    return list(placed.values())


def _says(image: Image) -> list[object]:
    """What stands in an image, to compare."""
    return [*image.tags, *((name, element.tag, element.attrib) for name, element, _ in image.shapes)]


def _whole_images(placed: list[tuple[Image, RawAnnotations]], content: Content, root: Path) -> Dataset:
    """A multilabel set from the tags of images in which nothing is drawn."""
    labels = labels_with_display_names(content.names)
    samples = tuple(
        Sample(
            id=one.id,
            path=one.path,
            split=one.split,
            origin=one.origin,
            ground_truth=GroundTruth(
                task=Task.MULTILABEL,
                labels=labels,
                label_index=np.array(sorted({labels.index(n) for n in image.tags}), np.int64),
            ),
        )
        for image, one in placed
    )
    return Dataset(task=Task.MULTILABEL, labels=labels, samples=samples, root=root, format="cvat")


def _objects(
    placed: list[tuple[Image, RawAnnotations]], content: Content, root: Path, context: ReadContext
) -> Dataset:
    labels = labels_with_display_names(content.names)
    index = {n: i for i, n in enumerate(labels.names)}
    tags = sum(len(image.tags) for image, _ in placed)
    if tags:
        context.note(f"{tags} tags of whole images were left out, since others have shapes")
    for image, one in placed:
        for name, element, origin in image.shapes:
            read = _read_shape(element, origin, one, context)
            if read is not None:
                one.add(index[name], read[0], region=read[1], origin=origin)
    drawn = [one for _, one in placed]
    task = boxes_or_masks(drawn, context)
    samples = place_all(drawn, task, labels, context)
    return Dataset(task=task, labels=labels, samples=samples, root=root, format="cvat")


def _read_shape(
    element: ET.Element, origin: str, one: RawAnnotations, context: ReadContext
) -> tuple[Box, Region] | None:
    """The box and outline of a shape, pixels of the picture it was drawn on; None where it cannot be read."""
    code, message, severity = "bad-box", "", Severity.ERROR
    try:
        if element.tag == "mask":
            code = "bad-run-lengths"
            return _mask(element, one)
        numbers = _numbers(element)
        if element.tag == "polygon" and len(numbers) < 6:
            code, message, severity = "empty-polygon", "at least three points", Severity.WARNING
            raise ValueError
    except ValueError as error:
        context.problem(
            code,
            f"the {element.tag} cannot be read: it takes {message or error}",
            origin=origin,
            path=one.path,
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
                f"the box {numbers} ends before it begins",
                origin=origin,
                path=one.path,
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
    return _as_box(outlines_box((outline,))), (outline,)


NUMBERS = {"box": ("xtl", "ytl", "xbr", "ybr", "rotation"), "ellipse": ("cx", "cy", "rx", "ry", "rotation")}


def _numbers(element: ET.Element) -> list[float]:
    """The numbers of a shape, its rotation in degrees last.

    Raises:
        ValueError: they are not as they should be; the text says what it takes.
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


def _mask(element: ET.Element, one: RawAnnotations) -> tuple[Box, Region]:
    """A mask of run lengths, row by row inside its window, the first run being background.

    Raises:
        ValueError: they do not fit the window; the text says what it takes.
    """
    try:
        runs = np.array([int(v) for v in element.get("rle", "").split(",")], np.int64)
        left, top, width, height = (
            int(float(element.get(k, ""))) for k in ("left", "top", "width", "height")
        )
    except (OverflowError, ValueError):
        raise ValueError("whole numbers: rle, left, top, width, height") from None
    if one.stated_hw is None:
        raise ValueError("the width and height of its image")
    fits = 0 < width <= one.stated_hw[1] + 1 and 0 < height <= one.stated_hw[0] + 1
    fits = fits and abs(left) < MAX_COORDINATE and abs(top) < MAX_COORDINATE
    # Each run for itself first: a sum of very long ones turns over and looks small.
    if not fits or (runs < 0).any() or (runs > width * height).any() or runs.sum() > width * height:
        total = sum(runs.tolist())
        raise ValueError(
            f"a window inside the image and runs that fill it, not {total} of {width} x {height}"
        )
    window = np.zeros(width * height, bool)
    ends = np.cumsum(runs).tolist()
    for start, stop in list(pairwise(ends))[::2]:
        window[start:stop] = True
    mask = paste_window(window.reshape(height, width), (left, top), one.stated_hw)
    return _as_box(mask_box(mask)), mask


def _as_box(box_xyxy: FloatArray) -> Box:
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2
