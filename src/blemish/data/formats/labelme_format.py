"""LabelMe: a JSON file for each image, beside it."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from blemish.arrays import BoolArray, FloatArray
from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.polygon_masks import ellipse_outline, outlines_box
from blemish.data.raw_annotations import Box, RawAnnotations, Region
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.errors import BadDataset
from blemish.geometry import mask_box, paste_window
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.imaging import IMAGE_SUFFIXES
from blemish.structures import Dataset, GroundTruth, Sample, Task

HEAD_BYTES = 4096
LOOKED_AT = 50  # files, to recognise the format by
WITHOUT_AREA = frozenset({"line", "linestrip", "point", "points"})


@dataclass
class LabelMeFile:
    """One JSON file.

    Attributes:
        path: the file.
        says_name: the image that it names, a path from its own folder.
        stated_hw: size of the picture that the shapes were drawn on.
        shapes: as they stand in the file.
        flags: which labels hold for the whole image.
    """

    path: Path
    says_name: str = ""
    stated_hw: tuple[int, int] | None = None
    shapes: list[dict[str, Any]] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)


@register("labelme", rank=50, description="LabelMe's .json files beside their images")
class LabelMeReader:
    """Polygons, rectangles, circles and masks of LabelMe and its kin, or flags of whole images."""

    def recognizes(self, path: Path) -> bool:
        """Whether one of the first JSON files of the folder, or of those below, begins as LabelMe's do."""
        if path.is_file():
            return _begins_as_labelme(path)
        # More than one, since the first may be the one that is broken.
        return path.is_dir() and any(map(_begins_as_labelme, islice(_json_files(path), LOOKED_AT)))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """One sample for each JSON file, in the order of their paths."""
        root = path if path.is_dir() else path.parent
        files = [path] if path.is_file() else list(_json_files(path))
        pages = [page for file in files if (page := _read_page(file, context)) is not None]
        if not pages:
            raise BadDataset(f"{path}: no file of LabelMe in it; give the folder that holds them")
        shelf = ImageIndex(context.images or root)
        if any(page.shapes for page in pages):
            return _objects(root, pages, shelf, context)
        return _whole_images(root, pages, shelf, context)


def _json_files(folder: Path) -> Iterator[Path]:
    """The JSON files of a folder and of those below it; not all are listed where the first is enough."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if name.casefold().endswith(".json") and not name.startswith("."):
                yield Path(above, name)


def _begins_as_labelme(file: Path) -> bool:
    if file.suffix.casefold() != ".json":
        return False
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if b"\0" in head:  # UTF-16, which json reads too
        head = head.replace(b"\0", b"").lstrip(b"\xff\xfe")
    head = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    return head.startswith(b"{") and (b'"shapes"' in head or b'"imageData"' in head)


def _read_page(file: Path, context: ReadContext) -> LabelMeFile | None:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        _bad_file(file, f"no valid JSON ({_why(error)})", f"{file}{line}", context)
        return None
    if not isinstance(content, dict):
        _bad_file(file, "no file of LabelMe, which holds one JSON object", str(file), context)
        return None
    shapes = content.get("shapes")
    if shapes is None:
        context.note(f"{file.name} has no shapes and was passed over")
        return None
    if not isinstance(shapes, list) or not all(isinstance(s, dict) for s in shapes):
        _bad_file(file, "its 'shapes' is no list of objects", str(file), context)
        return None
    height, width, flags = (content.get(key) for key in ("imageHeight", "imageWidth", "flags"))
    stated = (int(height), int(width)) if _is_size(height) and _is_size(width) else None
    held = {str(k): bool(v) for k, v in flags.items()} if isinstance(flags, dict) else {}
    return LabelMeFile(file, str(content.get("imagePath") or ""), stated, shapes, held)


def _why(error: ValueError | RecursionError) -> str:
    """What keeps a text from being JSON."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return "not in UTF-8" if isinstance(error, UnicodeDecodeError) else "a number has too many digits"


def _bad_file(file: Path, what: str, origin: str, context: ReadContext) -> None:
    context.problem(
        "bad-file",
        what,
        origin=origin,
        path=file,
        remedy="mend or remove it",
        fix="leaves the image out",
    )


