"""The labelme format: one JSON file per image, next to it."""

from __future__ import annotations

import base64
import binascii
import hashlib
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
from blemish.data.formats.labelme_writer import write_labelme
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.polygon_masks import ellipse_outline, outlines_box
from blemish.data.raw_annotations import Box, RawAnnotations, Region, as_box
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.user_cache import save_bytes
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset, BadImage
from blemish.geometry import mask_box, paste_window
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.imaging import IMAGE_SUFFIXES, SUFFIXES, read_header
from blemish.structures import Dataset, GroundTruth, Sample, Task

HEAD_BYTES = 4096
MAX_FILES_TO_RECOGNIZE = 50  # the format is recognized by one of the first files
SHAPES_WITHOUT_AREA = frozenset({"line", "linestrip", "point", "points"})


@dataclass
class LabelMeFile:
    """One JSON file.

    Attributes:
        path: the file.
        image_name: the image as written, a path relative to the folder of the file.
        stated_hw: height and width of the annotated image, in pixels, or None.
        shapes: as written.
        flags: whether each label applies to the whole image.
    """

    path: Path
    image_name: str = ""
    stated_hw: tuple[int, int] | None = None
    shapes: list[dict[str, Any]] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)


@register("labelme", rank=50, description="LabelMe's .json files next to their images")
class LabelMeFormat:
    """Polygons, rectangles, circles and masks of LabelMe and related tools, or the flags of images."""

    def recognizes(self, path: Path) -> bool:
        """Return whether the file, or one of the first JSON files below the folder, is one of LabelMe."""
        if path.is_file():
            return _starts_like_labelme(path)
        # The first file may be a damaged one.
        return path.is_dir() and any(
            map(_starts_like_labelme, islice(_json_files(path), MAX_FILES_TO_RECOGNIZE))
        )

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per JSON file, in the order of their paths."""
        root = path if path.is_dir() else path.parent
        files = [path] if path.is_file() else list(_json_files(path))
        labelme_files = [f for file in files if (f := _read_file(file, context)) is not None]
        if not labelme_files:
            raise BadDataset(
                "found no file of LabelMe",
                where=path,
                remedy="pass the folder of the JSON files",
                reason="no-label-file",
            )
        image_index = ImageIndex(context.images or root)
        if any(labelme_file.shapes for labelme_file in labelme_files):
            return _read_shapes(root, labelme_files, image_index, context)
        return _read_flags(root, labelme_files, image_index, context)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write JSON files next to the images."""
        write_labelme(dataset, root, context)


