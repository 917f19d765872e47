"""A table's header and lines, whatever its delimiter, encoding and quotes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blemish.data.image_index import is_image_name
from blemish.data.read_context import ReadContext
from blemish.errors import BadDataset

DELIMITERS = ",;\t|"
LARGEST_CELL = 10_000_000  # characters; a polygon may stand in one cell


@dataclass(frozen=True)
class Table:
    """A header and the lines below it.

    Attributes:
        path: the file.
        header: as written, without outer spaces.
        rows: cells without outer spaces, as many as the header has.
        line_numbers: of each row in the file, from 1.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    line_numbers: tuple[int, ...]

    def origin(self, row: int) -> str:
        """Where a row stands, for messages: `labels.csv:14`."""
        return f"{self.path}:{self.line_numbers[row]}"

    def column(self, position: int) -> list[str]:
        """The cells of one column."""
        return [row[position] for row in self.rows]


def read_table(path: Path, context: ReadContext) -> Table:
    """The table in a file.

    Raises:
        BadDataset: it cannot be read, is empty, has no header, or its delimiter is another one.
    """
    text = _text(path)
    if not text.strip():
        raise BadDataset(f"{path}: the file is empty; write a header and a line for each image")
    said = re.match(r"sep=(.)\r?\n", text)  # Excel's own line; blank, so that line numbers stay
    if said is not None:
        text = text[said.end(1) :]
    delimiter = context.delimiter or (_delimiter(text) if said is None else said[1])
    if len(delimiter) != 1:
        raise BadDataset(f"{path}: the delimiter {delimiter!r} is not one character")
    lines = list(_lines(text, delimiter, path))
    number, first = lines[0]
    if len(first) == 1:
        seen = next((d for d in DELIMITERS if d != delimiter and d in first[0]), None)
        hint = f"use delimiter={seen!r}" if seen else "separate the columns with , or ; or a tab"
        raise BadDataset(f"{path}:{number}: the header has one column only, split at {delimiter!r}; {hint}")
    by_position = bool(context.columns) and all(isinstance(v, int) for v in context.columns.values())
    if any(is_image_name(_last_part(cell)) for cell in first):
        if not by_position:
            raise BadDataset(
                f"{path}:{number}: the first line already holds an image ({_image_cell(first)!r})"
                f" where the header"
                " should be; add a header such as filename,label or give the columns by position"
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
                f"{len(cells)} cells under {len(header)} columns",
                origin=f"{path}:{number}",
                remedy=f"quote a cell that holds {delimiter!r}, or say the right delimiter",
                fix="drops the line",
            )
            continue
        rows.append((*cells[: len(header)], *([""] * (len(header) - len(cells)))))
        numbers.append(number)
    if not rows:
        raise BadDataset(f"{path}: a header and no line below it; write a line for each image")
    return Table(path, header, tuple(rows), tuple(numbers))


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadDataset(f"{path}: cannot be read ({error.strerror})") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    if encodings[0] != "utf-16" and b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise BadDataset(
            f"{path}:{line}: there is a zero byte, which no text holds; save the table anew as CSV"
        )
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise BadDataset(f"{path}: this is no text in UTF-8; save the table as CSV in UTF-8")


def _delimiter(text: str) -> str:
    """The delimiter that splits the first lines into the same number of cells, the more the better."""
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
    """(line number, cells) of each line that is not blank."""
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=strict
    )
    try:
        before = 0
        for cells in reader:
            number, before = before + 1, reader.line_num
            cells = [c.strip() for c in cells]
            if any(cells):
                yield number, cells
    except csv.Error as error:
        raise BadDataset(f"{path}:{reader.line_num}: {error}; check the quotes there") from error


def _last_part(cell: str) -> str:
    return cell.replace("\\", "/").rsplit("/", 1)[-1]


def _image_cell(cells: list[str]) -> str:
    return next(c for c in cells if is_image_name(_last_part(c)))
