"""The labelstudio format: JSON and JSON-MIN of Label Studio, one file for all tasks."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from blemish.arrays import FloatArray, Mask
from blemish.data.formats import register
from blemish.data.formats.labelstudio_brush import decode_brush
from blemish.data.formats.labelstudio_writer import CONFIG_NAME, write_labelstudio
from blemish.data.image_index import is_image_name
from blemish.data.json_files import json_files, load_json_file
from blemish.data.label_builder import LabelBuilder, as_points
from blemish.data.polygon_masks import ellipse_outline
from blemish.data.raw_annotations import Box, RawAnnotations, Region, as_box
from blemish.data.read_context import ReadContext
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.structures import Dataset

UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the names of uploaded files
WITHOUT_AREA = frozenset({"keypoint", "vector"})
OTHER_RESULTS = frozenset({"textarea", "rating", "number", "relation", "pairwise", "taxonomy", "datetime"})
GEOMETRIES = ("rectangle", "polygon", "ellipse", "brush", "keypoint", "vector")
SIZE_KEYS = ("original_height", "original_width")


@register("labelstudio", rank=46, description="JSON of Label Studio next to the images")
class LabelStudioFormat:
    """Rectangles, polygons, ellipses and brush masks, or the choices of images."""

    def recognizes(self, path: Path) -> bool:
        """Return whether there is a JSON file of tasks, in the folder or in its split folders."""
        return bool(json_files(path, _starts_like_tasks))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per annotated task, in the order of the files."""
        files = json_files(path, _starts_like_tasks) or ({path: None} if path.is_file() else {})
        if not files:
            raise BadDataset(
                "found no JSON file of Label Studio",
                where=path,
                remedy="pass the path of the file",
                reason="no-label-file",
            )
        builder = LabelBuilder("labelstudio", path if path.is_dir() else path.parent, context)
        builder.several_labels = _allows_several_choices(builder.root)
        unlabeled = 0
        tasks = {file: list(_tasks(file)) for file in files}
        predicted = not any(_is_annotated(task) for listed in tasks.values() for _, task in listed)
        for file, split in files.items():
            for number, task in tasks[file]:
                origin = f"{file}: task {task.get('id', number)}"
                results = _results(task, origin, context)
                if results is None and predicted and (results := _predicted(task)) is not None:
                    context.note("no task has an annotation, so the predictions of the tasks were read")
                if results is None:
                    unlabeled += 1
                    continue
                raw = _image(task, results, file, split, origin, builder)
                if raw is not None:
                    _add_results(results, raw, builder, origin)
        if unlabeled:
            context.note(f"{unlabeled} tasks have no annotation and were left out")
        return builder.dataset(path)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `tasks.json` next to the images of each split, and the labeling interface."""
        write_labelstudio(dataset, root, context)


def _starts_like_tasks(head: bytes) -> bool:
    if not head.startswith(b"["):
        return False
    answers = (b'"annotations"', b'"completions"', b'"predictions"')
    full = any(key in head for key in answers) and b'"result"' in head and b'"data"' in head
    return full or b'"original_width"' in head or (b'"annotation_id"' in head and b'"image"' in head)


def _allows_several_choices(root: Path) -> bool:
    """Return whether the labeling interface next to the tasks, if there is one, has multiple choices."""
    file = root / CONFIG_NAME
    content = file.read_bytes() if file.is_file() else b""
    return b"<Choices" in content and b'choice="multiple"' in content


def _tasks(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    content = load_json_file(file)
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise BadDataset(
            "expected a list of tasks, as in Label Studio",
            where=file,
            remedy="export the project again as JSON",
            reason="invalid-entry",
        )
    yield from enumerate(content, 1)


def _results(task: Mapping[str, Any], origin: str, context: ReadContext) -> list[dict[str, Any]] | None:
    """Return the results of the annotation of a task, or None if it has none.

    Of several annotations, the one that is marked as ground truth is read, or else the first, which is
    reported if the others differ.
    """
    if not {"annotations", "completions", "predictions"} & task.keys():
        return _minimal_results(task)
    listed = task.get("annotations", task.get("completions"))
    entries = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    usable = [a for a in entries if not a.get("was_cancelled") and isinstance(a.get("result"), list)]
    chosen = [a for a in usable if a.get("ground_truth")] or usable
    if not chosen:
        return None
    values = [[r.get("value") for r in a["result"] if isinstance(r, dict)] for a in chosen]
    if any(other != values[0] for other in values[1:]):
        context.problem(
            "contradicting-labels",
            f"{len(chosen)} annotations differ",
            origin=origin,
            remedy="mark one as ground truth, or delete the others",
        )
    return [r for r in chosen[0]["result"] if isinstance(r, dict)]


def _is_annotated(task: Mapping[str, Any]) -> bool:
    """Return whether a task has an annotation, or a value of JSON-MIN."""
    if "annotations" in task or "completions" in task:
        return bool(task.get("annotations") or task.get("completions"))
    return "predictions" not in task


def _predicted(task: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the results of the last prediction of a task, or None if it has none."""
    listed = task.get("predictions")
    usable = (
        [p["result"] for p in listed if isinstance(p, dict) and isinstance(p.get("result"), list)]
        if (isinstance(listed, list))
        else []
    )
    return [r for r in usable[-1] if isinstance(r, dict)] if usable else None


