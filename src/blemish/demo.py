"""The demo: from 2,624 images of real solar cells to a measured model file, in minutes on a laptop.

The demo writes the cells as an ordinary data set. Its steps are those of `blemish data check`, `train`,
`evaluate` and `predict`.
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.errors import BadInput, MissingExtra, NoNetwork

if TYPE_CHECKING:
    from blemish.config.recipe import Recipe
    from blemish.evaluation import Report
    from blemish.inference import Predictor
    from blemish.structures import Dataset
    from blemish.training.run import Run

DATA_LICENCE = "CC BY-NC-SA 4.0"
DATA_SOURCE = "ELPV, github.com/zae-bayern/elpv-dataset"
RECIPE = "solar-defective"
DEFECTIVE_FROM = 0.5  # the probability of a defect that the annotators stated
FRACTIONS = {"train": 0.62, "val": 0.13, "test": 0.25}
DRAWN_IMAGES = 6


@dataclass(frozen=True)
class DemoResult:
    """The files and the report of a demo.

    Attributes:
        data: the table of the data set.
        run: the folder of the training run.
        model: the model file.
        weights: the initial weights of the training: `default`, `none` or a file.
        report: the metrics on the test split, a quarter of the images.
        report_page: the report as a web page.
        drawings: test images with their predictions drawn on them.
    """

    data: Path
    run: Path
    model: Path
    weights: str
    report: Report
    report_page: Path
    drawings: tuple[Path, ...]


def run_demo(
    output: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    weights: str | None = None,
    device: str = "auto",
    progress: bool = False,
    report_step: Callable[[str], None] = lambda message: None,
) -> DemoResult:
    """Write the data set, check it, split it, train, evaluate and draw predictions.

    Training selects the epoch and the thresholds on validation images, never on the test split.

    Args:
        output: the folder for all files; the files of an earlier demo in it are replaced.
        seed: random seed of the split and of the training.
        epochs: maximum number of epochs; None takes the recipe's.
        weights: `default`, `none` or a file. None tries `default`, and `none` if the download fails.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        progress: whether to show a progress bar while training.
        report_step: called with one message per step.

    Raises:
        MissingExtra: the package with the images is not installed.
        StorageFull: the disk is full.
    """
    from blemish import inference
    from blemish.config.recipe import read_recipe
    from blemish.data import open_dataset
    from blemish.evaluation import evaluate

    table, dataset = _write_split_cells(output / "cells", seed)
    sizes = ", ".join(f"{dataset.splits[name]} {name}" for name in FRACTIONS)
    report_step(f"{len(dataset):,} solar cells in {table.parent}: {sizes} ({DATA_LICENCE}; {DATA_SOURCE})")
    _check(dataset, report_step)
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
    result, weights = _train(recipe, run, weights, device, report_step, progress=progress)
    report = evaluate(result.model_file, open_dataset(table), split="test", output=output / "report")
    predictor = inference.load(result.model_file)
    drawings = _draw(dataset, predictor, output / "drawn")
    page = output / "report" / "report.html"
    return DemoResult(table, run, result.model_file, weights, report, page, drawings)


def _train(
    recipe: Recipe,
    folder: Path,
    weights: str | None,
    device: str,
    report_step: Callable[[str], None],
    *,
    progress: bool,
) -> tuple[Run, str]:
    """Train, from random weights if the pretrained ones cannot be downloaded; return the weights used too."""
    from blemish.training.run import train

    used = weights or "default"
    try:
        return train(recipe, weights=used, output=folder, device=device, progress=progress), used
    except NoNetwork as error:
        if weights is not None:
            raise
        report_step(f"Pretrained weights are not available ({error}). Training starts from random weights.")
        shutil.rmtree(folder, ignore_errors=True)
        return train(recipe, weights="none", output=folder, device=device, progress=progress), "none"


def _write_split_cells(folder: Path, seed: int) -> tuple[Path, Dataset]:
    """Write the cells as a table with a split column, so that every command uses the same test split."""
    from blemish.data import open_dataset, split_dataset

    table = write_cells(folder)
    # Neighboring wafers of one block show the same grain, so they belong to the same split.
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
    """Write the images of the package `elpv-dataset` and a table of their labels.

    Args:
        folder: receives `labels.csv` and the folder `images`.

    Returns:
        The table, with the columns filename, label and wafer.

    Raises:
        MissingExtra: the package is not installed.
    """
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise MissingExtra("demo", "blemish demo")
    source = Path(package.origin).parent / "data"
    lines = (source / "labels.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    if not rows:
        raise BadInput(
            f"{source}: the package elpv-dataset contains no images. Install it again.",
            reason="empty-package",
        )
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


def _check(dataset: Dataset, report_step: Callable[[str], None]) -> None:
    """Report whether every image can be read; training refuses a data set with unreadable images."""
    from blemish.data.audit import unreadable

    errors = unreadable(dataset)
    report_step("every image can be read" if not errors else f"{len(errors)} unreadable images: {errors[0]}")


def _draw(dataset: Dataset, predictor: Predictor, folder: Path) -> tuple[Path, ...]:
    """Draw the predictions for a few test images, the same number for each label."""
    folder.mkdir(parents=True, exist_ok=True)
    test = dataset.of_split("test")
    share = DRAWN_IMAGES // len(dataset.labels)
    chosen = [
        sample
        for index in range(len(dataset.labels))
        for sample in [s for s in test if s.ground_truth is not None and index in s.ground_truth.label_index][
            :share
        ]
    ]
    paths = []
    for result in predictor.stream([sample.path for sample in chosen]):
        if result.prediction is not None:
            path = folder / f"{Path(result.input.id).stem}.png"
            result.prediction.plot().save(path)
            paths.append(path)
    return tuple(paths)
