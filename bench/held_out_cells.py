"""Macro F1 of held-out cells in float32, with `decode: scaled`, and in INT8: one model of `train --few` each.

    python bench/held_out_cells.py [cells/data.csv] [--seeds 0 1 2] [--images 400]

Without a table, the cells are drawn from those of the demo.

The cells are enlarged to 1,200 px with grain, so that `scaled` decodes them at half their size. Near
duplicates stay in one split; a third is held out. `full` and `scaled` are trainings of their own, and
INT8 is made of `full` by the validation images (--max-changed is its largest share of decisions). Prints for
each seed the metric with its 95 % interval, and whether that of `scaled` and INT8 is in that of `full`.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.data import open_dataset, split_dataset
from blemish.demo import write_cells
from blemish.errors import ExportRefused
from blemish.evaluation import evaluate
from blemish.export.reexport import reexport
from blemish.few_shot import train_few
from blemish.structures import Dataset

FRACTIONS = {"train": 0.5, "val": 0.17, "test": 0.33}
SIDE = 1200


def enlarge(dataset: Dataset, folder: Path) -> Dataset:
    """Write every image of a data set at 1,200 px with grain, and return the data set of these files."""
    random = np.random.default_rng(0)
    samples = []
    for number, sample in enumerate(dataset):
        image = Image.open(sample.path).convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, np.float32) + 5 * random.standard_normal((SIDE, SIDE), np.float32)
        path = folder / f"{number}.jpg"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)
        known = replace(sample.ground_truth, size_hw=None)
        samples.append(replace(sample, id=path.name, path=path, ground_truth=known, size_hw=None))
    return replace(dataset, samples=tuple(samples), root=folder)


def main() -> None:
    """Print one line per seed and file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", help="table of images [default: the demo's cells]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--max-changed", type=float, default=0.04)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), given)


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Print the table of all seeds."""
    whole = open_dataset(given.data or write_cells(folder / "cells"))
    chosen = np.random.default_rng(0).permutation(len(whole))[: given.images]
    whole = replace(whole, samples=tuple(replace(whole.samples[i], split=None) for i in sorted(chosen)))
    (folder / "images").mkdir()
    large = enlarge(whole, folder / "images")
    print("| seed | file | macro F1 | 95 % | in the interval of full | |\n|---|---|---|---|---|---|")
    for seed in given.seeds:
        split = split_dataset(large, fractions=FRACTIONS, seed=seed, group_by="near-duplicates")
        learned = replace(split, samples=tuple(s for s in split if s.split != "test"))
        test = split.of_split("test")
        files, notes = {}, {}
        for decode in ("full", "scaled"):
            run = train_few(
                learned, output=folder / f"{decode}{seed}", decode=decode, seed=seed,
                choose_explanation=False,
            )  # fmt: skip
            files[decode] = run.model_file
        validation = folder / f"val{seed}"
        validation.mkdir()
        for sample in learned.of_split("val"):
            (validation / sample.path.name).symlink_to(sample.path)
        try:
            made = reexport(
                files["full"], precision="int8", data=validation, max_changed=given.max_changed,
                output=folder / f"int8{seed}.onnx",
            )  # fmt: skip
            files["INT8"] = made.path
            certificate = made.contract.certificate
            notes["INT8"] = f"{certificate.decisions_changed} of {certificate.images} decisions changed"
        except ExportRefused as error:
            notes["INT8"] = str(error).splitlines()[0]
        print_lines(seed, files, notes, test)


def print_lines(seed: int, files: dict[str, Path], notes: dict[str, str], test: Dataset) -> None:
    """Evaluate the files of one seed and print their lines."""
    low = high = 0.0
    for kind, file in files.items():
        report = evaluate(file, test, thumbnails=False)
        metric = report.metrics["macro_f1"]
        value, bounds = metric.value or 0.0, (metric.low or 0.0, metric.high or 1.0)
        if kind == "full":
            low, high = bounds
        inside = "" if kind == "full" else "yes" if low <= value <= high else "no"
        print(
            f"| {seed} | {kind} | {value:.3f} | {bounds[0]:.3f} to {bounds[1]:.3f} | {inside} | "
            f"{notes.get(kind, '')} |",
            flush=True,
        )
    for kind in notes.keys() - files.keys():
        print(f"| {seed} | {kind} | refused | | | {notes[kind]} |", flush=True)


if __name__ == "__main__":
    main()
