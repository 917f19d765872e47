"""The demo: from 2,624 images of real solar cells to a measured model file, in about a minute on two cores.

The demo writes the cells as an ordinary data set. Its steps are those of `blemish data check`,
`train --few` (or `train`), `evaluate`, `explain` and `predict`. Without `--train` it needs no PyTorch.
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.errors import BadInput, BadRecipe, MissingExtra

if TYPE_CHECKING:
    from blemish.config.recipe import Recipe
    from blemish.evaluation import Report
    from blemish.inference import Predictor
    from blemish.structures import Dataset
    from blemish.training.run import Run

DATA_LICENCE = "CC BY-NC-SA 4.0"
DATA_SOURCE = "ELPV, github.com/zae-bayern/elpv-dataset"
RECIPE = "solar-defective"
TABLE = "labels.csv"
DEFECTIVE_FROM = 0.5  # the probability of a defect that the annotators stated
FRACTIONS = {"train": 0.62, "val": 0.13, "test": 0.25}
FEW_FRACTIONS = {"train": 0.69, "val": 0.06, "test": 0.25}  # cross-validation on the training images decides
DRAWN_IMAGES = 6


@dataclass(frozen=True)
class DemoResult:
    """The files and the report of a demo.

    Attributes:
        data: the table of the data set.
        run: the folder of the training run.
        model: the model file.
        weights: where the training started: the pretrained trunk's source, `default`, `none` or a file.
        report: the metrics on the test split, a quarter of the images.
        report_page: the report as a web page.
        drawings: test images with their predictions drawn on them.
        heatmaps: the same images with the heatmap of the decided label.
        images: the files of the drawn images.
        name: of the model, on the page and in the model file.
        seconds: wall time by stage.
    """

    data: Path
    run: Path
    model: Path
    weights: str
    report: Report
    report_page: Path
    drawings: tuple[Path, ...]
    heatmaps: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    name: str = "solar-cells"
    seconds: Mapping[str, float] = field(default_factory=dict)


class _Stages:
    """Reports each stage as it begins, and measures it."""

    def __init__(self, report_step: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._report_step = report_step
        self._name, self._since = "", 0.0

    def start(self, name: str) -> None:
        self.stop()
        self._name, self._since = name, time.perf_counter()

    def stop(self) -> None:
        if self._name:
            self.seconds[self._name] = time.perf_counter() - self._since
            self._report_step(f"{self._name}: {self.seconds[self._name]:.1f} s")
        self._name = ""


def run_demo(
    output: Path,
    *,
    seed: int = 0,
    report_step: Callable[[str], None] = lambda message: None,
    report_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> DemoResult:
    """Write the data set, check it, split it, train on pretrained features, evaluate, explain and draw.

    The strength of the classifier and the decision threshold are chosen by cross-validation on the training
    images, never on the test split.

    Args:
        output: the folder for all files; the files of an earlier demo in it are replaced.
        seed: random seed of the split and of the cross-validation.
        report_step: called with one message per stage.
        report_progress: called within a stage with its name and the number of finished images and of all.

    Raises:
        MissingExtra: the package with the images, or that with the pretrained weights, is not installed.
        StorageFull: the disk is full.
    """
    from blemish import inference
    from blemish.data import open_dataset
    from blemish.evaluation import evaluate
    from blemish.few_shot import train_few
    from blemish.pretrained import find_pretrained

    find_pretrained("efficientnet-lite0")  # a missing package is reported before any work
    stages = _Stages(report_step)
    stages.start("writing and splitting the cells")
    table, dataset = _write_split_cells(output / "cells", seed, FEW_FRACTIONS)
    report_step(_describe_cells(table, dataset, FEW_FRACTIONS))
    stages.stop()
    run = output / "run"
    shutil.rmtree(run, ignore_errors=True)
    few = train_few(
        dataset,
        output=run,
        name="solar-cells",
        data_license=DATA_LICENCE,
        seed=seed,
        stage=stages.start,
        progress=report_progress,
    )
    stages.start("evaluating the test split")
    report = evaluate(few.model_file, open_dataset(table), split="test", output=output / "report")
    stages.start("drawing and explaining six cells")
    predictor = inference.load(few.model_file)
    drawings = _draw(dataset, predictor, output / "drawn")
    heatmaps, faithful = _explain(dataset, predictor, output / "heatmaps")
    stages.stop()
    report_step(_describe_heatmaps(heatmaps, faithful))
    page = output / "report" / "report.html"
    weights = str(predictor.contract.training.get("weights", ""))
    images = tuple(_some_cells(dataset))
    return DemoResult(
        data=table,
        run=run,
        model=few.model_file,
        weights=weights,
        report=report,
        report_page=page,
        drawings=drawings,
        heatmaps=heatmaps,
        images=images,
        seconds=stages.seconds,
    )


def run_training_demo(
    output: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    weights: str | None = None,
    device: str = "auto",
    progress: bool = False,
    report_step: Callable[[str], None] = lambda message: None,
) -> DemoResult:
    """Write the data set, check it, split it, fine-tune a network, evaluate, explain and draw. Needs PyTorch.

    Training selects the thresholds on validation images, never on the test split. A training that was
    interrupted, also by a kill, is continued after its last completed epoch.

    Args:
        output: the folder for all files; the files of an earlier demo in it are replaced.
        seed: random seed of the split and of the training.
        epochs: number of epochs; None takes the recipe's.
        weights: `default` (pretrained), `none` or a file; None for `default`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        progress: whether to show a progress bar while training.
        report_step: called with one message per stage.

    Raises:
        MissingExtra: the package with the images, or that with the pretrained weights, is not installed.
        StorageFull: the disk is full.
    """
    from blemish import inference
    from blemish.config.recipe import read_recipe
    from blemish.data import open_dataset
    from blemish.evaluation import evaluate
    from blemish.pretrained import PRETRAINED, find_pretrained

    overrides = {
        "data.path": str(output / "cells" / TABLE),
        "data.license": DATA_LICENCE,
        "model.weights": weights,
        "training.epochs": epochs,
        "training.seed": seed,
    }
    recipe = read_recipe(RECIPE, overrides=overrides)
    if recipe.model.weights == "default" and recipe.model.name in PRETRAINED:
        find_pretrained(recipe.model.name)  # a missing package is reported before any work
    stages = _Stages(report_step)
    stages.start("writing and splitting the cells")
    table, dataset = _write_split_cells(output / "cells", seed, FRACTIONS)
    report_step(_describe_cells(table, dataset, FRACTIONS))
    _check(dataset, report_step)
    stages.start("fine-tuning, exporting and verifying")
    result = _train(recipe, output / "run", device, report_step, progress=progress)
    stages.start("evaluating the test split")
    report = evaluate(result.model_file, open_dataset(table), split="test", output=output / "report")
    stages.start("drawing and explaining six cells")
    predictor = inference.load(result.model_file)
    drawings = _draw(dataset, predictor, output / "drawn")
    heatmaps, faithful = _explain(dataset, predictor, output / "heatmaps")
    stages.stop()
    report_step(_describe_heatmaps(heatmaps, faithful))
    return DemoResult(
        data=table,
        run=output / "run",
        model=result.model_file,
        weights=recipe.model.weights,
        report=report,
        report_page=output / "report" / "report.html",
        drawings=drawings,
        heatmaps=heatmaps,
        images=tuple(_some_cells(dataset)),
        name=RECIPE,
        seconds=stages.seconds,
    )


def _describe_cells(table: Path, dataset: Dataset, fractions: Mapping[str, float]) -> str:
    sizes = ", ".join(f"{dataset.splits[name]} {name}" for name in fractions)
    return f"{len(dataset):,} solar cells in {table.parent}: {sizes} ({DATA_LICENCE}; {DATA_SOURCE})"


def _train(
    recipe: Recipe, folder: Path, device: str, report_step: Callable[[str], None], *, progress: bool
) -> Run:
    """Train, or continue an interrupted training of the same recipe in the folder."""
    from blemish.training.run import train

    if _is_interrupted(folder, recipe):
        report_step(f"continuing the interrupted training in {folder}")
        return train(resume=folder, device=device, progress=progress)
    shutil.rmtree(folder, ignore_errors=True)
    return train(recipe, output=folder, device=device, progress=progress)


def _is_interrupted(folder: Path, recipe: Recipe) -> bool:
    """Return whether a folder contains a training of this recipe that did not end."""
    from blemish.config.recipe import MODEL_NAME, RECIPE_NAME, read_run_recipe

    if not (folder / RECIPE_NAME).is_file() or (folder / MODEL_NAME).exists():
        return False
    try:
        saved = read_run_recipe(folder)
    except BadRecipe:
        return False
    if recipe.training.channels_last is None:  # the run replaced it by the faster format
        training = saved.training.model_copy(update={"channels_last": None})
        saved = saved.model_copy(update={"training": training})
    return saved == recipe


def _write_split_cells(folder: Path, seed: int, fractions: Mapping[str, float]) -> tuple[Path, Dataset]:
    """Write the cells as a table with a split column, so that every command uses the same test split."""
    from blemish.data import open_dataset, split_dataset

    table = write_cells(folder)
    # Neighboring wafers of one block show the same grain, so they belong to the same split.
    dataset = split_dataset(open_dataset(table), fractions=fractions, seed=seed, group_by="near-duplicates")
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
    table = folder / TABLE
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


def _some_cells(dataset: Dataset) -> list[Path]:
    """Return a few test images, the same number for each label."""
    test = dataset.of_split("test")
    share = DRAWN_IMAGES // len(dataset.labels)
    return [
        sample.path
        for index in range(len(dataset.labels))
        for sample in [s for s in test if s.ground_truth is not None and index in s.ground_truth.label_index][
            :share
        ]
    ]


def _draw(dataset: Dataset, predictor: Predictor, folder: Path) -> tuple[Path, ...]:
    """Draw the predictions for a few test images."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for result in predictor.stream(_some_cells(dataset)):
        if result.prediction is not None:
            path = folder / f"{Path(result.input.id).stem}.png"
            result.prediction.plot().save(path)
            paths.append(path)
    return tuple(paths)


def _describe_heatmaps(heatmaps: tuple[Path, ...], faithful: int) -> str:
    return f"{faithful} of {len(heatmaps)} heatmaps agree with their score (deletion and insertion)"


def _explain(dataset: Dataset, predictor: Predictor, folder: Path) -> tuple[tuple[Path, ...], int]:
    """Draw the heatmap of the decided label over the same images, and count those that agree with it."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, faithful = [], 0
    for image in _some_cells(dataset):
        for heatmap in predictor.explain(image, max_targets=1):
            faithful += bool(heatmap.is_faithful)
            path = folder / f"{image.stem}-{heatmap.label}.png"
            heatmap.plot().save(path)
            paths.append(path)
    return tuple(paths), faithful
