"""Refuse tables with columns or cells that would otherwise be left out or misread in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from blemish.data.read_context import ReadContext
from blemish.data.tables.table_reader import Table
from blemish.errors import BadDataset

# Columns of coordinates, besides those of boxes that are read.
CENTERS = frozenset(
    {"cx", "cy", "xc", "yc", "x_center", "y_center", "center_x", "center_y", "xcenter", "ycenter"}
)
OUTLINES = re.compile(
    r"(polygons?|segmentations?|points|contours?|coordinates|coords|bbox|box|bounding_box|boundingbox|bndbox)"
)
CORNERS = re.compile(r"[xy]_?[3-9]")
NUMBERED_LABEL = re.compile(r"(label|tag|class|category|defect|damage)_?[2-9]")
NUMBERS = re.compile(r"[-+.\d\seE,;()\[\]]+")
MIN_NUMBERS = 4  # in the cell of a box or outline
JOINTS = re.compile(r"\s*(?:[/+&]|\band\b)\s*")
SEPARATORS = re.compile(r"\s*[;,]\s*")


def refuse_unread_geometry(table: Table, names: list[str], box: Iterable[int], context: ReadContext) -> None:
    """Raise if columns contain coordinates that are not those of the boxes that are read.

    A user who names the task of labels of images, or the column of labels, wants to leave them out.

    Args:
        table: the table.
        names: its headers as `plain` writes them.
        box: positions of the columns of boxes that are read.
        context: the options `task` and `columns`.

    Raises:
        BadDataset: there are such columns.
    """
    image_level = context.task is not None and not context.task.has_boxes and not context.task.has_one_box
    if image_level or "label" in context.columns or "labels" in context.columns or context.box_order:
        return
    read = set(box)
    found = [
        i for i, name in enumerate(names) if (i not in read and name in CENTERS) or CORNERS.fullmatch(name)
    ]
    if not read:
        pair = [i for i, name in enumerate(names) if name in ("x", "y")]
        found += pair if len(pair) == 2 and all(_are_numbers(table.column(i)) for i in pair) else []
    found = [i for i in found if _are_numbers(table.column(i))]
    outlines = [i for i, name in enumerate(names) if OUTLINES.fullmatch(name)]
    found += [i for i in outlines if _are_numbers(table.column(i), MIN_NUMBERS)]
    if found:
        shown = ", ".join(repr(table.header[i]) for i in found[:4])
        raise BadDataset(
            f"expected a box in the columns x, y, w, h or x1, y1, x2, y2, got coordinates in {shown}",
            where=f"{table.path}:1",
            remedy="write boxes in these columns, or read the labels only with --task classification",
            reason="unread-geometry",
        )


def _are_numbers(cells: list[str], count: int = 1) -> bool:
    """Return whether every filled cell consists of at least `count` numbers."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(
        NUMBERS.fullmatch(cell) and len(re.findall(r"[\d.]+", cell)) >= count for cell in filled
    )


def refuse_second_label(table: Table, names: list[str], context: ReadContext) -> None:
    """Raise if a column such as `label2` contains further labels that would be left out.

    Raises:
        BadDataset: there is such a column with words in it.
    """
    if "label" in context.columns or "labels" in context.columns:
        return
    for i, name in enumerate(names):
        if NUMBERED_LABEL.fullmatch(name) and any(re.search(r"[^\W\d_]", cell) for cell in table.column(i)):
            raise BadDataset(
                f"expected one column of labels, got {table.header[i]!r} besides it",
                where=f"{table.path}:1",
                remedy="name the column to read with --column label=NAME, or write all labels in one column",
                reason="label-column",
            )


def joins_labels(cells: list[str]) -> bool:
    """Return whether a cell lists labels that are alone in other cells, such as `dent; scratch`.

    Example:
        >>> joins_labels(["dent; scratch", "dent", "scratch"]), joins_labels(["glass, broken", "dent"])
        (True, False)
    """
    distinct = {cell for cell in cells if cell}
    return any(_are_alone(SEPARATORS.split(cell), distinct) for cell in distinct)


def refuse_joined_labels(table: Table, position: int) -> None:
    """Raise if a cell joins labels that are alone in other cells with other characters than separators.

    Raises:
        BadDataset: a cell such as `dent/scratch` or `dent and scratch` next to `dent` and `scratch`.
    """
    cells = table.column(position)
    distinct = {cell for cell in cells if cell}
    for row, cell in enumerate(cells):
        parts = JOINTS.split(cell)
        if _are_alone(parts, distinct):
            raise BadDataset(
                f"column {table.header[position]!r}: expected one label, got {cell!r}, which joins"
                f" {' and '.join(map(repr, parts))}",
                where=table.origin(row),
                remedy=f"separate them with |, or pass --column label={table.header[position]}",
                reason="joined-labels",
            )


def _are_alone(parts: list[str], distinct: set[str]) -> bool:
    return len(parts) > 1 and all(part in distinct for part in parts)