def _minimal_results(task: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the values of JSON-MIN as results of the full export."""
    results: list[dict[str, Any]] = []
    for key, value in task.items():
        if isinstance(value, list):
            regions = [e for e in value if isinstance(e, dict) and "original_width" in e]
            results += [{"value": entry, **{k: entry.get(k) for k in SIZE_KEYS}} for entry in regions]
        elif isinstance(value, dict) and isinstance(value.get("choices"), list):
            results.append({"value": value, "type": "choices"})
        elif key in ("choice", "label", "class") and isinstance(value, str):
            results.append({"value": {"choices": [value]}, "type": "choices"})
    return results if results or task.get("annotation_id") is not None else None


def _image(
    task: Mapping[str, Any],
    results: list[dict[str, Any]],
    file: Path,
    split: str | None,
    origin: str,
    builder: LabelBuilder,
) -> RawAnnotations | None:
    data = task.get("data", task)
    texts = [str(v) for v in data.values() if isinstance(v, str)] if isinstance(data, dict) else []
    names = [name for text in texts if is_image_name(name := _file_name(text))]
    if not names:
        builder.context.problem(
            "missing-image",
            f"data: expected the path of an image, got {', '.join(map(repr, texts[:3])) or 'nothing'}",
            origin=origin,
            remedy="export the tasks with their images",
            fix="drops the task",
        )
        return None
    name = names[0]
    plain = UPLOAD_PREFIX.sub("", name)
    if plain != name and builder.images.by_name(name) is None and builder.images.by_name(plain) is not None:
        name = plain
    sizes = {(r.get("original_height"), r.get("original_width")) for r in results}
    stated = {(h, w) for h, w in sizes if isinstance(h, int) and isinstance(w, int) and min(h, w) > 0}
    stated_hw = next(iter(stated)) if len(stated) == 1 else None
    return builder.image(name, origin=origin, folder=file.parent, split=split, stated_hw=stated_hw)


def _file_name(text: str) -> str:
    """Return the file name of a path or address: `/data/upload/1/a.jpg`, `/data/local-files/?d=cars/a.jpg`.

    Example:
        >>> _file_name("/data/local-files/?d=cars/a%20b.jpg"), _file_name("s3://bucket/cars/a.jpg")
        ('a b.jpg', 'a.jpg')
    """
    address = urlsplit(text)
    inside = parse_qs(address.query).get("d")
    return unquote(inside[0] if inside else address.path).replace("\\", "/").rpartition("/")[2]


def _add_results(
    results: list[dict[str, Any]], raw: RawAnnotations, builder: LabelBuilder, origin: str
) -> None:
    """Add the regions and choices of a task; geometry and label of one region may be in two results."""
    labels: dict[str, list[str]] = defaultdict(list)
    shapes: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
    for number, result in enumerate(results):
        content = result.get("value")
        value: dict[str, Any] = content if isinstance(content, dict) else {}
        kind, identity = str(result.get("type") or ""), str(result.get("id") or number)
        if isinstance(value.get("choices"), list):
            _add_choices(value["choices"], result, raw, builder)
            continue
        geometry = _geometry_of(kind, value)
        for key, names in value.items():
            if (key == "labels" or key.endswith("labels")) and isinstance(names, list):
                labels[identity] += [str(n) for n in names if str(n) not in labels[identity]]
        if geometry and identity not in {s[1] for s in shapes}:
            shapes.append((geometry, identity, result, value))
        elif not geometry and kind in OTHER_RESULTS:
            builder.context.note(f"results of type {kind} were left out")
    for number, (geometry, identity, result, value) in enumerate(shapes):
        place = f"{origin}: region {number}"
        if geometry in WITHOUT_AREA:
            builder.leave_out(geometry)
            continue
        names = labels[identity]
        if len(names) > 1:
            builder.context.problem(
                "several-labels",
                f"region: expected one label, got {', '.join(names)}",
                origin=place,
                path=raw.path,
                remedy="choose one",
                fix="uses the first",
            )
        try:
            box, region = _read_shape(geometry, value, result)
        except ValueError as error:
            builder.report_shape(geometry, str(error), raw, place)
            continue
        builder.add(raw, names[0] if names else "", box_xyxy=box, region=region, origin=place)


def _add_choices(
    choices: list[Any], result: Mapping[str, Any], raw: RawAnnotations, builder: LabelBuilder
) -> None:
    builder.several_labels |= len(choices) > 1
    if isinstance(result.get("value"), dict) and "x" in result["value"]:
        builder.context.note("choices of regions were left out")
        return
    for choice in choices:
        builder.label_image(raw, str(choice).strip())


def _geometry_of(kind: str, value: Mapping[str, Any]) -> str:
    """Return the kind of shape of a result, or "" if it has none."""
    for name in GEOMETRIES:
        if kind.startswith(name):
            return name
    if "rle" in value:
        return "brush"
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    return "rectangle" if {"x", "y", "width", "height"} <= value.keys() else ""


def _read_shape(
    geometry: str, value: Mapping[str, Any], result: Mapping[str, Any]
) -> tuple[Box | None, Region]:
    """Return box and region in pixels of the annotated image; Label Studio states percent of its size.

    Raises:
        ValueError: the numbers are invalid; the message describes valid ones.
    """
    size = as_points([[result.get("original_width"), result.get("original_height")]])
    if size is None or (size < 1).any():
        raise ValueError("original_width and original_height in pixels")
    if result.get("image_rotation"):
        raise ValueError("an image that was not rotated in Label Studio (image_rotation: 0)")
    scale = size[0] / 100
    if geometry == "brush":
        width, height = size[0].astype(int).tolist()
        return None, _brush(value, (height, width))
    if geometry == "polygon":
        points = as_points(value.get("points"))
        if points is None or len(points) < 3:
            raise ValueError("at least three points in percent")
        return None, (points * scale,)
    keys = ("x", "y", "radiusX", "radiusY") if geometry == "ellipse" else ("x", "y", "width", "height")
    pairs = as_points([[value.get(key), 0] for key in keys])
    rotation = value.get("rotation") or 0.0
    if pairs is None or (pairs[2:] < 0).any() or not isinstance(rotation, int | float):
        raise ValueError(f"finite numbers in percent: {', '.join(keys)}")
    corner, extent = pairs[:2, 0] * scale, pairs[2:, 0] * scale
    if geometry == "ellipse":
        return None, (ellipse_outline(corner.tolist(), extent.tolist(), float(rotation)),)
    if not rotation:
        return as_box(np.concatenate([corner, corner + extent])), None
    return None, (_rotated(corner, extent, float(rotation)),)


def _rotated(corner: FloatArray, extent: FloatArray, degrees: float) -> FloatArray:
    """Return the (4, 2) corners of a rectangle that is turned clockwise about its upper left corner."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64) * extent
    corners: FloatArray = corner + offsets @ np.array([[cosine, sine], [-sine, cosine]])
    return corners


def _brush(value: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    if value.get("format", "rle") != "rle":
        raise ValueError("a brush mask in the format rle")
    mask = decode_brush(value.get("rle"), size_hw)
    if not mask.area:
        raise ValueError("a mask with at least one pixel")
    return mask
