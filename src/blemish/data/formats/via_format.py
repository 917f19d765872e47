"""The via format: JSON or CSV of the VGG Image Annotator 1 and 2, one file in all or one per split."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.formats import register
from blemish.data.formats.via_writer import write_via
from blemish.data.json_files import json_files, load_json_file
from blemish.data.label_builder import DEFAULT_LABEL, LabelBuilder, as_points
from blemish.data.polygon_masks import ellipse_outline
from blemish.data.raw_annotations import Box, RawAnnotations, Region
from blemish.data.read_context import ReadContext
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.structures import Dataset

SHAPE_COLUMN = "region_shape_attributes"
LABEL_ATTRIBUTES = ("label", "class", "category", "type", "name", "damage", "defect")
CLOSED_POLYLINE_PIXELS = 5.0  # a polyline whose ends are closer is an outline


@register("via", rank=45, description="JSON or CSV of the VGG Image Annotator next to the images")
class ViaFormat:
    """Polygons, rectangles, circles and ellipses with the region attribute that contains the label."""

    def recognizes(self, path: Path) -> bool:
        """Return whether there is a JSON or CSV file of VIA, in the folder or in its split folders."""
        return bool(_via_files(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of the files."""
        files = _via_files(path) or ({path: None} if path.is_file() else {})
        if not files:
            raise BadDataset(
                "found no JSON or CSV file of VIA",
                where=path,
                remedy="pass the path of the file",
                reason="no-label-file",
            )
        root = path if path.is_dir() else path.parent
        builder = LabelBuilder("via", root, context)
        entries = {file: list(_entries(file)) for file in files}
        every = [entry for listed in entries.values() for _, entry in listed]
        regions = [region for entry in every for region in _regions(entry)]
        attributes = [_mapping(region.get("region_attributes")) for region in regions]
        if not regions:
            attributes = [_mapping(entry.get("file_attributes")) for entry in every]
        attribute = _label_attribute(attributes, path, context)
        for file, split in files.items():
            for key, entry in entries[file]:
                origin = f"{file}: {key}"
                name = str(entry.get("filename") or key)
                raw = builder.image(name, origin=origin, folder=file.parent, split=split)
                if raw is None:
                    continue
                if not regions:
                    _label_image(entry, attribute, raw, builder)
                for number, region in enumerate(_regions(entry)):
                    _add_region(region, attribute, raw, builder, f"{origin}: region {number}")
        return builder.dataset(path)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write a project next to the images of each split."""
        write_via(dataset, root, context)


def _via_files(path: Path) -> dict[Path, str | None]:
    """Return the JSON files of VIA with their splits, or its CSV files if there are no JSON files."""
    return json_files(path, _starts_like_via) or json_files(path, _starts_like_via_csv, ".csv")


def _starts_like_via_csv(head: bytes) -> bool:
    return SHAPE_COLUMN.encode() in head.split(b"\n", 1)[0]


def _starts_like_via(head: bytes) -> bool:
    if not head.startswith(b"{"):
        return False
    if all(key in head for key in (b'"project"', b'"pid"', b'"config"', b'"attribute"')):
        return True  # VIA 3, which is refused by name
    return b'"_via_' in head or (b'"filename"' in head and b'"regions"' in head and b"_attributes" in head)


def _entries(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield key and entry of each image of a project or an export.

    Raises:
        BadDataset: the file is of VIA 3, or not of VIA.
    """
    if file.suffix.casefold() == ".csv":
        yield from _entries_of_csv(file)
        return
    content = load_json_file(file)
    metadata = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(metadata, dict) or "metadata" in metadata:
        raise BadDataset(
            "expected a project or export of VIA 2",
            where=file,
            remedy="export the annotations of VIA 3 as COCO",
            reason="unsupported-version",
        )
    for key, entry in metadata.items():
        if isinstance(entry, dict) and not key.startswith("_via_"):
            yield str(key), entry


