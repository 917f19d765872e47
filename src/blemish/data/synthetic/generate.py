"""Write synthetic data sets of any task in any format."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from blemish.data.split import split_dataset
from blemish.data.synthetic import write_cells, write_modules, write_panels, write_vehicles
from blemish.data.write_dataset import WrittenDataset, write_dataset
from blemish.errors import BadInput, UnknownName
from blemish.structures import Task

KINDS = ("cells", "modules", "panels", "vehicles")


def synthesize(
    kind: str,
    output: Path | str,
    *,
    task: Task | str | None = None,
    format: str | None = None,  # noqa: A002 - the name of the option
    count: int = 100,
    seed: int = 0,
    size: int = 128,
    bits: int = 8,
    fractions: Mapping[str, float] | None = None,
) -> WrittenDataset:
    """Generate images of solar cells or modules, painted panels or vehicles, and write them as a data set.

    Args:
        kind: `cells`, `modules`, `panels` or `vehicles`.
        output: a folder that does not exist or is empty.
        task: any task for cells, modules and panels, classification for vehicles. Default: multilabel for
            cells, segmentation for modules and panels.
        format: a writable format that can represent the task. Default: folders for vehicles, the
            task's own for others.
        count: number of images, >= 1.
        seed: the same seed gives the same pixels.
        size: height and width, in pixels, 32 to 4096; of modules the longer side, at least 256.
        bits: 8, or 16 for cells.
        fractions: fraction of the images per split. Default: no splits.

    Raises:
        UnknownName: the kind, task or format does not exist.
        BadInput: count, size, bits or task are out of range.
        WrongTask: the format cannot represent the task.
        StorageFull: the disk is full or read-only.
    """
    if kind not in KINDS:
        raise UnknownName("kind of data", kind, KINDS)
    if count < 1 or not 32 <= size <= 4096:
        raise BadInput(
            f"expected at least 1 image of 32 to 4096 pixels, got {count} of {size} pixels", reason="size"
        )
    if bits not in (8, 16) or (bits == 16 and kind != "cells"):
        raise BadInput(f"bits: expected 8, or 16 for cells, got {bits} for {kind}", reason="bits")
    default = {"cells": Task.MULTILABEL, "modules": Task.SEGMENTATION, "panels": Task.SEGMENTATION}.get(
        kind, Task.CLASSIFICATION
    )
    try:
        chosen = default if task is None else Task(task)
    except ValueError:
        raise UnknownName("task", str(task), [str(t) for t in Task]) from None
    if kind == "vehicles" and not chosen.has_one_label:
        raise BadInput(
            f"vehicles: expected the task classification, got {chosen}. Use panels or cells for other tasks.",
            reason="task",
        )
    target = format or ("folders" if kind == "vehicles" else chosen.fields.default_format)
    with tempfile.TemporaryDirectory() as folder:
        if kind == "cells":
            dataset = write_cells(folder, count, seed, layout="images", task=chosen, size=size, bits=bits)
        elif kind == "modules":
            dataset = write_modules(folder, count, seed, layout="images", task=chosen, size=size)
        elif kind == "panels":
            dataset = write_panels(folder, count, seed, layout="images", task=chosen, size_hw=(size, size))
        else:
            dataset = write_vehicles(folder, count, seed, layout="images", size_hw=(size, size))
        if fractions:
            dataset = split_dataset(dataset, fractions=fractions, seed=seed)
        return write_dataset(dataset, output, target)
