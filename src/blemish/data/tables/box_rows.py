"""Tables with one line for each box."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from blemish.data.coordinates import place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.image_index import ImageIndex, sample_id
from blemish.data.raw_annotations import RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.tables.image_rows import Parts, split_and_group, split_of_both
from blemish.errors import BadDataset
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.structures import Dataset, Labels, Task


def read_boxes(parts: Parts, shelf: ImageIndex, root: Path, context: ReadContext) -> Dataset:
    """A localization set where every image has exactly one box, else a detection set."""
    names = sorted({cell for t, r, _ in parts if r.label is not None for cell in t.column(r.label) if cell})
    labels = labels_with_display_names(names) if names else Labels(("object",), ("Object",))
    drawn: dict[Path, RawAnnotations] = {}
    missing: list[tuple[str, str]] = []
    for table, roles, file_split in parts:
        for row, cells in enumerate(table.rows):
            origin = table.origin(row)
            image = shelf.find(cells[roles.path])
            if image is None:
                missing.append((cells[roles.path], origin))
                continue
            written = [cells[i] for i in roles.box.values()]
            if image not in drawn:
                split, group = split_and_group(cells, roles, file_split, origin, context)
                drawn[image] = RawAnnotations(
                    id=sample_id(image, root),
                    path=image,
                    group=group,
                    split=split,
                    origin=origin,
                    stated_hw=_stated([cells[i] for i in roles.size_wh or ()]),
                    columns={table.header[i]: cells[i] for i in roles.rest if table.header[i]},
                )
            elif roles.split is not None or file_split:
                one = drawn[image]
                one.split = split_of_both(one.split, cells, roles, file_split, origin, context)
            if not any(written):  # an image with nothing in it
                continue
            numbers = _numbers(written)
            if numbers is None:
                context.problem(
                    "bad-box",
                    f"a box takes four finite numbers, not {', '.join(map(repr, written))}",
                    origin=origin,
                    path=image,
                    remedy="correct them, with a point for the decimals",
                    fix="drops the box",
                )
                continue
            box = _corners(dict(zip(roles.box, numbers, strict=True)))
            if box[2] < box[0] or box[3] < box[1]:
                context.problem(
                    "box-inside-out",
                    f"the box {[round(v, 2) for v in box]} ends before it begins",
                    origin=origin,
                    path=image,
                    remedy="correct its corners, or say the order with box_order=",
                    fix="swaps its corners",
                )
                box = (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
            label = cells[roles.label] if roles.label is not None else "object"
            if not label:
                context.problem(
                    "empty-label",
                    "the box has no label",
                    origin=origin,
                    remedy="write one",
                    fix="drops the box",
                )
                continue
            drawn[image].add(labels.index(label), box, origin=origin)
    context.missing_images(missing, shelf.root, shelf)
    if not drawn:
        raise BadDataset(f"{parts[0][0].path}: none of its lines has an image in {shelf.root}")
    one_each = Counter(len(d) for d in drawn.values()).keys() == {1}
    task = Task.LOCALIZATION if one_each and context.task is not Task.DETECTION else Task.DETECTION
    samples = place_all(list(drawn.values()), task, labels, context)
    return Dataset(task=task, labels=labels, samples=samples, root=root, format="csv")


def _numbers(cells: list[str]) -> list[float] | None:
    """The numbers in cells; None where one is none, or not finite."""
    try:
        numbers = [float(c) for c in cells]
    except ValueError:
        return None
    return numbers if all(abs(n) < MAX_COORDINATE for n in numbers) else None


def _stated(cells: list[str]) -> tuple[int, int] | None:
    """(height, width) as the table states them."""
    numbers = _numbers(cells) if any(cells) else None
    return None if not numbers or min(numbers) < 1 else (round(numbers[1]), round(numbers[0]))


def _corners(named: dict[str, float]) -> tuple[float, float, float, float]:
    if "x2" in named:
        return named["x1"], named["y1"], named["x2"], named["y2"]
    return named["x"], named["y"], named["x"] + named["w"], named["y"] + named["h"]
