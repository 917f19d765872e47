"""The geojson format: one file of features per image, next to it, as QuPath and napari exchange them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import FloatArray, Mask
from blemish.data.formats import register
from blemish.data.image_headers import read_all_header_info
from blemish.data.json_files import MAX_FILES_TO_RECOGNIZE, head_of, load_json_file
from blemish.data.label_builder import DEFAULT_LABEL, LabelBuilder, as_points
from blemish.data.object_shapes import ObjectShape, object_shapes
from blemish.data.polygon_masks import outlines_box
from blemish.data.raw_annotations import Box, RawAnnotations, Region, as_box
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.write_context import (
    WriteContext,
    file_names,
    lose_extras,
    lose_order,
    require_task,
    split_folders,
)
from blemish.errors import BadDataset
from blemish.geometry import (
    connected_components,
    mask_from_array,
    mask_from_polygons,
    mask_to_array,
    mask_to_rings,
    polygon_area,
)
from blemish.structures import Dataset, Sample, Task

SUFFIX = ".geojson"
WITHOUT_AREA = frozenset({"Point", "MultiPoint", "LineString", "MultiLineString"})
LABEL_KEYS = ("label", "class", "name")  # of programs other than QuPath
BOX_ONLY = "box_only"  # property of a rectangle that is a box and no outline


@register("geojson", rank=47, description=".geojson files next to the images they are named after")
class GeoJsonFormat:
    """Polygons with holes and several parts, in pixels of the image with y downward."""

    def recognizes(self, path: Path) -> bool:
        """Return whether one of the first .geojson files is a collection of features."""
        if path.is_file():
            return path.suffix.casefold() == SUFFIX and _is_collection(path)
        return path.is_dir() and any(map(_is_collection, islice(_files(path), MAX_FILES_TO_RECOGNIZE)))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per file, in the order of their paths."""
        root = path if path.is_dir() else path.parent
        files = list(_files(path)) if path.is_dir() else [path]
        if not files:
            raise BadDataset(
                "found no .geojson file",
                where=path,
                remedy="pass the folder of the files",
                reason="no-label-file",
            )
        builder = LabelBuilder("geojson", root, context)
        for file in files:
            _read_file(file, root, builder)
        return builder.dataset(path)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write a .geojson file next to each image, in a folder per split."""
        require_task(dataset, "geojson", *(t for t in Task if t.has_boxes))
        split_folders(dataset)
        names = file_names(dataset, context)
        lose_extras(dataset, context, {"masks": True, "scores": True})
        lose_order(dataset, context)
        for sample in dataset.samples:
            image = root / (sample.split or "") / names[sample.id]
            context.put(sample, image)
            shapes = object_shapes(sample, context, holds_masks=True, holds_parts=True)
            features = [_feature(shape, sample, context) for shape in shapes]
            content = {"type": "FeatureCollection", "features": features}
            image.with_suffix(SUFFIX).write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def _files(folder: Path) -> Iterator[Path]:
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if name.casefold().endswith(SUFFIX) and not name.startswith("."):
                yield Path(above, name)


def _is_collection(file: Path) -> bool:
    head = head_of(file)
    return head.startswith((b"{", b"[")) and b'"Feature' in head


def _read_file(file: Path, root: Path, builder: LabelBuilder) -> None:
    content = load_json_file(file)
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        builder.context.problem(
            "bad-file",
            "expected a FeatureCollection",
            origin=str(file),
            path=file,
            remedy="export it again or remove it",
            fix="leaves the image out",
        )
        return
    below = file.parts[len(root.parts) : -1]
    split = next((s for s in map(split_named, below) if s), None)
    raw = builder.image(file.stem, origin=str(file), folder=file.parent, split=split)
    if raw is None:
        return
    for number, feature in enumerate(features):
        _add_feature(feature, raw, builder, f"{file}: feature {number}")


def _add_feature(feature: dict[str, Any], raw: RawAnnotations, builder: LabelBuilder, origin: str) -> None:
    found = feature.get("properties")
    properties: dict[str, Any] = found if isinstance(found, dict) else {}
    geometry = feature.get("geometry")
    kind = str(geometry.get("type") or "") if isinstance(geometry, dict) else ""
    if kind in WITHOUT_AREA:
        builder.leave_out(kind)
        return
    try:
        box, region = _region(kind, geometry, raw, is_box=bool(properties.get(BOX_ONLY)))
    except ValueError as error:
        builder.report_shape(kind or "feature", str(error), raw, origin)
        return
    builder.add(raw, _label(properties, builder), box_xyxy=box, region=region, origin=origin)


def _label(properties: dict[str, Any], builder: LabelBuilder) -> str:
    """Return QuPath's class, or a property of a usual name; a derived class of QuPath is `A: B`."""
    classification = properties.get("classification")
    if isinstance(classification, dict):
        names = classification.get("names")
        if isinstance(names, list) and names:
            return ": ".join(map(str, names))
        return str(classification.get("name") or "")
    found = next((properties[key] for key in LABEL_KEYS if isinstance(properties.get(key), str)), None)
    if found is None:
        builder.context.note(f"features without a class have the label {DEFAULT_LABEL!r}")
    return DEFAULT_LABEL if found is None else str(found)


