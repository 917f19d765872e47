"""Read tables with one mask per line as run lengths, as in competitions on Kaggle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.arrays import Mask
from blemish.data.coordinates import place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.image_headers import read_all_header_info
from blemish.data.image_index import sample_id
from blemish.data.label_builder import DEFAULT_LABEL
from blemish.data.raw_annotations import RawAnnotations, as_box
from blemish.data.read_context import ReadContext
from blemish.data.tables.columns import LABEL_NAMES, PATH_NAMES, plain
from blemish.data.tables.image_rows import natural_key
from blemish.data.tables.table_images import TableImages
from blemish.data.tables.table_reader import Table
from blemish.errors import BadDataset, BadImage
from blemish.geometry import mask_box
from blemish.geometry.masks import union_of_intervals
from blemish.structures import Dataset, Task

RUN_LENGTH_NAMES = ("encodedpixels", "encoded_pixels", "rle", "rle_mask", "mask_rle", "run_lengths")
IMAGE_AND_CLASS = "imageid_classid"  # cells such as a.jpg_1
EMPTY_CELLS = ("", "-1", "nan")
RUNS = re.compile(r"\d+ \d+( \d+ \d+)*")


def run_length_column(table: Table) -> int | None:
    """Return the position of the column of run lengths, or None.

    Example:
        >>> from blemish.data.tables.table_reader import Table
        >>> run_length_column(Table(Path("t.csv"), ("ImageId", "EncodedPixels"), (("a", "1 3"),), (2,)))
        1
    """
    for position, header in enumerate(table.header):
        filled = [c for c in table.column(position) if c.casefold() not in EMPTY_CELLS]
        if plain(header) in RUN_LENGTH_NAMES and filled and any(map(RUNS.fullmatch, filled)):
            return position
    return None


def read_run_lengths(
    tables: Sequence[tuple[Table, str | None]], images: TableImages, root: Path, context: ReadContext
) -> Dataset:
    """Return a segmentation data set with one object per line; a line without run lengths has none.

    Runs are pairs of start and length; pixels are counted from 1, column by column.

    Args:
        tables: each table with the split of its file.
        images: the images.
        root: the folder that sample ids are relative to.
        context: receives the faults.

    Raises:
        BadDataset: no line has an image that exists, or a line has a fault and the reading is strict.
    """
    rows: list[tuple[Path, str, str, str, str | None]] = []  # image, label, run lengths, origin, split
    missing: list[tuple[str, str]] = []
    for table, split in tables:
        table = _with_separate_classes(table)
        path, label, runs = _columns(table, context)
        for row, cells in enumerate(table.rows):
            image = images.find(cells[path], table.path.parent)
            name = DEFAULT_LABEL if label is None else cells[label]
            if image is None:
                missing.append((cells[path], table.origin(row)))
            else:
                rows.append((image, name, cells[runs], table.origin(row), split))
    images.report(missing)
    if not rows:
        raise BadDataset(
            f"none of the listed images is in {images.root}",
            where=tables[0][0].path,
            remedy="pass the folder of the images with --images",
            reason="no-images",
        )
    names = sorted({name for _, name, _, _, _ in rows if name}, key=natural_key)
    labels = labels_with_display_names(names)
    paths = list(dict.fromkeys(image for image, _, _, _, _ in rows))
    headers = dict(zip(paths, read_all_header_info(paths), strict=True))
    annotations: dict[Path, RawAnnotations] = {}
    for image, name, runs_text, origin, split in rows:
        header = headers[image].header_or_error(image)
        size_hw = None if isinstance(header, BadImage) else header.size_hw
        raw = annotations.setdefault(
            image,
            RawAnnotations(
                id=sample_id(image, root), path=image, split=split, origin=origin, stated_hw=size_hw
            ),
        )
        if runs_text.casefold() in EMPTY_CELLS or size_hw is None:
            continue
        if not name:
            context.problem(
                "empty-label",
                "expected a label",
                origin=origin,
                path=image,
                remedy="add one",
                fix="drops the mask",
            )
            continue
        mask = _mask(runs_text, size_hw)
        if mask is None:
            context.problem(
                "bad-run-lengths",
                f"expected pairs of start and length inside {size_hw[1]} x {size_hw[0]} pixels, got"
                f" {runs_text[:60]!r}",
                origin=origin,
                path=image,
                remedy="export the mask again",
                fix="drops the mask",
            )
            continue
        raw.add(labels.index(name), as_box(mask_box(mask)), region=mask, origin=origin)
    context.note("run lengths count pixels from 1, column by column; each line is one object")
    entries = list(annotations.values())
    samples = place_all(entries, Task.SEGMENTATION, labels, context)
    return Dataset(task=Task.SEGMENTATION, labels=labels, samples=samples, root=root, format="csv")


def _with_separate_classes(table: Table) -> Table:
    """Return the table with a column of images and one of classes, if they share a column: `a.jpg_1`."""
    position = next((i for i, h in enumerate(table.header) if plain(h) == IMAGE_AND_CLASS), None)
    if position is None:
        return table
    parts = [(row[position].rpartition("_"), row) for row in table.rows]
    rows = tuple((name, label, *row) for (name, _, label), row in parts)
    return replace(table, header=("image", "class", *table.header), rows=rows)


def _columns(table: Table, context: ReadContext) -> tuple[int, int | None, int]:
    """Return the positions of the columns of images, labels and run lengths."""
    names = [plain(header) for header in table.header]
    chosen = {
        role: column if isinstance(column, int) else names.index(plain(column))
        for role, column in context.columns.items()
        if isinstance(column, int) or plain(column) in names
    }
    runs = run_length_column(table)
    path = chosen.get("path", next((names.index(n) for n in PATH_NAMES if n in names), None))
    if path is None or runs is None:
        raise BadDataset(
            f"expected columns of images and of run lengths, got {', '.join(table.header)}",
            where=f"{table.path}:1",
            remedy="name them ImageId and EncodedPixels",
            reason="no-image-column",
        )
    return path, chosen.get("label", next((names.index(n) for n in LABEL_NAMES if n in names), None)), runs


def _mask(text: str, size_hw: tuple[int, int]) -> Mask | None:
    """Return the mask of run lengths, or None if they are invalid."""
    if not RUNS.fullmatch(text):
        return None
    numbers = [int(n) for n in text.split()]
    total = size_hw[0] * size_hw[1]
    if any(n < 1 or n > total for n in numbers):
        return None
    pairs = np.array(numbers, np.int64).reshape(-1, 2)
    starts = pairs[:, 0] - 1
    stops = starts + pairs[:, 1]
    return None if (stops > total).any() else union_of_intervals(starts, stops, size_hw)
