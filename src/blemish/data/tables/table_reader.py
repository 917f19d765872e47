"""Read the header and the lines of a table with any usual delimiter, encoding and quotes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.data.image_index import is_image_name
from blemish.data.read_context import ReadContext
from blemish.errors import BadDataset

DELIMITERS = ",;\t|"
MAX_CELL_LENGTH = 10_000_000  # characters; a cell may contain a polygon


@dataclass(frozen=True)
class Table:
    """A header and the lines below it.

    Attributes:
        path: the file.
        header: the header of each column, stripped.
        rows: the stripped cells of each row, one per column.
        line_numbers: line of each row in the file, counted from 1.
        files: the file of each row, if the rows are of several files.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    line_numbers: tuple[int, ...]
    files: tuple[Path, ...] = ()

    def origin(self, row: int) -> str:
        """Return the place of a row, for messages: `labels.csv:14`."""
        return f"{self.files[row] if self.files else self.path}:{self.line_numbers[row]}"

    def column(self, position: int) -> list[str]:
        """Return the cells of one column."""
        return [row[position] for row in self.rows]


def joined(tables: Sequence[Table]) -> Table | None:
    """Return the rows of several tables as one, or None if their headers differ."""
    first = tables[0]
    if any(table.header != first.header for table in tables):
        return None
    return Table(
        first.path,
        first.header,
        tuple(row for table in tables for row in table.rows),
        tuple(number for table in tables for number in table.line_numbers),
        tuple(table.path for table in tables for _ in table.rows),
    )


def read_table(path: Path, context: ReadContext) -> Table:
    """Return the table in a file.

    Args:
        path: the file.
        context: the options `delimiter` and `columns`; receives lines with too many cells.

    Raises:
        BadDataset: the file cannot be read, is empty or has no header, or the delimiter does not split it.
    """
    text = _text(path)
    if not text.strip():
        raise BadDataset(
            "the file is empty",
            where=path,
            remedy="write a header and one line per image",
            reason="empty-file",
        )
    # The line in which Excel states the delimiter is blanked, so that line numbers do not change.
    excel = re.match(r"sep=(.)\r?\n", text)
    if excel is not None:
        text = text[excel.end(1) :]
    delimiter = context.delimiter or (_detect_delimiter(text) if excel is None else excel[1])
    if len(delimiter) != 1:
        raise BadDataset(
            f"delimiter: expected one character, got {delimiter!r}",
            where=path,
            remedy="correct the delimiter",
            reason="delimiter",
        )
    lines = list(_lines(text, delimiter, path))
    number, first = lines[0]
    if len(first) == 1:
        other = next((d for d in DELIMITERS if d != delimiter and d in first[0]), None)
        remedy = f"use delimiter={other!r}" if other else "separate the columns with , or ; or a tab"
        raise BadDataset(
            f"header: expected columns separated by {delimiter!r}, got one column",
            where=f"{path}:{number}",
            remedy=remedy,
            reason="one-column",
        )
    by_position = bool(context.columns) and all(isinstance(v, int) for v in context.columns.values())
    if any(is_image_name(_last_part(cell)) for cell in first):
        if not by_position:
            raise BadDataset(
                f"expected a header in the first line, got the image {_image_cell(first)!r}",
                where=f"{path}:{number}",
                remedy="add a header such as filename,label, or pass --column path=0 --column label=1",
                reason="no-header",
            )
        header = tuple(str(i) for i in range(len(first)))
    else:
        header = tuple(first)
        lines = lines[1:]
    rows, numbers = [], []
    for number, cells in lines:
        extra = cells[len(header) :]
        if any(extra):
            context.problem(
                "bad-line",
                f"expected {len(header)} cells, got {len(cells)}",
                origin=f"{path}:{number}",
                remedy=f"quote cells that contain {delimiter!r}, or set the delimiter",
                fix="drops the line",
            )
            continue
        rows.append((*cells[: len(header)], *([""] * (len(header) - len(cells)))))
        numbers.append(number)
    if not rows:
        raise BadDataset(
            "the table has a header and no lines",
            where=path,
            remedy="write one line per image",
            reason="no-rows",
        )
    return Table(path, header, tuple(rows), tuple(numbers))


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadDataset(
            f"cannot be read ({error.strerror})",
            where=path,
            remedy="check its permissions",
            reason="unreadable-file",
        ) from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    if encodings[0] != "utf-16" and b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise BadDataset(
            "the text contains a zero byte",
            where=f"{path}:{line}",
            remedy="save the table as CSV in UTF-8",
            reason="zero-byte",
        )
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise BadDataset(
        "the text is not UTF-8", where=path, remedy="save the table as CSV in UTF-8", reason="encoding"
    )


def _detect_delimiter(text: str) -> str:
    """Return the delimiter that splits most of the first lines into the same number of cells."""
    sample = text[:20_000]
    if "\n" in sample and len(text) > len(sample):
        sample = sample[: sample.rfind("\n")]
    best, score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        counts = [len(cells) for _, cells in _lines(sample, delimiter, Path("table"), strict=False)][:50]
        if not counts or counts[0] < 2:
            continue
        agreeing = sum(c == counts[0] for c in counts) / len(counts)
        if (agreeing, counts[0]) > score:
            best, score = delimiter, (agreeing, counts[0])
    return best


def _lines(text: str, delimiter: str, path: Path, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each line that is not blank."""
    csv.field_size_limit(MAX_CELL_LENGTH)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=strict
    )
    try:
        previous = 0
        for cells in reader:
            number, previous = previous + 1, reader.line_num
            cells = [c.strip() for c in cells]
            if any(cells):
                yield number, cells
    except csv.Error as error:
        raise BadDataset(
            f"invalid CSV ({error})",
            where=f"{path}:{reader.line_num}",
            remedy="check the quotes in this line",
            reason="invalid-csv",
        ) from error


def _last_part(cell: str) -> str:
    return cell.replace("\\", "/").rsplit("/", 1)[-1]


def _image_cell(cells: list[str]) -> str:
    return next(c for c in cells if is_image_name(_last_part(c)))
