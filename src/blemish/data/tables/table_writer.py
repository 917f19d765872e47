"""Write a data set as a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from blemish.data.image_index import is_image_name
from blemish.data.tables.columns import (
    BOX_NAMES,
    FALSE_CELLS,
    GROUP_NAMES,
    LABEL_NAMES,
    LABELS_NAMES,
    PATH_NAMES,
    SPLIT_COLUMNS,
    TRUE_CELLS,
    plain,
)
from blemish.data.tables.image_rows import natural_key
from blemish.data.write_context import (
    WriteContext,
    check_split_names,
    file_names,
    lose_extras,
    lose_order,
    require_task,
)
from blemish.errors import BadInput
from blemish.structures import Dataset, Sample, Task

RESERVED = frozenset(
    {
        *PATH_NAMES,
        *LABEL_NAMES,
        *LABELS_NAMES,
        *GROUP_NAMES,
        *SPLIT_COLUMNS,
        "width",
        "height",
        "index",
        "no",
        "nr",
        "",
    }
    | {n for names in BOX_NAMES.values() for n in names}
)
OWN_COLUMNS = ("filename", "label", "labels", "split", "group", "width", "height", "x1", "y1", "x2", "y2")


def write_table(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write `labels.csv` and the folder `images`, with columns for splits, groups and other data.

    Args:
        dataset: of any task.
        root: an existing, empty folder.
        context: copies the images; receives what the table cannot represent.

    Raises:
        BadInput: a label contains a character that separates labels.
    """
    require_task(dataset, "csv", *sorted(Task, key=lambda t: t.has_masks))
    boxes = dataset.task.has_boxes
    check_split_names(dataset)
    lose_extras(dataset, context, {"group": True, "columns": True})
    names = file_names(dataset, context)
    columns = [] if boxes else _other_columns(dataset, context)
    if boxes and any(s.columns for s in dataset.samples):
        columns = _other_columns(dataset, context)
    splits = any(s.split for s in dataset.samples)
    groups = any(s.group for s in dataset.samples)
    flags = dataset.task.has_label_set and _can_be_flags(dataset, columns)
    if not flags:
        lose_order(dataset, context, natural_key)
        _check_names(dataset)
    if boxes:
        label_columns = ["label", "width", "height", "x1", "y1", "x2", "y2"]
    else:
        label_columns = (
            list(dataset.labels.names) if flags else ["label" if dataset.task.has_one_label else "labels"]
        )
    header = ["filename", *label_columns, *["split"] * splits, *["group"] * groups, *columns]
    path = root / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(header)
        for sample in dataset.samples:
            name = f"images/{names[sample.id]}"
            rest = [*[sample.split or ""] * splits, *[sample.group or ""] * groups]
            rest += [sample.columns.get(c, "") for c in columns]
            for cells in _box_cells(sample) if boxes else _label_cells(dataset, sample, flags=flags):
                lines.writerow([name, *cells, *rest])
            context.put(sample, root / name)


def _label_cells(dataset: Dataset, sample: Sample, *, flags: bool) -> Iterator[list[str]]:
    names = () if sample.ground_truth is None else sample.ground_truth.label_names
    yield [str(int(n in names)) for n in dataset.labels] if flags else ["|".join(names)]


def _box_cells(sample: Sample) -> Iterator[list[str]]:
    size = ["", ""] if sample.size_hw is None else [str(sample.size_hw[1]), str(sample.size_hw[0])]
    ground_truth = sample.ground_truth
    if ground_truth is None or ground_truth.boxes_xyxy is None or not len(ground_truth):
        yield ["", *size, "", "", "", ""]
        return
    for label, box in zip(ground_truth.label_names, ground_truth.boxes_xyxy.tolist(), strict=True):
        yield [label, *size, *(repr(v) for v in box)]


def _other_columns(dataset: Dataset, context: WriteContext) -> list[str]:
    """Return the samples' own columns, except those whose names have another meaning in a table."""
    known = list(dict.fromkeys(c for s in dataset.samples for c in s.columns))
    kept = []
    for column in known:
        cells = [s.columns.get(column, "") for s in dataset.samples]
        if plain(column) in RESERVED or any(is_image_name(c) for c in cells):
            context.lose(
                "column-name", f"the column {column!r} is not kept: its name has another meaning in a table"
            )
        else:
            kept.append(column)
    return kept


def _can_be_flags(dataset: Dataset, columns: list[str]) -> bool:
    """Return whether a column of 0 and 1 per label would be read back as flags."""
    names = list(dataset.labels.names)
    if any(plain(n) in RESERVED or n != n.strip() for n in names) or len({plain(n) for n in names}) < len(
        names
    ):
        return False
    if any(re.search(r"(?i)label|^(has|is)[_\-]|\d$|^unnamed", n) or is_image_name(n) for n in names):
        return False
    for column in columns:  # another column of 0 and 1 would be read as a label
        cells = {s.columns.get(column, "").casefold() for s in dataset.samples}
        if cells <= TRUE_CELLS | FALSE_CELLS or all(re.fullmatch(r"[\d.]*", c) for c in cells):
            return False
    return True


def _check_names(dataset: Dataset) -> None:
    for name in dataset.labels:
        if dataset.task.has_label_set and re.search(r"[|;,]", name):
            raise BadInput(
                f"label {name!r}: expected no , ; or |, which separate labels in a table. Rename it.",
                reason="label-name",
            )
        if dataset.task.has_one_label and "|" in name:
            raise BadInput(
                f"label {name!r}: expected no |, which separates labels in a table. Rename it.",
                reason="label-name",
            )
        if name != name.strip():
            raise BadInput(
                f"label {name!r}: expected no space at its start or end. Rename it.", reason="label-name"
            )