def _json_files(folder: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder and its subfolders; the folders are listed lazily."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if name.casefold().endswith(".json") and not name.startswith("."):
                yield Path(above, name)


def _starts_like_labelme(file: Path) -> bool:
    if file.suffix.casefold() != ".json":
        return False
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if b"\0" in head:  # UTF-16, which json reads too
        head = head.replace(b"\0", b"").lstrip(b"\xff\xfe")
    head = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    return head.startswith(b"{") and (b'"shapes"' in head or b'"imageData"' in head)


def _read_file(file: Path, context: ReadContext) -> LabelMeFile | None:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        _report_file(file, f"invalid JSON ({_cause(error)})", f"{file}{line}", context)
        return None
    if not isinstance(content, dict) and _has_image(file):
        _report_file(file, "expected one JSON object, as in LabelMe", str(file), context)
        return None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if shapes is None:
        context.note(f"{file.name} has no list of shapes and was left out")
        return None
    if not isinstance(shapes, list) or not all(isinstance(s, dict) for s in shapes):
        _report_file(file, "shapes: expected a list of objects", str(file), context)
        return None
    height, width, flags = (content.get(key) for key in ("imageHeight", "imageWidth", "flags"))
    stated = (int(height), int(width)) if _is_size(height) and _is_size(width) else None
    true_flags = {str(k): bool(v) for k, v in flags.items()} if isinstance(flags, dict) else {}
    return LabelMeFile(file, str(content.get("imagePath") or ""), stated, shapes, true_flags)


def _has_image(file: Path) -> bool:
    """Return whether an image with the stem of a file is next to it."""
    return any(file.with_suffix(suffix).is_file() for suffix in IMAGE_SUFFIXES)


def _cause(error: ValueError | RecursionError) -> str:
    """Return why a text is not valid JSON."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, RecursionError):
        return "nested too deep"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number has too many digits"


def _report_file(file: Path, message: str, origin: str, context: ReadContext) -> None:
    context.problem(
        "bad-file",
        message,
        origin=origin,
        path=file,
        remedy="correct or remove it",
        fix="leaves the image out",
    )


def _is_size(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 1 <= value < 1e6


def _image(
    labelme_file: LabelMeFile, image_index: ImageIndex, root: Path, context: ReadContext
) -> Path | None:
    """Return the image of a file: at the path it states, else the one with its stem, else one of that name.

    A path that leads outside the data set and its parent folder is not followed, so that a data set from an
    untrusted source cannot read, and later copy, other images of the disk.
    """
    own = labelme_file.path.parent
    named = own / labelme_file.image_name.replace("\\", "/") if labelme_file.image_name else None
    suffixes = dict.fromkeys(["" if named is None else named.suffix, *sorted(IMAGE_SUFFIXES)])
    names = [own / f"{labelme_file.path.stem}{suffix}" for suffix in suffixes]
    neighbors = [p for name in names if (p := _existing_image(name, image_index, root)) is not None]
    chosen = None if named is None else _existing_image(named, image_index, root)
    if chosen is None:
        chosen = neighbors[0] if neighbors else None
    elif neighbors and chosen not in neighbors and chosen.with_suffix(".json").is_file():
        context.problem(
            "other-filename",
            f"imagePath is {labelme_file.image_name!r}, which has its own JSON file",
            origin=str(labelme_file.path),
            path=neighbors[0],
            remedy=f"correct imagePath; {neighbors[0].name}, which is next to the file, was used",
            severity=Severity.WARNING,
            fix="writes the correct name",
        )
        chosen = neighbors[0]
    if chosen is not None:
        return chosen
    return (
        image_index.by_name(labelme_file.image_name, own.name)
        if labelme_file.image_name
        else image_index.by_stem(labelme_file.path.stem)
    )


def _embedded_image(labelme_file: LabelMeFile, context: ReadContext) -> Path | None:
    """Return a copy, in the cache folder, of the image inside a file; None if there is none or no cache."""
    try:
        text = json.loads(labelme_file.path.read_bytes()).get("imageData") or ""
        data = base64.b64decode(text, validate=True)
        header = read_header(data)
    except (BadImage, OSError, RecursionError, TypeError, ValueError):
        return None
    digest = hashlib.sha256(data).hexdigest()[:32]
    name = f"labelme/{labelme_file.path.stem}-{digest}{SUFFIXES[header.format][0]}"
    path = save_bytes(name, data)
    if path is not None:
        context.note("images that are only in imageData were written to the cache folder")
    return path


def _existing_image(candidate: Path, image_index: ImageIndex, root: Path) -> Path | None:
    """Return the image at a path if it exists and is below the images, the data set or its parent folder."""
    plain = Path(os.path.abspath(candidate))  # noqa: PTH100 - keeps symbolic links
    below = Path(os.path.abspath(image_index.root))  # noqa: PTH100
    if not is_image_name(plain.name) or not plain.is_file():
        return None
    if plain.is_relative_to(below):  # as the index lists it, so that one image has one path
        return image_index.find(plain.relative_to(below).as_posix()) or candidate
    parent = Path(os.path.abspath(root)).parent  # noqa: PTH100 - LabelMe writes "../images/a.png"
    return plain if plain.is_relative_to(parent) and parent != Path(parent.anchor) else None


def _match_images(
    labelme_files: list[LabelMeFile], image_index: ImageIndex, context: ReadContext, root: Path
) -> Iterator[tuple[LabelMeFile, Path, str | None]]:
    """Yield file, image and split of each file whose image exists; report the others."""
    missing: list[tuple[str, str]] = []
    first: dict[Path, Path] = {}
    matched = []
    for labelme_file in labelme_files:
        image = _image(labelme_file, image_index, root, context)
        if image is None:
            image = _embedded_image(labelme_file, context)
        if image is None:
            if context.missing != "keep" or context.lenient:
                missing.append((labelme_file.image_name or labelme_file.path.stem, str(labelme_file.path)))
                continue
            image = labelme_file.path.parent / (labelme_file.image_name or f"{labelme_file.path.stem}.jpg")
        if image in first:
            context.problem(
                "repeated-line",
                f"imagePath is {image.name!r}, as in {first[image].name}",
                origin=str(labelme_file.path),
                path=image,
                remedy="correct imagePath, or remove one of the files",
                fix="drops the later one",
            )
            continue
        first[image] = labelme_file.path
        below = labelme_file.path.parts[len(root.parts) : -1]
        matched.append((labelme_file, image, next((s for s in map(split_named, below) if s), None)))
    context.missing_images(missing, image_index.root, image_index)
    if not matched:
        raise BadDataset(
            f"none of the listed images is in {image_index.root}",
            where=root,
            remedy="pass the folder of the images with --images",
            reason="no-images",
        )
    yield from matched


def _read_flags(
    root: Path, labelme_files: list[LabelMeFile], image_index: ImageIndex, context: ReadContext
) -> Dataset:
    """Return a multilabel data set from the flags of images without shapes."""
    names = list(dict.fromkeys(n for labelme_file in labelme_files for n in labelme_file.flags))
    if not names:
        raise BadDataset(
            "no file has a shape or a flag", where=root, remedy="label some images first", reason="no-labels"
        )
    labels = labels_with_display_names(names)
    samples = tuple(
        Sample(
            id=sample_id(image, root),
            path=image,
            split=split,
            origin=str(labelme_file.path),
            ground_truth=GroundTruth(
                task=Task.MULTILABEL,
                labels=labels,
                label_index=np.array(
                    sorted(labels.index(n) for n, v in labelme_file.flags.items() if v), np.int64
                ),
            ),
        )
        for labelme_file, image, split in _match_images(labelme_files, image_index, context, root)
    )
    return Dataset(task=Task.MULTILABEL, labels=labels, samples=samples, root=root, format="labelme")


def _read_shapes(
    root: Path, labelme_files: list[LabelMeFile], image_index: ImageIndex, context: ReadContext
) -> Dataset:
    names = {str(s.get("label") or "").strip() for labelme_file in labelme_files for s in labelme_file.shapes}
    labels = labels_with_display_names(sorted(names - {""}))
    index = {n: i for i, n in enumerate(labels.names)}
    left_out: Counter[str] = Counter()
    annotations = []
    for labelme_file, image, split in _match_images(labelme_files, image_index, context, root):
        raw = RawAnnotations(
            id=sample_id(image, root),
            path=image,
            split=split,
            origin=str(labelme_file.path),
            stated_hw=labelme_file.stated_hw,
        )
        _add_shapes(labelme_file, raw, index, left_out, context)
        annotations.append(raw)
    for kind, count in left_out.items():
        context.note(f"{count} shapes of type {kind} have no area and were left out")
    task = boxes_or_masks(annotations, context)
    samples = place_all(annotations, task, labels, context)
    return Dataset(task=task, labels=labels, samples=samples, root=root, format="labelme")


def _add_shapes(
    labelme_file: LabelMeFile,
    raw: RawAnnotations,
    index: dict[str, int],
    left_out: Counter[str],
    context: ReadContext,
) -> None:
    """Add the shapes of a file to its image; polygons of one group and label are one object."""
    parts: dict[tuple[str, object], int] = {}
    for number, shape in enumerate(labelme_file.shapes):
        origin = f"{labelme_file.path}: shape {number}"
        name, kind = str(shape.get("label") or "").strip(), str(shape.get("shape_type") or "polygon")
        if kind in SHAPES_WITHOUT_AREA:
            left_out[kind] += 1
            continue
        if not name:
            context.problem(
                "empty-label", "shape: expected a label", origin=origin, remedy="add a label", fix="drops it"
            )
            continue
        read = _read_shape(kind, shape, labelme_file, origin, raw, context)
        if read is None:
            continue
        box, region = read
        group = shape.get("group_id")
        group = group if isinstance(group, int | str) or group is None else repr(group)
        row = parts.get((name, group)) if group is not None else None
        earlier = None if row is None else raw.regions[row]
        if row is not None and isinstance(region, tuple) and isinstance(earlier, tuple):
            joined: tuple[FloatArray, ...] = (*earlier, *region)
            raw.regions[row], raw.boxes[row] = joined, as_box(outlines_box(joined))
            continue
        parts[name, group] = len(raw)
        raw.add(index[name], box, region=region, origin=origin)


def _read_shape(
    kind: str,
    shape: dict[str, Any],
    labelme_file: LabelMeFile,
    origin: str,
    raw: RawAnnotations,
    context: ReadContext,
) -> tuple[Box, Region] | None:
    """Return box and region of a shape, in pixels of the annotated image, or None for an invalid shape."""

    def report(code: str, message: str, severity: Severity = Severity.ERROR) -> None:
        context.problem(
            code,
            message,
            origin=origin,
            path=raw.path,
            remedy="draw it again",
            severity=severity,
            fix="drops it",
        )

    try:
        points = np.array(shape.get("points"), np.float64).reshape(-1, 2)
    except (OverflowError, TypeError, ValueError):
        points = np.full((1, 2), np.nan)
    if not len(points) or not (np.abs(points) < MAX_COORDINATE).all():
        report("bad-box", f"{kind}: expected points of two finite numbers each, in pixels")
        return None
    if kind == "rectangle" and len(points) in (2, 4):  # LabelMe writes two corners, X-AnyLabeling four
        return as_box(outlines_box((points,))), None
    if kind == "circle" and len(points) == 2:
        radius = math.dist(points[0], points[1])
        outline = ellipse_outline(points[0].tolist(), (radius, radius))
    elif kind == "polygon" or (kind in ("rotation", "oriented_rectangle") and len(points) == 4):
        if len(points) < 3:
            report(
                "empty-polygon",
                f"{kind}: expected at least three points, got {len(points)}",
                Severity.WARNING,
            )
            return None
        outline = points
    elif kind == "mask" and len(points) == 2:
        return _read_mask(shape.get("mask"), points.min(0), labelme_file, report)
    else:
        report("bad-box", f"expected a supported shape, got {kind!r} with {len(points)} points")
        return None
    return as_box(outlines_box((outline,))), (outline,)


def _read_mask(
    value: Any, corner_xy: FloatArray, labelme_file: LabelMeFile, report: Callable[[str, str], None]
) -> tuple[Box, Region] | None:
    """Return box and mask of a shape whose pixels are an embedded PNG."""
    if labelme_file.stated_hw is None:
        report("bad-run-lengths", "mask: expected imageHeight and imageWidth in the file")
        return None
    window = _decode_mask(value, labelme_file.stated_hw)
    if window is None:
        report("bad-run-lengths", "mask: expected an embedded black and white PNG inside the image")
        return None
    x, y = np.rint(corner_xy).astype(int).tolist()
    mask = paste_window(window, (x, y), labelme_file.stated_hw)
    return as_box(mask_box(mask)), mask


def _decode_mask(value: Any, max_hw: tuple[int, int]) -> BoolArray | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(str(value), validate=True)), formats=["PNG"]) as png:
            if png.width > max_hw[1] + 1 or png.height > max_hw[0] + 1:
                return None
            return np.asarray(png.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, ValueError):
        return None
