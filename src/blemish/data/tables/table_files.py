"""Find the tables of a data set: one, one per split, or one in each split folder."""

from __future__ import annotations

from pathlib import Path

from blemish.data.folder_names import words_of
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.errors import BadDataset

SUFFIXES = (".csv", ".tsv")
CLASS_NAMES_FILE = "class-descriptions"  # of OpenImages: the name of each label, no annotations


def table_files(path: Path, context: ReadContext | None = None) -> dict[Path, str | None]:
    """Return the tables of a folder with the split of each.

    Args:
        path: the folder.
        context: receives a note about tables that are not read.

    Raises:
        BadDataset: there are several tables, and they are not one per split.
    """
    tables = tables_in(path)
    if not tables:
        return _tables_of_split_folders(path)
    if len(tables) == 1:
        return {tables[0]: None}
    splits = {table: split_named(table.stem) for table in tables}
    if not any(splits.values()):
        splits = {table: _split_in_name(table) for table in tables}
    named = {table: split for table, split in splits.items() if split is not None}
    if not named or len(set(named.values())) < len(named):
        raise _ambiguous(tables, path)
    others = [table.name for table in tables if table not in named]
    if others and context is not None:
        context.note(f"tables without the name of a split were not read: {', '.join(others)}")
    return dict(named)


def has_tables(path: Path) -> bool:
    """Return whether there are tables in a folder, or in its split folders."""
    return bool(tables_in(path)) or bool(_tables_of_split_folders(path, first_only=True))


def class_names_file(path: Path) -> Path | None:
    """Return the file of OpenImages with the name of each label, or None."""
    found = [f for f in sorted(path.glob("*.csv")) if CLASS_NAMES_FILE in f.name.casefold()]
    return found[0] if found else None


def tables_in(folder: Path) -> list[Path]:
    """Return the tables that are directly in a folder, by name."""
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.casefold() in SUFFIXES
        and not p.name.startswith(".")
        and CLASS_NAMES_FILE not in p.name.casefold()
    )


def _tables_of_split_folders(path: Path, *, first_only: bool = False) -> dict[Path, str | None]:
    """Return the table of each split folder, such as `_annotations.csv` or `_classes.csv` of Roboflow."""
    found: dict[Path, str | None] = {}
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and split_named(p.name)):
        tables = tables_in(folder)
        if len(tables) > 1 and not first_only:
            raise _ambiguous(tables, folder)
        if tables:
            found[tables[0]] = split_named(folder.name)
    return found


def _split_in_name(table: Path) -> str | None:
    splits = {split for word in words_of(table.stem) if (split := split_named(word))}
    return splits.pop() if len(splits) == 1 else None


def _ambiguous(tables: list[Path], folder: Path) -> BadDataset:
    return BadDataset(
        f"expected one table, or one per split, got {', '.join(p.name for p in tables)}",
        where=folder,
        remedy="pass the path of one of them",
        reason="ambiguous-files",
    )
