"""The csv format: a table with one line per image or per box; columns are identified by their headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from blemish.data.formats import register
from blemish.data.image_index import ImageIndex
from blemish.data.read_context import ReadContext
from blemish.data.tables.box_cells import expand_box_cells
from blemish.data.tables.box_rows import read_boxes
from blemish.data.tables.columns import ColumnRoles, find_roles, plain
from blemish.data.tables.image_rows import read_image_labels
from blemish.data.tables.run_length_rows import read_run_lengths, run_length_column
from blemish.data.tables.table_files import class_names_file, has_tables, table_files
from blemish.data.tables.table_images import TableImages
from blemish.data.tables.table_reader import Table, joined, read_table
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
        return path.is_dir() and has_tables(path)

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of the lines."""
        splits: dict[Path, str | None] = {path: None} if path.is_file() else table_files(path, context)
        if not splits:
            raise BadDataset(
                "found no table", where=path, remedy="pass the path of the table", reason="no-label-file"
            )
        files = list(splits)
        tables = [expand_box_cells(read_table(f, context), context) for f in files]
        root = path if path.is_dir() else path.parent
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
        images = TableImages(image_index, context)
        if run_length_column(tables[0]) is not None:
            return read_run_lengths(list(zip(tables, splits.values(), strict=True)), images, root, context)
        tables = [_with_class_names(t, root) for t in tables]
        # The cells of one split alone may allow another reading than those of all.
        whole = joined(tables)
        roles = [find_roles(t, context) for t in tables] if whole is None else [find_roles(whole, context)]
        roles *= len(tables) // len(roles)
        parts: list[tuple[Table, ColumnRoles, str | None]] = list(
            zip(tables, roles, splits.values(), strict=True)
        )
        read = read_boxes if roles[0].box else read_image_labels
        return read(parts, images, root, context)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `labels.csv` and the folder `images`, with one line per image or per box."""
        write_table(dataset, root, context)


def _with_class_names(table: Table, folder: Path) -> Table:
    """Return the table with the names of OpenImages' labels, if their file is next to it."""
    file = class_names_file(folder)
    position = next((i for i, h in enumerate(table.header) if plain(h) == "labelname"), None)
    if file is None or position is None:
        return table
    lines = file.read_text("utf-8-sig", "replace").splitlines()
    names = {key.strip(): name.strip() for key, _, name in (line.partition(",") for line in lines)}
    rows = tuple(
        (*row[:position], names.get(row[position]) or row[position], *row[position + 1 :])
        for row in table.rows
    )
    return replace(table, rows=rows)
