"""Read tables with one line per image, with one label or any number of labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.image_index import sample_id
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.tables.cell_values import UNCERTAIN_CELLS, names_in
from blemish.data.tables.columns import FALSE_CELLS, TRUE_CELLS, ColumnRoles
from blemish.data.tables.table_images import TableImages
from blemish.data.tables.table_reader import Table
from blemish.errors import BadDataset
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task

Parts = Sequence[tuple[Table, ColumnRoles, str | None]]


def read_image_labels(parts: Parts, images: TableImages, root: Path, context: ReadContext) -> Dataset:
    """Return a classification data set for a column of labels, a multilabel data set for other columns.

    Args:
        parts: each table with its columns and the split of its file.
        images: the images.
        root: the folder that sample ids are relative to.
        context: receives the faults.

    Raises:
        BadDataset: no line has an image that exists, or a line has a fault and the reading is strict.
    """
    joins_lines = context.task is Task.MULTILABEL and any(r.label is not None for _, r, _ in parts)
    single = all(roles.label is not None for _, roles, _ in parts) and not joins_lines
    task = Task.CLASSIFICATION if single else Task.MULTILABEL
    labels = _labels(parts, context)
    samples: list[Sample] = []
    missing: list[tuple[str, str]] = []
    first_line: dict[Path, tuple[str, tuple[int, ...], int]] = {}
    for table, roles, file_split in parts:
        for row, cells in enumerate(table.rows):
            origin = table.origin(row)
            image = images.find(cells[roles.path], table.path.parent)
            if image is None:
                missing.append((cells[roles.path], origin))
                continue
            index = _label_index(table, roles, row, labels, origin, context)
            if index is None:
                continue
            if image in first_line:
                position = first_line[image][2]
                samples[position] = replace(
                    samples[position],
                    split=split_of_both(samples[position].split, cells, roles, file_split, origin, context),
                )
                if joins_lines:
                    first_origin, first_index, _ = first_line[image]
                    index = tuple(sorted({*first_index, *index}))
                    first_line[image] = first_origin, index, position
                    joined = GroundTruth(task=task, labels=labels, label_index=np.array(index, np.int64))
                    samples[position] = replace(samples[position], ground_truth=joined)
                    context.note("several lines of an image are read as its labels (--task multilabel)")
                    continue
                _report_repeated_image(first_line[image][:2], index, image, origin, context)
                continue
            first_line[image] = (origin, index, len(samples))
            split, group = split_and_group(cells, roles, file_split, origin, context)
            samples.append(
                Sample(
                    id=sample_id(image, root),
                    path=image,
                    group=group,
                    split=split,
                    ground_truth=GroundTruth(task=task, labels=labels, label_index=np.array(index, np.int64)),
                    origin=origin,
                    columns={table.header[i]: cells[i] for i in roles.rest if table.header[i]},
                )
            )
    images.report(missing)
    if not samples:
        raise BadDataset(
            f"none of the listed images is in {images.root}",
            where=parts[0][0].path,
            remedy="pass the folder of the images with --images",
            reason="no-images",
        )
    return Dataset(task=task, labels=labels, samples=tuple(samples), root=root, format="csv")


def split_and_group(
    cells: Sequence[str], roles: ColumnRoles, file_split: str | None, origin: str, context: ReadContext
) -> tuple[str | None, str | None]:
    """Return the split and the group of a line; the split of the file applies if the line has none."""
    split = file_split
    if roles.split is not None and cells[roles.split]:
        split = split_named(cells[roles.split])
        if split is None:
            context.problem(
                "unknown-split",
                f"split: expected train, val or test, got {cells[roles.split]!r}",
                origin=origin,
                remedy="correct it",
            )
    group = cells[roles.group] or None if roles.group is not None else None
    return split, group


def split_of_both(
    first: str | None,
    cells: Sequence[str],
    roles: ColumnRoles,
    file_split: str | None,
    origin: str,
    context: ReadContext,
) -> str | None:
    """Return the split of an image that an earlier line has put into `first`; report a second split."""
    second = file_split
    if roles.split is not None and cells[roles.split]:
        second = split_named(cells[roles.split])
    if first is None or second is None or first == second:
        return first
    return context.in_two_splits(cells[roles.path], first, second, origin=origin)


def _labels(parts: Parts, context: ReadContext) -> Labels:
    """Return the labels of all tables: flag columns in their order, names sorted."""
    table, roles, _ = parts[0]
    if roles.flags:
        headers = [table.header[i] for i in roles.flags]
        for other, other_roles, _ in parts[1:]:
            if [other.header[i] for i in other_roles.flags] != headers:
                raise BadDataset(
                    f"expected the label columns of {table.path}, {', '.join(headers)}",
                    where=f"{other.path}:1",
                    remedy="use the same label columns in both tables",
                    reason="different-columns",
                )
        return labels_with_display_names(_strip_affix(headers))
    names: set[str] = set()
    for table, roles, _ in parts:
        if roles.label is not None:
            names.update(table.column(roles.label))
        elif roles.labels is not None:
            names.update(
                name for cell in table.column(roles.labels) for name in names_in(cell, by_space=roles.words)
            )
        else:
            names.update(cell for i in roles.tags for cell in table.column(i))
    names.discard("")
    if not names:
        raise BadDataset(
            "no line has a label",
            where=table.path,
            remedy="add labels, or pass their column with --column label=NAME",
            reason="no-labels",
        )
    return labels_with_display_names(sorted(names, key=natural_key))


def _label_index(
    table: Table, roles: ColumnRoles, row: int, labels: Labels, origin: str, context: ReadContext
) -> tuple[int, ...] | None:
    """Return the label indices of one line, ascending, or None if the line is left out."""
    cells = table.rows[row]
    if roles.label is not None:
        if not cells[roles.label]:
            context.problem(
                "empty-label",
                f"expected a label for {cells[roles.path]!r}",
                origin=origin,
                remedy="add a label or remove the line",
                fix="drops the line",
            )
            return None
        return (labels.index(cells[roles.label]),)
    if roles.flags:
        folded = [cells[i].casefold() for i in roles.flags]
        if context.uncertain != "error" and not UNCERTAIN_CELLS.isdisjoint(folded):
            if context.uncertain == "drop":
                context.note("lines with an uncertain label were left out (--uncertain drop)")
                return None
            context.note(f"uncertain labels are read as {context.uncertain} (--uncertain)")
            value = "1" if context.uncertain == "positive" else "0"
            folded = [value if cell in UNCERTAIN_CELLS else cell for cell in folded]
        for i, cell in zip(roles.flags, folded, strict=True):
            if (
                cell not in TRUE_CELLS and cell not in FALSE_CELLS
            ):  # possible only in the table of another split
                raise BadDataset(
                    f"column {table.header[i]!r}: expected 0 or 1, got {cells[i]!r}",
                    where=origin,
                    remedy="write 0 or 1",
                    reason="flag-value",
                )
        if "" in folded and not roles.blank_means_false:
            empty = ", ".join(
                repr(table.header[i]) for i, c in zip(roles.flags, folded, strict=True) if not c
            )
            context.problem(
                "empty-cell",
                f"column {empty}: expected 0 or 1 for {cells[roles.path]!r}, got an empty cell",
                origin=origin,
                remedy="write 0 or 1, or remove the line",
                fix="drops the line",
            )
            return None
        return tuple(i for i, cell in enumerate(folded) if cell in TRUE_CELLS)
    names: Iterable[str] = (
        names_in(cells[roles.labels], by_space=roles.words)
        if roles.labels is not None
        else (cells[i] for i in roles.tags if cells[i])
    )
    return tuple(sorted({labels.index(n) for n in names}))


def _report_repeated_image(
    first: tuple[str, tuple[int, ...]],
    index: tuple[int, ...],
    image: Path,
    origin: str,
    context: ReadContext,
) -> None:
    first_origin, first_index = first
    if first_index == index:
        context.problem(
            "repeated-line",
            f"{image.name!r} has the same labels at {first_origin}",
            origin=origin,
            path=image,
            remedy="remove one of the lines",
            severity=Severity.WARNING,
            fix="drops the later line",
        )
        context.note("lines that repeat an earlier line were left out")
        return
    context.problem(
        "contradicting-labels",
        f"{image.name!r} has other labels at {first_origin}",
        origin=origin,
        path=image,
        remedy="keep the correct line, or pass --task multilabel if an image has one line per label",
    )


def _strip_affix(headers: Sequence[str]) -> list[str]:
    """Return label names from headers, without a common affix: `Crack Label`, `Inactive Label`."""
    ends = [re.fullmatch(r"(?i)(.+?)[\s_\-]+label", h) for h in headers]
    if all(ends):
        return [re.sub(r"\s+", "_", e[1].strip()).casefold() for e in ends if e]
    starts = [re.fullmatch(r"(?i)(?:label|has|is)[_\-](.+)", h) for h in headers]
    if all(starts):
        return [s[1].strip() for s in starts if s]
    return list(headers)


def natural_key(name: str) -> tuple[int, int, str]:
    """Return a sort key that orders numbers by value, before words: 2, 10, dent."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