def _is_size(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 1 <= value < 1e6


def _image(page: LabelMeFile, shelf: ImageIndex, root: Path, context: ReadContext) -> Path | None:
    """The image of a page: as it names it from its own folder, else that of its stem, else by name.

    A path that leads out of the data set's surroundings is not followed: whoever opens a set that somebody
    else made does not want it to take in, and later copy, what else lies on the disk.
    """
    own = page.path.parent
    named = own / page.says_name.replace("\\", "/") if page.says_name else None
    suffixes = dict.fromkeys(["" if named is None else named.suffix, *sorted(IMAGE_SUFFIXES)])
    names = [own / f"{page.path.stem}{suffix}" for suffix in suffixes]
    beside = [found for name in names if (found := _placed(name, shelf, root)) is not None]
    meant = None if named is None else _placed(named, shelf, root)
    if meant is None:
        meant = beside[0] if beside else None
    elif beside and meant not in beside and meant.with_suffix(".json").is_file():
        context.problem(
            "other-filename",
            f"it names {page.says_name!r}, which has a file of its own",
            origin=str(page.path),
            path=beside[0],
            remedy=f"correct imagePath; {beside[0].name}, which lies beside it, was taken",
            severity=Severity.WARNING,
            fix="writes the right name",
        )
        meant = beside[0]
    if meant is not None:
        return meant
    return shelf.by_name(page.says_name, own.name) if page.says_name else shelf.by_stem(page.path.stem)


def _placed(candidate: Path, shelf: ImageIndex, root: Path) -> Path | None:
    """The image at a path, if one lies there, below the shelf, the data set or the folder around it."""
    plain = Path(os.path.abspath(candidate))  # noqa: PTH100 - links stay, of which some sets are made
    below = Path(os.path.abspath(shelf.root))  # noqa: PTH100
    if not is_image_name(plain.name) or not plain.is_file():
        return None
    if plain.is_relative_to(below):  # as the shelf lists it, so that one image has one path
        return shelf.find(plain.relative_to(below).as_posix()) or candidate
    around = Path(os.path.abspath(root)).parent  # noqa: PTH100 - "../images/a.png" is LabelMe's habit
    return plain if plain.is_relative_to(around) and around != Path(around.anchor) else None


def _found(
    pages: list[LabelMeFile], shelf: ImageIndex, context: ReadContext, root: Path
) -> Iterator[tuple[LabelMeFile, Path, str | None]]:
    """(page, image, split) of each page whose image is there; the others are told."""
    missing: list[tuple[str, str]] = []
    first: dict[Path, Path] = {}
    out = []
    for page in pages:
        image = _image(page, shelf, root, context)
        if image is None:
            if context.missing != "keep" or context.lenient:
                missing.append((page.says_name or page.path.stem, str(page.path)))
                continue
            image = page.path.parent / (page.says_name or f"{page.path.stem}.jpg")
        if image in first:
            context.problem(
                "repeated-line",
                f"it names {image.name!r}, as {first[image].name} does",
                origin=str(page.path),
                path=image,
                remedy="correct imagePath, or drop one",
                fix="drops the later one",
            )
            continue
        first[image] = page.path
        below = page.path.parts[len(root.parts) : -1]
        out.append((page, image, next((s for s in map(split_named, below) if s), None)))
    context.missing_images(missing, shelf.root, shelf)
    if not out:
        raise BadDataset(f"{root}: none of its images lies in {shelf.root}; say where they are with images=")
    yield from out


def _whole_images(root: Path, pages: list[LabelMeFile], shelf: ImageIndex, context: ReadContext) -> Dataset:
    """A multilabel set from the flags of images in which nothing is drawn."""
    names = list(dict.fromkeys(n for page in pages for n in page.flags))
    if not names:
        raise BadDataset(f"{root}: no file holds a shape or a flag; label some images first")
    labels = labels_with_display_names(names)
    samples = tuple(
        Sample(
            id=sample_id(image, root),
            path=image,
            split=split,
            origin=str(page.path),
            ground_truth=GroundTruth(
                task=Task.MULTILABEL,
                labels=labels,
                label_index=np.array(sorted(labels.index(n) for n, v in page.flags.items() if v), np.int64),
            ),
        )
        for page, image, split in _found(pages, shelf, context, root)
    )
    return Dataset(task=Task.MULTILABEL, labels=labels, samples=samples, root=root, format="labelme")


def _objects(root: Path, pages: list[LabelMeFile], shelf: ImageIndex, context: ReadContext) -> Dataset:
    names = {str(s.get("label") or "").strip() for page in pages for s in page.shapes}
    labels = labels_with_display_names(sorted(names - {""}))
    index = {n: i for i, n in enumerate(labels.names)}
    left_out: Counter[str] = Counter()
    drawn = []
    for page, image, split in _found(pages, shelf, context, root):
        one = RawAnnotations(
            id=sample_id(image, root),
            path=image,
            split=split,
            origin=str(page.path),
            stated_hw=page.stated_hw,
        )
        _draw(page, one, index, left_out, context)
        drawn.append(one)
    for kind, count in left_out.items():
        context.note(f"{count} shapes of type {kind} have no area and were left out")
    task = boxes_or_masks(drawn, context)
    samples = place_all(drawn, task, labels, context)
    return Dataset(task=task, labels=labels, samples=samples, root=root, format="labelme")


def _draw(
    page: LabelMeFile,
    one: RawAnnotations,
    index: dict[str, int],
    left_out: Counter[str],
    context: ReadContext,
) -> None:
    """Give an image the shapes of its page; parts of one group and label are one object."""
    parts: dict[tuple[str, object], int] = {}
    for number, shape in enumerate(page.shapes):
        origin = f"{page.path}: shape {number}"
        name, kind = str(shape.get("label") or "").strip(), str(shape.get("shape_type") or "polygon")
        if kind in WITHOUT_AREA:
            left_out[kind] += 1
            continue
        if not name:
            context.problem(
                "empty-label", "the shape has no label", origin=origin, remedy="name it", fix="drops it"
            )
            continue
        read = _read_shape(kind, shape, page, origin, one, context)
        if read is None:
            continue
        box, region = read
        group = shape.get("group_id")
        group = group if isinstance(group, int | str) or group is None else repr(group)
        before = parts.get((name, group)) if group is not None else None
        earlier = None if before is None else one.regions[before]
        if before is not None and isinstance(region, tuple) and isinstance(earlier, tuple):
            both: tuple[FloatArray, ...] = (*earlier, *region)
            one.regions[before], one.boxes[before] = both, _as_box(outlines_box(both))
            continue
        parts[name, group] = len(one)
        one.add(index[name], box, region=region, origin=origin)


def _read_shape(
    kind: str,
    shape: dict[str, Any],
    page: LabelMeFile,
    origin: str,
    one: RawAnnotations,
    context: ReadContext,
) -> tuple[Box, Region] | None:
    """The box and outline of a shape, pixels of the picture it was drawn on; None where it cannot be read."""

    def wrong(code: str, message: str, severity: Severity = Severity.ERROR) -> None:
        context.problem(
            code,
            message,
            origin=origin,
            path=one.path,
            remedy="draw it again",
            severity=severity,
            fix="drops it",
        )

    try:
        points = np.array(shape.get("points"), np.float64).reshape(-1, 2)
    except (OverflowError, TypeError, ValueError):
        points = np.full((1, 2), np.nan)
    if not len(points) or not (np.abs(points) < MAX_COORDINATE).all():
        wrong("bad-box", f"a {kind} takes points of two numbers each, pixels")
        return None
    if kind == "rectangle" and len(points) in (2, 4):  # LabelMe writes two corners, X-AnyLabeling four
        return _as_box(outlines_box((points,))), None
    if kind == "circle" and len(points) == 2:
        radius = math.dist(points[0], points[1])
        outline = ellipse_outline(points[0].tolist(), (radius, radius))
    elif kind == "polygon" or (kind == "rotation" and len(points) == 4):
        if len(points) < 3:
            wrong("empty-polygon", "an outline takes at least three points", Severity.WARNING)
            return None
        outline = points
    elif kind == "mask" and len(points) == 2:
        return _painted(shape.get("mask"), points.min(0), page, wrong)
    else:
        wrong("bad-box", f"a {kind} of {len(points)} points is no shape that can be read")
        return None
    return _as_box(outlines_box((outline,))), (outline,)


def _as_box(box_xyxy: FloatArray) -> Box:
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2


def _painted(
    value: Any, corner_xy: FloatArray, page: LabelMeFile, wrong: Callable[[str, str], None]
) -> tuple[Box, Region] | None:
    """The mask of a shape that is a picture of its own, packed into the file."""
    if page.stated_hw is None:
        wrong("bad-run-lengths", "a mask needs imageHeight and imageWidth in its file")
        return None
    window = _unpacked(value, page.stated_hw)
    if window is None:
        wrong("bad-run-lengths", "its mask is no picture of black and white inside the image")
        return None
    x, y = np.rint(corner_xy).astype(int).tolist()
    mask = paste_window(window, (x, y), page.stated_hw)
    return _as_box(mask_box(mask)), mask


def _unpacked(value: Any, most_hw: tuple[int, int]) -> BoolArray | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(str(value), validate=True)), formats=["PNG"]) as picture:
            if picture.width > most_hw[1] + 1 or picture.height > most_hw[0] + 1:
                return None
            return np.asarray(picture.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, ValueError):
        return None
