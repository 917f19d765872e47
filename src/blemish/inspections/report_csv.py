"""A report as CSV that spreadsheets open without running formulas."""

from __future__ import annotations

import csv
import io
from typing import Any

from blemish.inspections.report_content import ReportContent

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
COLUMNS = (
    "number", "damage", "image", "view", "label", "label_as_found", "score", "origin", "part",
    "severity_level", "severity_scale", "severity_rule", "area_share", "x1", "y1", "x2", "y2", "state",
    "change", "basis", "id",
)  # fmt: skip


def safe_cell(value: Any) -> Any:
    """Return a value that no spreadsheet reads as a formula; numbers stay numbers.

    Source:
        OWASP, "CSV Injection": text that begins like a formula gets an apostrophe before it.

    Example:
        >>> safe_cell("=1+1"), safe_cell(" =1+1"), safe_cell("dent"), safe_cell(-1.5)
        ("'=1+1", "' =1+1", 'dent', -1.5)
    """
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def write_csv(content: ReportContent) -> bytes:
    """Return one line for each finding, UTF-8 with a byte order mark, as spreadsheets expect it."""
    measures = sorted({name for row in content.rows() for name in row if name.startswith("measure_")})
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(
        ["inspection", "asset", *COLUMNS, *map(safe_cell, measures), "audit_sequence", "audit_hash"]
    )
    for row in content.rows():
        box = row["box_xyxy"] or [None] * 4
        values = row | dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
        cells: list[Any] = [content.inspection.id, content.asset.reference]
        cells += [values.get(name) for name in (*COLUMNS, *measures)]
        writer.writerow(map(safe_cell, [*cells, content.head.sequence, content.head.hash]))
    return ("\ufeff" + buffer.getvalue()).encode()