def _entries_of_csv(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield file name and entry of each image of a CSV export, which has one line per region.

    Raises:
        BadDataset: a line is not of VIA.
    """
    entries: dict[str, dict[str, Any]] = {}
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        lines = csv.DictReader(stream, skipinitialspace=True)
        for line in lines:
            name = (line.get("filename") or line.get("#filename") or "").strip()
            try:
                attributes, shape, region = (
                    json.loads(line.get(key) or "{}")
                    for key in ("file_attributes", SHAPE_COLUMN, "region_attributes")
                )
            except (ValueError, RecursionError):
                name = ""
            if not name:
                raise BadDataset(
                    "expected a file name, and JSON in the columns of attributes, as VIA writes them",
                    where=f"{file}:{lines.line_num}",
                    remedy="export the annotations again",
                    reason="invalid-entry",
                )
            entry = entries.setdefault(
                name, {"filename": name, "regions": [], "file_attributes": _mapping(attributes)}
            )
            if shape:
                entry["regions"].append({"shape_attributes": shape, "region_attributes": region})
    yield from entries.items()


def _regions(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the regions of an image: a list in VIA 2, a mapping of numbers in VIA 1."""
    regions = entry.get("regions")
    values = list(regions.values()) if isinstance(regions, dict) else regions
    return [r for r in values if isinstance(r, dict)] if isinstance(values, list) else []


def _mapping(value: object) -> dict[str, Any]:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def _label_attribute(attributes: list[dict[str, Any]], path: Path, context: ReadContext) -> str | None:
    """Return the attribute that contains the label: the one the user chose, or the only one with values.

    Raises:
        BadDataset: there are several, and none or more than one has a usual name.
    """
    counts: dict[str, int] = {}
    for found in attributes:
        for name, value in found.items():
            counts[name] = counts.get(name, 0) + bool(_values(value))
    chosen = context.columns.get("label")
    if chosen is not None:
        if chosen not in counts:
            raise BadDataset(
                f"no region has the attribute {chosen!r}",
                where=path,
                remedy=f"choose one of {', '.join(sorted(counts)) or 'none'} with --column label=ATTRIBUTE",
                reason="label-attribute",
            )
        return str(chosen)
    filled = [name for name, count in counts.items() if count]
    usual = [name for name in filled if name.casefold() in LABEL_ATTRIBUTES]
    if len(filled) > 1 and len(usual) != 1:
        raise BadDataset(
            f"expected one attribute with the label, got {', '.join(filled)}",
            where=path,
            remedy="choose one with --column label=ATTRIBUTE",
            reason="label-attribute",
        )
    if len(filled) > 1:
        others = ", ".join(name for name in filled if name not in usual)
        context.note(f"the attribute {usual[0]} is the label; {others} was not read")
        return usual[0]
    return filled[0] if filled else None


def _values(value: object) -> list[str]:
    """Return the values of an attribute: a text, or the checked options of a checkbox."""
    if isinstance(value, dict):
        return [str(name).strip() for name, checked in value.items() if checked]
    text = "" if value is None else str(value).strip()
    return [text] if text else []


def _label_image(
    entry: Mapping[str, Any], attribute: str | None, raw: RawAnnotations, builder: LabelBuilder
) -> None:
    value = _mapping(entry.get("file_attributes")).get(attribute or "")
    builder.several_labels |= isinstance(value, dict)
    for label in _values(value):
        builder.label_image(raw, label)


def _add_region(
    region: Mapping[str, Any], attribute: str | None, raw: RawAnnotations, builder: LabelBuilder, origin: str
) -> None:
    shape = _mapping(region.get("shape_attributes"))
    kind = str(shape.get("name") or "")
    labels = _values(_mapping(region.get("region_attributes")).get(attribute or ""))
    if attribute is None:
        builder.context.note(f"the regions have no attributes; their label is {DEFAULT_LABEL!r}")
        labels = [DEFAULT_LABEL]
    if len(labels) > 1:
        builder.context.problem(
            "several-labels",
            f"region: expected one label, got {', '.join(labels)}",
            origin=origin,
            path=raw.path,
            remedy="choose one",
            fix="uses the first",
        )
    read = _read_shape(kind, shape)
    if isinstance(read, str):
        if read:
            builder.report_shape(kind or "region", read, raw, origin)
        else:
            builder.leave_out(kind)
        return
    box, found = read
    builder.add(raw, labels[0] if labels else "", box_xyxy=box, region=found, origin=origin)


def _read_shape(kind: str, shape: Mapping[str, Any]) -> tuple[Box | None, Region] | str:
    """Return box and region of a shape, "" for a shape without area, or a description of valid numbers."""
    if kind in ("polygon", "polyline"):
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            return "all_points_x and all_points_y of the same length"
        points = as_points(list(zip(x, y, strict=True)))
        if points is None or len(points) < (3 if kind == "polygon" else 2):
            return "at least three points of finite numbers"
        if kind == "polyline" and not _is_closed(points):
            return ""
        return None, (points,)
    if kind == "point":
        return ""
    names = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }.get(kind)
    if names is None:
        return "polygon, rect, circle, ellipse, polyline or point"
    pairs = as_points([[shape.get(name), 0] for name in names])
    if pairs is None or (pairs[2:, 0] < 0).any():
        return f"finite numbers: {', '.join(names)}"
    numbers = pairs[:, 0].tolist()
    if kind == "rect":
        x1, y1, width, height = numbers
        return (x1, y1, x1 + width, y1 + height), None
    radii = (numbers[2], numbers[-1])
    theta = shape.get("theta")
    degrees = math.degrees(theta) if isinstance(theta, int | float) and math.isfinite(theta) else 0.0
    return None, (ellipse_outline(numbers[:2], radii, degrees if kind == "ellipse" else 0.0),)


def _is_closed(points: FloatArray) -> bool:
    """Return whether a polyline of at least three points ends where it begins."""
    return len(points) > 2 and float(np.hypot(*(points[0] - points[-1]))) <= CLOSED_POLYLINE_PIXELS
