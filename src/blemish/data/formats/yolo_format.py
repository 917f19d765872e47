"""The yolo format: text files with one line per object, in fractions of image width and height."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.formats.yolo_layout import (
    NAME_FILES,
    YoloLayout,
    find_yaml,
    has_names,
    images_by_split,
    is_label_tree,
    layout_from_tree,
    layout_from_yaml,
)
from blemish.data.formats.yolo_paths import IMAGES_OF, LabelFiles, swap_folder
from blemish.data.formats.yolo_writer import write_yolo
from blemish.data.image_index import is_image_name, sample_id
from blemish.data.raw_annotations import RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.structures import Dataset

MAX_LABELS = 100_000
MAX_LINES_TO_RECOGNIZE = 200
KEYPOINT_TOLERANCE = 0.02  # of the image's width and height, by which a keypoint may be outside its box


@register("yolo", rank=40, description="data.yaml, or images/ next to labels/ with .txt files")
class YoloFormat:
    """Boxes and polygons in the layouts of Ultralytics and Darknet."""

    def recognizes(self, path: Path) -> bool:
        """Return whether there is a data.yaml with names, or text files in `labels` next to `images`."""
        if path.is_file():
            return path.suffix.casefold() in (".yaml", ".yml") and has_names(path)
        return path.is_dir() and (find_yaml(path) is not None or is_label_tree(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of split and name."""
        file = path if path.is_file() else find_yaml(path)
        layout = layout_from_yaml(file, context) if file is not None else layout_from_tree(path, context)
        annotations: list[RawAnnotations] = []
        files = LabelFiles()
        label_files: set[str] = set()
        max_label = -1
        images_of = images_by_split(layout, context)
        if not layout.has_keypoints and _have_keypoints(
            [p for part in images_of.values() for p in part], files
        ):
            layout.has_keypoints = True
            context.note(
                "the label files have keypoints after each box, which were left out; kpt_shape: in data.yaml"
                " states their number"
            )
        for split, images in images_of.items():
            for image in images:
                text = files.of(image)
                raw = RawAnnotations(
                    id=sample_id(image, layout.root),
                    path=image,
                    split=split,
                    origin=text,
                    relative=True,
                )
                content = files.read(text)
                if content is not None:
                    label_files.add(text)
                    max_label = max(max_label, _read_lines(content, raw, layout, context))
                elif context.lenient:
                    context.problem(
                        "image-without-label",
                        f"there is no label file {Path(text).name}; the image is read as one without objects",
                        path=image,
                        remedy="label it, or write an empty file if it has no objects",
                        severity=Severity.NOTE,
                    )
                annotations.append(raw)
        if not annotations:
            raise BadDataset(
                "found no images",
                where=path,
                remedy=f"correct {file or 'the folders'}",
                reason="no-images",
            )
        if not label_files:
            raise BadDataset(
                f"no image has a label file such as {files.of(annotations[0].path)}",
                where=path,
                remedy="add the label files",
                reason="no-label-file",
            )
        _report_orphans(label_files, {os.fspath(d.path) for d in annotations}, context)
        names = layout.names
        if names is None:
            names = [str(i) for i in range(max_label + 1)]
            context.note("the labels have no names and are named by their numbers; write names: in data.yaml")
        if not names:
            raise BadDataset(
                "found no labels", where=path, remedy="write names: in data.yaml", reason="no-labels"
            )
        task = boxes_or_masks(annotations, context)
        labels = labels_with_display_names(names)
        samples = place_all(annotations, task, labels, context)
        return Dataset(task=task, labels=labels, samples=samples, root=layout.root, format="yolo")

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `images/` and `labels/`, and data.yaml if the data set has splits, classes.txt otherwise."""
        write_yolo(dataset, root, context)


def _have_keypoints(images: list[Path], files: LabelFiles) -> bool:
    """Return whether the lines of the first label files are boxes with keypoints instead of polygons.

    All lines then have the same number of values, every third value after the box is a visibility (0, 1 or
    2), and the visible points are inside the box.
    """
    rows: list[list[float]] = []
    for image in images:
        for line in (files.read(files.of(image), keep=True) or "").splitlines():
            try:
                values = [float(cell) for cell in line.split()]
            except ValueError:
                continue
            if len(values) > 5:
                rows.append(values)
        if len(rows) >= MAX_LINES_TO_RECOGNIZE:
            break
    if not rows or len({len(row) for row in rows}) > 1 or (len(rows[0]) - 5) % 3:
        return False
    lines = np.array(rows)
    points = lines[:, 5:].reshape(len(lines), -1, 3)
    visible = points[..., 2] > 0
    center, size = lines[:, None, 1:3], lines[:, None, 3:5]
    inside = (np.abs(points[..., :2] - center) <= size / 2 + KEYPOINT_TOLERANCE).all(-1)
    is_visibility = bool(np.isin(points[..., 2], (0.0, 1.0, 2.0)).all())
    return is_visibility and bool(visible.any()) and bool(inside[visible].all())


def _read_lines(content: str, raw: RawAnnotations, layout: YoloLayout, context: ReadContext) -> int:
    """Add the objects of a label file to its image, and return the largest label index, or -1."""
    largest = -1
    first_line_of_kind: dict[bool, int] = {}  # boxes: True, polygons: False
    for number, line in enumerate(content.splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        fault: LineFault | None
        try:
            values = [float(c) for c in cells]
        except ValueError:
            values, fault = [], LineFault("bad-line", f"expected numbers, got {line.strip()!r}"[:200])
        else:
            values = values[:5] if layout.has_keypoints else values
            fault = _find_fault(values, layout)
        if fault is not None:
            context.problem(
                fault.code,
                fault.message,
                origin=f"{raw.origin}:{number}",
                path=raw.path,
                remedy=fault.remedy,
                fix="drops the line",
            )
            continue
        label = int(values[0])
        largest = max(largest, label)
        origin = f"{raw.origin}:{number}"
        first_line_of_kind.setdefault(len(values) == 5, number)
        if len(values) == 5:
            x, y, w, h = values[1:]
            raw.add(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), origin=origin)
        else:
            points = np.array(values[1:]).reshape(-1, 2)
            x1, y1, x2, y2 = np.concatenate([points.min(0), points.max(0)]).tolist()
            raw.add(label, (x1, y1, x2, y2), region=(points,), origin=origin)
    if len(first_line_of_kind) > 1 and context.lenient:
        context.problem(
            "mixed-lines",
            "the file contains boxes and polygons, which Ultralytics rejects",
            origin=f"{raw.origin}:{max(first_line_of_kind.values())}",
            path=raw.path,
            remedy="draw the missing polygons, or keep only boxes with blemish data convert --task detection",
            severity=Severity.WARNING,
            fix="writes the boxes as rectangles",
        )
    return largest


@dataclass(frozen=True)
class LineFault:
    """The fault of one line of a label file.

    Attributes:
        code: the finding's code.
        message: what is wrong.
        remedy: what the user can do.
    """

    code: Literal["bad-line", "unknown-label"]
    message: str
    remedy: str = "correct or remove the line"


def _find_fault(values: list[float], layout: YoloLayout) -> LineFault | None:
    """Return the fault of the numbers of a line, or None."""
    message = ""
    if not all(map(math.isfinite, values)):
        message = "expected finite numbers"
    elif len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        message = f"expected a label and four numbers or at least three points, got {len(values)} numbers"
    elif values[0] < 0 or values[0] != int(values[0]):
        message = f"expected a label index first, got {values[0]:g}"
    elif layout.names is not None and values[0] >= len(layout.names):
        return LineFault(
            "unknown-label",
            f"label index {int(values[0])} is not among the {len(layout.names)} names in {layout.names_file}",
            "add its name to data.yaml or correct the index",
        )
    elif values[0] > MAX_LABELS:
        message = f"expected a label index up to {MAX_LABELS:,}, got {values[0]:g}"
    elif len(values) == 5 and min(values[3:]) < 0:
        message = f"expected a width and height >= 0, got {values[3]:g} and {values[4]:g}"
    elif max(values[1:]) > 2:
        message = f"expected fractions of the image in [0, 1], got {max(values[1:]):g}"
    return LineFault("bad-line", message) if message else None


def _report_orphans(used: set[str], listed: set[str], context: ReadContext) -> None:
    """Report label files without an image, and label files whose image is in no list."""
    orphans = sorted(
        file
        for folder in {os.path.dirname(f) for f in used}  # noqa: PTH120 - see label_file
        for name in os.listdir(folder or ".")  # noqa: PTH208
        if name.endswith(".txt") and name not in NAME_FILES and not name.casefold().startswith("readme")
        if (file := os.path.join(folder, name)) not in used  # noqa: PTH118
    )
    listings: dict[str, dict[str, str]] = {}
    unlisted = {
        o: p for o in orphans if (p := _image_of_label_file(o, listings)) is not None and p not in listed
    }
    for orphan, image in unlisted.items():
        context.problem(
            "image-not-listed",
            "it has a label file, and no list of data.yaml contains it",
            origin=orphan,
            path=Path(image),
            remedy="add it to a list, or ignore this note",
            severity=Severity.NOTE,
            fix="leaves it out",
        )
    if unlisted:
        context.note(f"{len(unlisted)} images with label files are in no list and were left out")
    orphans = [o for o in orphans if o not in unlisted]
    if not orphans:
        return
    for orphan in orphans:
        context.problem(
            "label-without-image",
            "the label file has no image",
            origin=orphan,
            path=Path(orphan),
            remedy="restore the image or remove the file",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    context.note(f"{len(orphans)} label files have no image, such as {Path(orphans[0]).name}")


def _image_of_label_file(text: str, listings: dict[str, dict[str, str]]) -> str | None:
    """Return the image of a label file: in `images` in place of `labels`, or next to it."""
    swapped = swap_folder(text, IMAGES_OF)
    for candidate in ([] if swapped is None else [swapped]) + [text]:
        folder, name = os.path.split(candidate)
        if folder not in listings:
            inside = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []  # noqa: PTH112, PTH208
            listings[folder] = {n.rpartition(".")[0]: n for n in inside if is_image_name(n)}
        if name[: -len(".txt")] in listings[folder]:
            return os.path.join(folder, listings[folder][name[: -len(".txt")]])  # noqa: PTH118
    return None
