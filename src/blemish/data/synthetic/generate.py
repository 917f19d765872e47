"""Believable data sets of any task in any format, drawn from a seed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from blemish.data.split import split_dataset
from blemish.data.synthetic import write_cells, write_panels, write_vehicles
from blemish.data.write_dataset import WrittenDataset, write_dataset
from blemish.errors import BadInput, UnknownName
from blemish.structures import Task

KINDS = ("cells", "panels", "vehicles")


def synthesize(
    kind: str,
    output: Path | str,
    *,
    task: Task | str | None = None,
    format: str | None = None,  # noqa: A002 - the word people type
    count: int = 100,
    seed: int = 0,
    size: int = 128,
    bits: int = 8,
    fractions: Mapping[str, float] | None = None,
) -> WrittenDataset:
    """Draw solar cells, painted panels or vehicles and write them as a data set.

    Args:
        kind: `cells`, `panels`, or `vehicles`: fronts and rears, normal, broken or crushed.
        output: a folder that is not there yet, or empty.
        task: any, and classification for vehicles; multilabel for cells and segmentation for panels where
            not given.
        format: any that can hold the task; csv for image-level tasks, coco for others and a folder a label
            for vehicles where not given.
        count: how many images.
        seed: the same seed draws the same.
        size: height and width, pixels.
        bits: 8, or 16 for cells.
        fractions: share of each split; no splits where not given.

    Raises:
        UnknownName: no such kind or task.
        BadInput: a count or size that cannot be.
    """
    if kind not in KINDS:
        raise UnknownName("kind of data", kind, KINDS)
    if count < 1 or not 32 <= size <= 4096:
        raise BadInput(
            f"{count} images of {size} pixels cannot be drawn; ask for at least 1, of 32 to 4096 pixels"
        )
    if bits not in (8, 16) or (bits == 16 and kind != "cells"):
        raise BadInput(f"{kind} of {bits} bits cannot be drawn; cells have 8 or 16, others 8")
    default = {"cells": Task.MULTILABEL, "panels": Task.SEGMENTATION}.get(kind, Task.CLASSIFICATION)
    try:
        wanted = default if task is None else Task(task)
    except ValueError:
        raise UnknownName("task", str(task), [str(t) for t in Task]) from None
    if kind == "vehicles" and not wanted.has_one_label:
        raise BadInput(f"vehicles are drawn for classification, not for {wanted}; panels serve any task")
    target = format or ("folders" if kind == "vehicles" else "csv" if wanted.is_image_level else "coco")
    with tempfile.TemporaryDirectory() as folder:
        if kind == "cells":
            drawn = write_cells(folder, count, seed, layout="images", task=wanted, size=size, bits=bits)
        elif kind == "panels":
            drawn = write_panels(folder, count, seed, layout="images", task=wanted, size_hw=(size, size))
        else:
            drawn = write_vehicles(folder, count, seed, layout="images", size_hw=(size, size))
        if fractions:
            drawn = split_dataset(drawn, fractions=fractions, seed=seed)
        return write_dataset(drawn, output, target)
