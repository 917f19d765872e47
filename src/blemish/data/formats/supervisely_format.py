"""The supervisely format: a project with one folder `ann` next to one folder `img` per data set."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import Mask
from blemish.data.formats import register
from blemish.data.formats.supervisely_writer import write_supervisely
from blemish.data.json_files import head_of, load_json_file
from blemish.data.label_builder import LabelBuilder, as_points
from blemish.data.raw_annotations import Box, RawAnnotations, Region, as_box
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.geometry import mask_from_array, mask_from_polygons, mask_to_array, paste_window
from blemish.structures import Dataset

WITHOUT_AREA = frozenset({"point", "line", "graph", "cuboid", "cuboid_3d", "keypoints"})
MAX_BITMAP_BYTES = 200_000_000  # of the decompressed PNG


@register("supervisely", rank=43, description="ann/*.json next to img/ and meta.json of Supervisely")
class SuperviselyFormat:
    """Rectangles, polygons and bitmaps of a project, or the tags of its images."""

    def recognizes(self, path: Path) -> bool:
        """Return whether there is a folder `ann` with files of Supervisely next to a folder `img`."""
        return path.is_dir() and any(map(_is_dataset, _candidates(path)))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per file of `ann`, in the order of data set and name."""
        folders = [f for f in _candidates(path) if _is_dataset(f)] if path.is_dir() else []
        if not folders:
            raise BadDataset(
                "found no folder ann next to a folder img",
                where=path,
                remedy="pass the folder of the project",
                reason="no-label-file",
            )
        builder = LabelBuilder("supervisely", path, context)
        builder.declare(_classes(path, folders[0]))
        builder.several_labels = True
        for folder in folders:
            split = split_named(folder.name) if folder != path else None
            for file in sorted((folder / "ann").glob("*.json")):
                _read_file(file, folder, split, builder)
        return builder.dataset(path, ordered=True)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `meta.json`, and `ann` and `img` of each split."""
        write_supervisely(dataset, root, context)


def _candidates(path: Path) -> list[Path]:
    return [path, *sorted(p for p in path.iterdir() if p.is_dir())]


def _is_dataset(folder: Path) -> bool:
    if not (folder / "img").is_dir() or not (folder / "ann").is_dir():
        return False
    first = next(iter(sorted((folder / "ann").glob("*.json"))), None)
    if first is None:
        return False
    head = head_of(first)
    return head.startswith(b"{") and b'"objects"' in head and b'"size"' in head


def _classes(path: Path, folder: Path) -> list[str]:
    """Return the names of the classes in meta.json, in the project or above a single data set."""
    file = next((f for p in (path, folder, path.parent) if (f := p / "meta.json").is_file()), None)
    content = load_json_file(file) if file is not None else {}
    classes = content.get("classes") if isinstance(content, dict) else None
    entries = classes if isinstance(classes, list) else []
    return [str(c["title"]).strip() for c in entries if isinstance(c, dict) and c.get("title")]


def _read_file(file: Path, folder: Path, split: str | None, builder: LabelBuilder) -> None:
    content = load_json_file(file)
    objects = content.get("objects") if isinstance(content, dict) else None
    size = content.get("size") if isinstance(content, dict) else None
    if not isinstance(objects, list):
        builder.context.problem(
            "bad-file",
            "expected a list of objects, as in Supervisely",
            origin=str(file),
            path=file,
            remedy="export it again or remove it",
            fix="leaves the image out",
        )
        return
    raw = builder.image(
        file.stem, origin=str(file), folder=folder / "img", split=split, stated_hw=_size(size)
    )
    if raw is None:
        return
    for tag in content.get("tags") or ():
        name = str(tag.get("name") or "").strip() if isinstance(tag, dict) else ""
        if name:
            value = tag.get("value")
            builder.label_image(raw, name if value in (None, "") else f"{name}: {value}")
    for number, entry in enumerate(objects):
        if isinstance(entry, dict):
            _add_object(entry, raw, builder, f"{file}: object {number}")


def _size(size: object) -> tuple[int, int] | None:
    values = [size.get(k) for k in ("height", "width")] if isinstance(size, dict) else []
    sides = [v for v in values if isinstance(v, int) and 0 < v < 1_000_000]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def _add_object(entry: Mapping[str, Any], raw: RawAnnotations, builder: LabelBuilder, origin: str) -> None:
    kind = str(entry.get("geometryType") or entry.get("shape") or "")
    if kind in WITHOUT_AREA:
        builder.leave_out(kind)
        return
    try:
        box, region = _geometry(kind, entry, raw)
    except ValueError as error:
        builder.report_shape(kind or "object", str(error), raw, origin)
        return
    builder.add(raw, str(entry.get("classTitle") or ""), box_xyxy=box, region=region, origin=origin)


def _geometry(kind: str, entry: Mapping[str, Any], raw: RawAnnotations) -> tuple[Box | None, Region]:
    """Return box and region of an object.

    Raises:
        ValueError: its geometry is invalid; the message describes a valid one.
    """
    if kind == "bitmap":
        return None, _bitmap(entry.get("bitmap"), raw)
    points = entry.get("points")
    exterior = as_points(points.get("exterior")) if isinstance(points, dict) else None
    if kind == "rectangle":
        if exterior is None or len(exterior) != 2:
            raise ValueError("points.exterior with two corners")
        return as_box(np.concatenate([exterior.min(0), exterior.max(0)])), None
    if kind != "polygon":
        raise ValueError("a rectangle, polygon or bitmap")
    if exterior is None or len(exterior) < 3:
        raise ValueError("points.exterior with at least three points")
    holes = [as_points(hole) for hole in (points.get("interior") or ())] if isinstance(points, dict) else []
    if not holes:
        return None, (exterior,)
    if raw.stated_hw is None or any(hole is None for hole in holes):
        raise ValueError("holes of points, and the size of the image")
    inside = mask_to_array(mask_from_polygons([h for h in holes if h is not None], raw.stated_hw))
    outside = mask_to_array(mask_from_polygons([exterior], raw.stated_hw))
    return None, _not_empty(mask_from_array(outside & ~inside))


def _bitmap(value: object, raw: RawAnnotations) -> Mask:
    """Return the mask of a compressed PNG at its position in the image.

    Raises:
        ValueError: it cannot be decoded, or is outside the image.
    """
    from PIL import Image

    if not isinstance(value, dict) or raw.stated_hw is None:
        raise ValueError("data and origin of the bitmap, and the size of the image")
    origin = as_points([value.get("origin")])
    try:
        compressed = base64.b64decode(str(value.get("data")), validate=True)
        data = zlib.decompressobj().decompress(compressed, MAX_BITMAP_BYTES)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as png:
            if png.width > raw.stated_hw[1] or png.height > raw.stated_hw[0]:
                raise ValueError("a bitmap inside the image")
            has_alpha = "A" in png.getbands()
            window = np.asarray(png.getchannel("A") if has_alpha else png.convert("L")) > 0
    except (binascii.Error, zlib.error, OSError, SyntaxError, ValueError) as error:
        raise ValueError("a bitmap inside the image: base64 of a compressed PNG") from error
    if origin is None:
        raise ValueError("origin: two numbers")
    x, y = np.rint(origin[0]).astype(int).tolist()
    return _not_empty(paste_window(window, (x, y), raw.stated_hw))


def _not_empty(mask: Mask) -> Mask:
    if not mask.area:
        raise ValueError("a region with at least one pixel")
    return mask