def _region(kind: str, geometry: Any, raw: RawAnnotations, *, is_box: bool) -> tuple[Box | None, Region]:
    """Return box and region of a geometry.

    Raises:
        ValueError: it is invalid; the message describes a valid one.
    """
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    parts = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(kind)
    if not isinstance(parts, list) or not parts:
        raise ValueError("a Polygon or MultiPolygon")
    outer: list[FloatArray] = []
    holes: list[FloatArray] = []
    for part in parts:
        rings = [as_points(ring) for ring in part] if isinstance(part, list) else []
        closed = [ring for ring in rings if ring is not None and len(ring) >= 4]
        if not rings or len(closed) < len(rings):
            raise ValueError("rings of at least four points, the last equal to the first")
        outer.append(_opened(closed[0]))
        holes += map(_opened, closed[1:])
    if is_box:
        return as_box(outlines_box(tuple(outer))), None
    if not holes:
        return None, tuple(outer)
    return None, _with_holes(outer, holes, raw)


def _opened(ring: FloatArray) -> FloatArray:
    """Return a ring without its last point, which repeats the first."""
    return ring[:-1] if np.array_equal(ring[0], ring[-1]) and len(ring) > 3 else ring


def _with_holes(outer: list[FloatArray], holes: list[FloatArray], raw: RawAnnotations) -> Mask:
    """Return the pixels of polygons without those of their holes.

    Raises:
        ValueError: the image cannot be read, or nothing is left.
    """
    if raw.stated_hw is None:
        (info,) = read_all_header_info([raw.path])
        if info.header is None:
            raise ValueError("an image that can be read, for a polygon with holes")
        raw.stated_hw = info.header.size_hw
    mask = _pixels(outer, holes, raw.stated_hw)
    if not mask.area:
        raise ValueError("a region with at least one pixel")
    return mask


def _pixels(outer: list[FloatArray], holes: list[FloatArray], size_hw: tuple[int, int]) -> Mask:
    inside = mask_to_array(mask_from_polygons(holes, size_hw))
    return mask_from_array(mask_to_array(mask_from_polygons(outer, size_hw)) & ~inside)


def _feature(shape: ObjectShape, sample: Sample, context: WriteContext) -> dict[str, Any]:
    parts = [[polygon] for polygon in shape.polygons]
    properties: dict[str, Any] = {"objectType": "annotation", "classification": {"name": shape.label}}
    if shape.mask is not None:
        parts = _parts_of(shape.mask)
        again = _pixels([p[0] for p in parts], [hole for p in parts for hole in p[1:]], shape.mask.size_hw)
        if not np.array_equal(again.counts, shape.mask.counts):
            context.lose("outline", "a mask becomes outlines, which differ from it by single pixels", sample)
    elif not parts:
        x1, y1, x2, y2 = shape.box_xyxy
        parts = [[np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]]
        properties[BOX_ONLY] = True
    if shape.score is not None:
        properties |= {"score": shape.score, "measurements": {"score": shape.score}}
    polygons = [[_closed(ring) for ring in rings] for rings in parts]
    single = len(polygons) == 1
    return {
        "type": "Feature",
        "geometry": {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": polygons[0] if single else polygons,
        },
        "properties": properties,
    }


def _parts_of(mask: Mask) -> list[list[FloatArray]]:
    """Return the outline and the holes of each connected region of a mask."""
    parts = []
    for region in connected_components(mask_to_array(mask)):
        rings = mask_to_rings(region)
        parts.append(sorted(rings, key=polygon_area, reverse=True))
    return parts


def _closed(ring: FloatArray) -> list[list[float]]:
    points: list[list[float]] = ring.tolist()
    return [*points, points[0]]
