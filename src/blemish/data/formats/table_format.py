"""Tables of labels: a line for each image (or each box), columns found by their header."""

from __future__ import annotations

from pathlib import Path

from blemish.data.formats import register
from blemish.data.image_index import ImageIndex
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.tables.box_rows import read_boxes
from blemish.data.tables.columns import ColumnRoles, find_roles
from blemish.data.tables.image_rows import read_image_labels
from blemish.data.tables.table_reader import Table, read_table
from blemish.data.tables.table_writer import write_table
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.structures import Dataset

SUFFIXES = frozenset({".csv", ".tsv", ".txt"})


@register("csv", rank=60, description="a .csv or .tsv file with a header, or a folder with one")
class TableReader:
    """CSV and TSV: one label an image, several, or boxes."""

    def recognizes(self, path: Path) -> bool:
        """Whether it is a table, or a folder with one."""
        if path.is_file():
            return path.suffix.casefold() in SUFFIXES
        return path.is_dir() and bool(_tables_in(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """One sample for each image, in the order of the lines."""
        files = [path] if path.is_file() else _chosen(path)
        tables = [read_table(f, context) for f in files]
        root = files[0].parent
        folder = context.images or root
        if not folder.is_dir():
            raise BadDataset(f"{folder}: there is no such folder of images; say where they are with images=")
        shelf = ImageIndex(folder)
        if context.images is None and not shelf.files:
            raise BadDataset(
                f"{folder}: no images lie beside {files[0].name}; say where they are with images="
            )
        roles = [find_roles(t, context) for t in tables]
        splits = [split_named(f.stem) if len(files) > 1 else None for f in files]
        parts: list[tuple[Table, ColumnRoles, str | None]] = list(zip(tables, roles, splits, strict=True))
        read = read_boxes if roles[0].box else read_image_labels
        return read(parts, shelf, root, context)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """`labels.csv` beside `images`: a line for each image, or for each box."""
        write_table(dataset, root, context)


def _tables_in(path: Path) -> list[Path]:
    return sorted(
        p for p in path.iterdir() if p.suffix.casefold() in (".csv", ".tsv") and not p.name.startswith(".")
    )


def _chosen(path: Path) -> list[Path]:
    """The one table of a folder, or one for each split."""
    found = _tables_in(path)
    if len(found) == 1:
        return found
    splits = [p for p in found if split_named(p.stem)]
    if splits and len({split_named(p.stem) for p in splits}) == len(splits):
        return splits
    names = ", ".join(p.name for p in found)
    raise BadDataset(f"{path}: holds several tables ({names}); give the path of the one that you mean")
