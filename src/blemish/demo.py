"""The demonstration: from 2,624 real solar cells to a measured model file, in minutes on a laptop.

Nothing here is special: the cells are written as an ordinary data set, and the steps are those of
`blemish data check`, `train`, `evaluate` and `predict`.
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.errors import BadInput, MissingExtra, NoNetwork

if TYPE_CHECKING:
    from blemish.evaluation import Report
    from blemish.structures import Dataset

DATA_LICENCE = "CC BY-NC-SA 4.0"
DATA_SOURCE = "ELPV, github.com/zae-bayern/elpv-dataset"
RECIPE = "solar-defective"
DEFECTIVE_FROM = 0.5  # of the labellers' probability of a defect
FRACTIONS = {"train": 0.62, "val": 0.13, "test": 0.25}
DRAWN = 6


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made.

    Attributes:
        data: the table of the data set it wrote.
        run: the training's folder.
        model: the model file.
        weights: what training started from: `default` or `none`.
        report: how the model does on the held-out quarter.
        report_page: the report to open in a browser.
        drawings: annotated images.
    """

    data: Path
    run: Path
    model: Path
    weights: str
    report: Report
    report_page: Path
    drawings: tuple[Path, ...]


def demonstrate(
    output: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    weights: str | None = None,
    device: str = "auto",
    progress: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> DemoResult:
    """Write, check, split, train, evaluate and draw.

    The epoch and the thresholds are chosen on validation images, never on the held-out quarter.

    Args:
        output: where everything goes; what an earlier demonstration left there is replaced.
        seed: of the split and of the training.
        epochs: None for the recipe's.
        weights: `default`, `none` or a file; None for `default`, and `none` where there is no network.
        device: as `blemish train` takes it.
        progress: whether to show a bar while training.
        say: told what happens, a sentence a step.

    Raises:
        MissingExtra: the package with the cells is not installed.
        StorageFull: the disk is full.
    """
    from blemish import inference
    from blemish.config.recipe import read_recipe
    from blemish.data import open_dataset
    from blemish.evaluation import evaluate

    table, dataset = _write_split_cells(output / "cells", seed)
    parts = ", ".join(f"{dataset.splits[name]} {name}" for name in FRACTIONS)
    say(f"{len(dataset):,} solar cells in {table.parent}: {parts} ({DATA_LICENCE}; {DATA_SOURCE})")
    _check(dataset, say)
    run = output / "run"
    shutil.rmtree(run, ignore_errors=True)
    recipe = read_recipe(
        RECIPE,
        overrides={
            "data.path": str(table),
            "data.license": DATA_LICENCE,
            "training.epochs": epochs,
            "training.seed": seed,
        },
    )
    made, weights = _train(recipe, run, weights, device, progress, say)
    report = evaluate(made.model_file, open_dataset(table), split="test", output=output / "report")
    predictor = inference.load(made.model_file)
    drawings = _draw(dataset, predictor, output / "drawn")
    page = output / "report" / "report.html"
    return DemoResult(table, run, made.model_file, weights, report, page, drawings)


def _train(
    recipe: Any, run: Path, weights: str | None, device: str, progress: bool, say: Callable[[str], None]
) -> tuple[Any, str]:
    from blemish import training

    try:
        chosen = weights or "default"
        made = training.train(recipe, weights=chosen, output=run, device=device, progress=progress)
    except NoNetwork as error:
        if weights is not None:
            raise
        chosen = "none"
        say(f"No pretrained weights ({error}). Training starts from random weights instead.")
        shutil.rmtree(run, ignore_errors=True)
        made = training.train(recipe, weights=chosen, output=run, device=device, progress=progress)
    return made, chosen


def _write_split_cells(folder: Path, seed: int) -> tuple[Path, Dataset]:
    """The cells as a table with a split column, so that every verb sees the same held-out quarter."""
    from blemish.data import open_dataset, split_dataset

    table = write_cells(folder)
    # Neighbouring wafers of one block show the same grain: they go to the same side.
    dataset = split_dataset(open_dataset(table), fractions=FRACTIONS, seed=seed, group_by="near-duplicates")
    split_of = {sample.path.name: sample.split for sample in dataset}
    with table.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "split"])
        writer.writerows([*row, split_of[Path(row[0]).name]] for row in rows)
    return table, dataset


def write_cells(folder: Path) -> Path:
    """The cells of the package `elpv-dataset` as a table of labels beside a folder of images.

    Returns:
        The table: `labels.csv` with filename, label and wafer.

    Raises:
        MissingExtra: the package is not installed.
    """
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise MissingExtra("demo", "the demonstration with its solar cells")
    source = Path(found.origin).parent / "data"
    lines = (source / "labels.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    if not rows:
        raise BadInput(f"{source}: the package elpv-dataset holds no cells; install it again")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = folder / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label", "wafer"])
        for name, probability, wafer in rows:
            target = folder / "images" / Path(name).name
            if not target.exists() or target.stat().st_size != (source / name).stat().st_size:
                shutil.copyfile(source / name, target)
            label = "defective" if float(probability) >= DEFECTIVE_FROM else "functional"
            writer.writerow([f"images/{target.name}", label, wafer])
    return table


def _check(dataset: Dataset, say: Callable[[str], None]) -> None:
    """Say which images cannot be opened; training would refuse them."""
    from blemish.data.audit import unreadable

    broken = unreadable(dataset)
    say("every image opens" if not broken else f"{len(broken)} images cannot be opened: {broken[0]}")


def _draw(dataset: Dataset, predictor: Any, folder: Path) -> tuple[Path, ...]:
    """A few of the held-out cells, as many of each label as of the other, with the model's verdict."""
    folder.mkdir(parents=True, exist_ok=True)
    test = dataset.of_split("test")
    share = DRAWN // len(dataset.labels)
    chosen = [
        sample
        for index in range(len(dataset.labels))
        for sample in [s for s in test if s.ground_truth is not None and index in s.ground_truth.label_index][
            :share
        ]
    ]
    drawn = []
    for outcome in predictor.predict_many([sample.path for sample in chosen]):
        if outcome.prediction is not None:
            path = folder / f"{Path(outcome.source).stem}.png"
            outcome.prediction.plot().save(path)
            drawn.append(path)
    return tuple(drawn)
