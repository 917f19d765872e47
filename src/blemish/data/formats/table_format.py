"""The csv format: a table with one line per image or per box; columns are identified by their headers."""

from __future__ import annotations

from pathlib import Path

from blemish.data.formats import register
from blemish.data.image_index import ImageIndex
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.tables.box_cells import expand_box_cells
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
class TableFormat:
    """CSV and TSV with one label or several labels per image, or with boxes."""

    def recognizes(self, path: Path) -> bool:
        """Return whether the path is a table, or a folder with one."""
        if path.is_file():
            return path.suffix.casefold() in SUFFIXES
        return path.is_dir() and bool(_tables_in(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of the lines."""
        files = [path] if path.is_file() else _tables_to_read(path)
        tables = [expand_box_cells(read_table(f, context), context) for f in files]
        root = files[0].parent
        folder = context.images or root
        if not folder.is_dir():
            raise BadDataset(
                "no such folder of images",
                where=folder,
                remedy="pass the folder of the images with --images",
                reason="no-image-folder",
            )
        image_index = ImageIndex(folder)
        if context.images is None and not image_index.files:
            raise BadDataset(
                f"there are no images next to {files[0].name}",
                where=folder,
                remedy="pass the folder of the images with --images",
                reason="no-images",
            )
        roles = [find_roles(t, context) for t in tables]
        splits = [split_named(f.stem) if len(files) > 1 else None for f in files]
        parts: list[tuple[Table, ColumnRoles, str | None]] = list(zip(tables, roles, splits, strict=True))
        read = read_boxes if roles[0].box else read_image_labels
        return read(parts, image_index, root, context)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `labels.csv` and the folder `images`, with one line per image or per box."""
        write_table(dataset, root, context)


def _tables_in(path: Path) -> list[Path]:
    return sorted(
        p for p in path.iterdir() if p.suffix.casefold() in (".csv", ".tsv") and not p.name.startswith(".")
    )


def _tables_to_read(path: Path) -> list[Path]:
    """Return the only table of a folder, or one per split."""
    tables = _tables_in(path)
    if len(tables) == 1:
        return tables
    splits = [p for p in tables if split_named(p.stem)]
    if splits and len({split_named(p.stem) for p in splits}) == len(splits):
        return splits
    names = ", ".join(p.name for p in tables)
    raise BadDataset(
        f"expected one table, or one per split, got {names}",
        where=path,
        remedy="pass the path of one of them",
        reason="ambiguous-files",
    )
