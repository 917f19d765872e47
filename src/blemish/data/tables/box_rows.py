"""Read tables with one line per box."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from blemish.data.coordinates import place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.image_index import sample_id
from blemish.data.raw_annotations import RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.tables.columns import TRUE_CELLS
from blemish.data.tables.image_rows import Parts, split_and_group, split_of_both
from blemish.data.tables.table_images import TableImages
from blemish.errors import BadDataset
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.structures import Dataset, Labels, Task


def read_boxes(parts: Parts, images: TableImages, root: Path, context: ReadContext) -> Dataset:
    """Return a localization data set if every image has exactly one box, a detection data set otherwise.

    Args:
        parts: each table with its columns and the split of its file.
        images: the images.
        root: the folder that sample ids are relative to.
        context: the options of the user; receives the faults.

    Raises:
        BadDataset: no line has an image that exists, or a line has a fault and the reading is strict.
    """
    names = sorted({cell for t, r, _ in parts if r.label is not None for cell in t.column(r.label) if cell})
    labels = labels_with_display_names(names) if names else Labels(("object",), ("Object",))
    by_image: dict[Path, RawAnnotations] = {}
    missing: list[tuple[str, str]] = []
    for table, roles, file_split in parts:
        for row, cells in enumerate(table.rows):
            origin = table.origin(row)
            image = images.find(cells[roles.path], table.path.parent)
            if image is None:
                missing.append((cells[roles.path], origin))
                continue
            box_cells = [cells[i] for i in roles.box.values()]
            if image not in by_image:
                split, group = split_and_group(cells, roles, file_split, origin, context)
                by_image[image] = RawAnnotations(
                    id=sample_id(image, root),
                    path=image,
                    group=group,
                    split=split,
                    origin=origin,
                    stated_hw=_stated_size([cells[i] for i in roles.size_wh or ()]),
                    relative=roles.fractions,
                    columns={table.header[i]: cells[i] for i in roles.rest if table.header[i]},
                )
            elif roles.split is not None or file_split:
                raw = by_image[image]
                raw.split = split_of_both(raw.split, cells, roles, file_split, origin, context)
            if not any(box_cells):  # an image without objects
                continue
            numbers = _numbers(box_cells)
            if numbers is None:
                context.problem(
                    "bad-box",
                    f"box: expected four finite numbers, got {', '.join(map(repr, box_cells))}",
                    origin=origin,
                    path=image,
                    remedy="correct them, with a decimal point",
                    fix="drops the box",
                )
                continue
            box = _corners(dict(zip(roles.box, numbers, strict=True)))
            if box[2] < box[0] or box[3] < box[1]:
                context.problem(
                    "box-inside-out",
                    f"box: expected x1 <= x2 and y1 <= y2, got {[round(v, 2) for v in box]}",
                    origin=origin,
                    path=image,
                    remedy="correct its corners, or set the order with --box-order",
                    fix="swaps its corners",
                )
                box = (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
            label = cells[roles.label] if roles.label is not None else "object"
            if not label:
                context.problem(
                    "empty-label",
                    "box: expected a label",
                    origin=origin,
                    remedy="add a label",
                    fix="drops the box",
                )
                continue
            is_crowd = roles.crowd is not None and cells[roles.crowd] in TRUE_CELLS
            by_image[image].add(labels.index(label), box, crowd=is_crowd, origin=origin)
    images.report(missing)
    if not by_image:
        raise BadDataset(
            f"none of the listed images is in {images.root}",
            where=parts[0][0].path,
            remedy="pass the folder of the images with --images",
            reason="no-images",
        )
    has_one_each = Counter(len(d) for d in by_image.values()).keys() == {1}
    task = Task.LOCALIZATION if has_one_each and context.task is not Task.DETECTION else Task.DETECTION
    samples = place_all(list(by_image.values()), task, labels, context)
    return Dataset(task=task, labels=labels, samples=samples, root=root, format="csv")


def _numbers(cells: list[str]) -> list[float] | None:
    """Return the numbers in cells, or None if a cell is not a finite number of a plausible size."""
    try:
        numbers = [float(c) for c in cells]
    except ValueError:
        return None
    return numbers if all(abs(n) < MAX_COORDINATE for n in numbers) else None


def _stated_size(cells: list[str]) -> tuple[int, int] | None:
    """Return (height, width) as the table states them, in pixels, or None."""
    numbers = _numbers(cells) if any(cells) else None
    return None if not numbers or min(numbers) < 1 else (round(numbers[1]), round(numbers[0]))


def _corners(values: dict[str, float]) -> tuple[float, float, float, float]:
    if "x2" in values:
        return values["x1"], values["y1"], values["x2"], values["y2"]
    return values["x"], values["y"], values["x"] + values["w"], values["y"] + values["h"]
