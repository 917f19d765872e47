"""The ndjson format of Ultralytics: a line of JSON for the data set, and one for each image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.formats import register
from blemish.data.formats.ndjson_writer import SEVERAL_LABELS, write_ndjson
from blemish.data.json_files import json_files
from blemish.data.label_builder import LabelBuilder, as_points
from blemish.data.raw_annotations import RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.structures import Dataset

SUFFIX = ".ndjson"
BOX_KEYS = ("boxes", "pose")  # the keypoints after the box of a pose are left out
OUTLINE_KEYS = ("segments", "obb")


@register("ndjson", rank=44, description="an .ndjson file of Ultralytics next to the images")
class NdjsonFormat:
    """Boxes, polygons, oriented boxes and labels of images, in fractions of width and height."""

    def recognizes(self, path: Path) -> bool:
        """Return whether there is an .ndjson file whose first line describes a data set."""
        return bool(json_files(path, _starts_like_ndjson, SUFFIX))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per line of an image, in their order."""
        files = json_files(path, _starts_like_ndjson, SUFFIX) or ({path: None} if path.is_file() else {})
        if len(files) != 1:
            shown = ", ".join(f.name for f in files)
            raise BadDataset(
                f"expected one .ndjson file, got {shown or 'none'}",
                where=path,
                remedy="pass the path of the file",
                reason="no-single-file",
            )
        file = next(iter(files))
        builder = LabelBuilder("ndjson", path if path.is_dir() else path.parent, context)
        names: list[str] = []
        for number, entry in _lines(file):
            origin = f"{file}:{number}"
            if entry.get("type") == "dataset":
                names = _names(entry.get("class_names"), origin)
                builder.declare(names)
                builder.several_labels = entry.get(SEVERAL_LABELS) is True
                continue
            raw = builder.image(
                str(entry.get("file") or ""),
                origin=origin,
                folder=file.parent,
                split=split_named(str(entry.get("split") or "")),
                relative=True,
            )
            if raw is not None:
                _add_annotations(entry.get("annotations"), names, raw, builder, origin)
        return builder.dataset(path, ordered=True)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `dataset.ndjson` and the folder `images`."""
        write_ndjson(dataset, root, context)


def _starts_like_ndjson(head: bytes) -> bool:
    first = head.split(b"\n", 1)[0]
    return first.startswith(b"{") and b'"class_names"' in first


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and content of each line.

    Raises:
        BadDataset: a line is not a JSON object.
    """
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise BadDataset(
                "expected one JSON object per line",
                where=f"{file}:{number}",
                remedy="export the file again",
                reason="invalid-json",
            )
        yield number, content


def _names(value: object, origin: str) -> list[str]:
    """Return the names of the labels in the order of their indices, counted from 0."""
    entries = value if isinstance(value, dict) and all(str(k).isdecimal() for k in value) else {}
    names = {int(k): str(v).strip() for k, v in entries.items()}
    if sorted(names) != list(range(len(names))) or not names or not all(names.values()):
        raise BadDataset(
            "class_names: expected names with the keys 0, 1, 2, ...",
            where=origin,
            remedy="correct the first line",
            reason="label-names",
        )
    return [names[i] for i in range(len(names))]


def _add_annotations(
    value: object, names: list[str], raw: RawAnnotations, builder: LabelBuilder, origin: str
) -> None:
    annotations: Mapping[str, Any] = value if isinstance(value, dict) else {}
    for kind, entries in annotations.items():
        known = kind in (*BOX_KEYS, *OUTLINE_KEYS, "classification")
        if not known or not isinstance(entries, list):
            builder.report_shape(str(kind), "boxes, segments, obb, pose or classification", raw, origin)
            continue
        for entry in entries:
            numbers = entry if isinstance(entry, list) else [entry]
            label = numbers[0] if numbers else None
            if not isinstance(label, int) or not 0 <= label < len(names):
                builder.context.problem(
                    "unknown-label",
                    f"{kind}: label index {label!r} is not among the {len(names)} names",
                    origin=origin,
                    path=raw.path,
                    remedy="add its name to class_names or correct the index",
                    fix="drops it",
                )
            elif kind == "classification":
                builder.label_image(raw, names[label])
            elif kind in BOX_KEYS:
                _add_box(kind, numbers[1:], names[label], raw, builder, origin)
            else:
                _add_outline(kind, numbers[1:], names[label], raw, builder, origin)


def _add_box(
    kind: str, numbers: list[Any], label: str, raw: RawAnnotations, builder: LabelBuilder, origin: str
) -> None:
    points = as_points([[v, 0] for v in numbers[:4]])
    if points is None or len(points) != 4 or (points[2:, 0] < 0).any():
        builder.report_shape(kind, "center, width and height as fractions", raw, origin)
        return
    if kind == "pose":
        builder.context.note("keypoints were left out")
    x, y, width, height = points[:, 0].tolist()
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    builder.add(raw, label, box_xyxy=box, origin=origin)


def _add_outline(
    kind: str, numbers: list[Any], label: str, raw: RawAnnotations, builder: LabelBuilder, origin: str
) -> None:
    points = as_points([[v, 0] for v in numbers])
    if points is None or len(points) < 6 or len(points) % 2:
        builder.report_shape(kind, "at least three points as fractions", raw, origin)
        return
    builder.add(raw, label, region=(np.ascontiguousarray(points[:, 0].reshape(-1, 2)),), origin=origin)
