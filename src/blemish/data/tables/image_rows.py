"""Tables with one line for each image: one label, or any number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.image_index import ImageIndex, sample_id
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.tables.columns import NO, YES, ColumnRoles
from blemish.data.tables.table_reader import Table
from blemish.errors import BadDataset
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task

Parts = Sequence[tuple[Table, ColumnRoles, str | None]]


def read_image_labels(parts: Parts, shelf: ImageIndex, root: Path, context: ReadContext) -> Dataset:
    """A classification set from a column of labels, a multilabel set from anything else."""
    single = all(roles.label is not None for _, roles, _ in parts)
    task = Task.CLASSIFICATION if single else Task.MULTILABEL
    labels = _labels(parts, context)
    samples: list[Sample] = []
    missing: list[tuple[str, str]] = []
    first_line: dict[Path, tuple[str, tuple[int, ...], int]] = {}
    for table, roles, file_split in parts:
        for row, cells in enumerate(table.rows):
            origin = table.origin(row)
            image = shelf.find(cells[roles.path])
            if image is None:
                missing.append((cells[roles.path], origin))
                continue
            index = _label_index(table, roles, row, labels, origin, context)
            if index is None:
                continue
            if image in first_line:
                at = first_line[image][2]
                samples[at] = replace(
                    samples[at],
                    split=split_of_both(samples[at].split, cells, roles, file_split, origin, context),
                )
                _seen_twice(first_line[image][:2], index, image, origin, context)
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
    context.missing_images(missing, shelf.root, shelf)
    if not samples:
        raise BadDataset(f"{parts[0][0].path}: none of its lines has an image in {shelf.root}")
    return Dataset(task=task, labels=labels, samples=tuple(samples), root=root, format="csv")


def split_and_group(
    cells: Sequence[str], roles: ColumnRoles, file_split: str | None, origin: str, context: ReadContext
) -> tuple[str | None, str | None]:
    """The split and the group that a line names."""
    split = file_split
    if roles.split is not None and cells[roles.split]:
        split = split_named(cells[roles.split])
        if split is None:
            context.problem(
                "unknown-split",
                f"the split {cells[roles.split]!r} is none of train, val, test",
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
    """The split of an image that an earlier line put into `first`; a leak is told."""
    second = file_split
    if roles.split is not None and cells[roles.split]:
        second = split_named(cells[roles.split])
    if first is None or second is None or first == second:
        return first
    return context.in_two_splits(cells[roles.path], first, second, origin=origin)


def _labels(parts: Parts, context: ReadContext) -> Labels:
    """Every label of the table: flag columns in their order, names sorted."""
    table, roles, _ = parts[0]
    if roles.flags:
        headers = [table.header[i] for i in roles.flags]
        for other, other_roles, _ in parts[1:]:
            if [other.header[i] for i in other_roles.flags] != headers:
                raise BadDataset(
                    f"{other.path}:1: its label columns differ from those of {table.path}; name them alike"
                )
        return labels_with_display_names(_without_suffix(headers))
    found: set[str] = set()
    for table, roles, _ in parts:
        if roles.label is not None:
            found.update(table.column(roles.label))
        elif roles.labels is not None:
            found.update(name for cell in table.column(roles.labels) for name in _names_in(cell))
        else:
            found.update(cell for i in roles.tags for cell in table.column(i))
    found.discard("")
    if not found:
        raise BadDataset(
            f"{table.path}: no line holds a label; write them in, or say which column with columns="
        )
    return labels_with_display_names(sorted(found, key=natural))


def _label_index(
    table: Table, roles: ColumnRoles, row: int, labels: Labels, origin: str, context: ReadContext
) -> tuple[int, ...] | None:
    """The labels of one line, ascending; None where it has none and needs one."""
    cells = table.rows[row]
    if roles.label is not None:
        if not cells[roles.label]:
            context.problem(
                "empty-label",
                f"there is no label for {cells[roles.path]!r}",
                origin=origin,
                remedy="write one or drop the line",
                fix="drops the line",
            )
            return None
        return (labels.index(cells[roles.label]),)
    if roles.flags:
        folded = [cells[i].casefold() for i in roles.flags]
        for i, cell in zip(roles.flags, folded, strict=True):
            if cell not in YES and cell not in NO:  # only another split's table can hold this
                raise BadDataset(f"{origin}: column {table.header[i]!r} holds {cells[i]!r}; write 0 or 1")
        if "" in folded and not roles.blank_means_no:
            empty = ", ".join(
                repr(table.header[i]) for i, c in zip(roles.flags, folded, strict=True) if not c
            )
            context.problem(
                "empty-cell",
                f"the cell under {empty} is empty for {cells[roles.path]!r} where others hold 0 or 1",
                origin=origin,
                remedy="write 0 or 1, or drop the line",
                fix="drops the line",
            )
            return None
        return tuple(i for i, cell in enumerate(folded) if cell in YES)
    named: Iterable[str] = (
        _names_in(cells[roles.labels])
        if roles.labels is not None
        else (cells[i] for i in roles.tags if cells[i])
    )
    return tuple(sorted({labels.index(n) for n in named}))


def _seen_twice(
    first: tuple[str, tuple[int, ...]],
    index: tuple[int, ...],
    image: Path,
    origin: str,
    context: ReadContext,
) -> None:
    where, before = first
    if before == index:
        context.problem(
            "repeated-line",
            f"{image.name!r} stands here and at {where} with the same labels",
            origin=origin,
            path=image,
            remedy="drop one",
            severity=Severity.WARNING,
            fix="drops the later line",
        )
        context.note("lines that repeat an earlier one were dropped")
        return
    context.problem(
        "contradicting-labels",
        f"{image.name!r} has other labels here than at {where}",
        origin=origin,
        path=image,
        remedy="keep the right line",
    )


def _names_in(cell: str) -> list[str]:
    """The labels of one cell: `crack|inactive`, `crack; inactive`, `crack, inactive`."""
    return [n for n in (part.strip() for part in re.split(r"[|;,]", cell)) if n]


def _without_suffix(headers: Sequence[str]) -> list[str]:
    """Label names from headers; `Crack Label`, `Inactive Label` lose the word they share."""
    ends = [re.fullmatch(r"(?i)(.+?)[\s_\-]+label", h) for h in headers]
    if all(ends):
        return [re.sub(r"\s+", "_", e[1].strip()).casefold() for e in ends if e]
    starts = [re.fullmatch(r"(?i)(?:label|has|is)[_\-](.+)", h) for h in headers]
    if all(starts):
        return [s[1].strip() for s in starts if s]
    return list(headers)


def natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, then words: 2 before 10."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
