"""Boxes in one cell: `[x, y, width, height]`, or the JSON of Label Studio; each becomes a row of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blemish.data.read_context import ReadContext
from blemish.data.tables.cell_values import parse_cell
from blemish.data.tables.table_reader import Table
from blemish.errors import BadDataset

LIST_HEADERS = frozenset({"bbox", "box", "bounding_box", "boundingbox", "bndbox"})
CORNERS = ("x_min", "y_min", "x_max", "y_max")
LABEL_STUDIO_KEY = "rectanglelabels"


def expand_box_cells(table: Table, context: ReadContext) -> Table:
    """Return the table with one row per box, if a column contains boxes as lists or as JSON.

    Args:
        table: as read.
        context: the option `box_order`; receives what was assumed.

    Raises:
        BadDataset: a cell of such a column is not a box.
    """
    for position, header in enumerate(table.header):
        filled = [cell for cell in table.column(position) if cell]
        if not filled or not all(cell[0] in "[{" for cell in filled):
            continue
        if header.casefold().replace(" ", "_") in LIST_HEADERS:
            return _expand_lists(table, position, context)
        if any(LABEL_STUDIO_KEY in cell for cell in filled):
            return _expand_label_studio(table, position)
    return table


def _expand_lists(table: Table, position: int, context: ReadContext) -> Table:
    order = context.box_order or "xywh"
    rows: list[tuple[str, ...]] = []
    for row, cells in enumerate(table.rows):
        others = (*cells[:position], *cells[position + 1 :])
        if not cells[position] or cells[position] == "[]":
            rows.append((*others, "", "", "", ""))
            continue
        box = parse_cell(cells[position])
        if not _are_numbers(box) or len(box) != 4:
            raise _bad_cell(table, row, position, "a list of four numbers")
        first, second, third, fourth = box
        if order == "xywh":
            third, fourth = first + third, second + fourth
        elif order == "xyhw":
            third, fourth = first + fourth, second + third
        rows.append((*others, *(f"{value:g}" for value in (first, second, third, fourth))))
    if context.box_order is None:
        context.note(
            f"the column {table.header[position]!r} is read as x, y, width and height; "
            "--box-order xyxy reads it as corners"
        )
    header = (*table.header[:position], *table.header[position + 1 :], *CORNERS)
    return replace(table, header=header, rows=tuple(rows))


def _expand_label_studio(table: Table, position: int) -> Table:
    rows: list[tuple[str, ...]] = []
    numbers: list[int] = []
    for row, cells in enumerate(table.rows):
        others = (*cells[:position], *cells[position + 1 :])
        boxes = parse_cell(cells[position]) if cells[position] else []
        if not isinstance(boxes, list):
            raise _bad_cell(table, row, position, "a JSON list of rectangles")
        found = [_label_studio_row(box, table, row, position) for box in boxes]
        for columns in found or [("",) * 7]:
            rows.append((*others, *columns))
            numbers.append(table.line_numbers[row])
    header = (*table.header[:position], *table.header[position + 1 :])
    return replace(
        table,
        header=(*header, "label", "image_width", "image_height", *CORNERS),
        rows=tuple(rows),
        line_numbers=tuple(numbers),
    )


def _label_studio_row(box: Any, table: Table, row: int, position: int) -> tuple[str, ...]:
    """Return label, size of the image and corners of a rectangle in percent."""
    keys = ("x", "y", "width", "height", "original_width", "original_height")
    names = box.get(LABEL_STUDIO_KEY) if isinstance(box, dict) else None
    values: list[Any] = [box.get(key) for key in keys] if isinstance(box, dict) else []
    if not isinstance(names, list) or len(names) != 1 or not _are_numbers(values):
        raise _bad_cell(table, row, position, "rectangles with one label each")
    if box.get("rotation"):
        raise _bad_cell(table, row, position, "rectangles without rotation")
    x, y, width, height, image_width, image_height = values
    x_scale, y_scale = image_width / 100, image_height / 100
    corners = (x * x_scale, y * y_scale, (x + width) * x_scale, (y + height) * y_scale)
    return (str(names[0]).strip(), f"{image_width:g}", f"{image_height:g}", *(f"{c:.6g}" for c in corners))


def _are_numbers(values: Any) -> bool:
    return isinstance(values, Sequence) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )


def _bad_cell(table: Table, row: int, position: int, expected: str) -> BadDataset:
    cell = table.rows[row][position]
    return BadDataset(
        f"column {table.header[position]!r}: expected {expected}, got {cell[:80]!r}",
        where=table.origin(row),
        remedy="correct it, or write one line per box with the columns xmin, ymin, xmax, ymax and label",
        reason="unreadable-cell",
    )
