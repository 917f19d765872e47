"""Print how often changed and foreign images are unfamiliar to a classifier, and the AUROC of their distance.

    python bench/unfamiliar.py --model runs/cells/model.onnx --data cells/labels.csv --foreign cars/ --seed 0

The data need a split `test`, or `--seed` divides them as the demo does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

import blemish
from blemish.data import split_dataset
from blemish.data.synthetic import write_panels
from blemish.demo import FEW_FRACTIONS
from blemish.structures import Familiarity, Task

FAMILIAR, CHANGED = 150, 40


def auroc(low: np.ndarray, high: np.ndarray) -> float:
    """Return the share of pairs in which the second sample is larger."""
    pairs = (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])
    return float(pairs.mean())


def changes(images: Sequence[Image.Image], rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return changed copies of images by the name of the change."""
    cases: dict[str, list[Any]] = {}
    for factor in (1.1, 1.25, 1.5, 2.0, 0.8, 0.6, 0.4):
        cases[f"brightness x {factor:g}"] = [ImageEnhance.Brightness(i).enhance(factor) for i in images]
    for sigma in (0.5, 1, 2, 4, 8):
        cases[f"blur sigma {sigma:g} px"] = [i.filter(ImageFilter.GaussianBlur(sigma)) for i in images]
    for sd in (5, 10, 20, 40):
        noisy = [np.asarray(i) + rng.normal(0, sd, np.asarray(i).shape) for i in images]
        cases[f"noise sd {sd}"] = [np.clip(n, 0, 255).astype(np.uint8) for n in noisy]
    cases["rotated by 90 degrees"] = [i.rotate(90) for i in images]
    return cases


def main() -> None:
    """Print one line per change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--foreign", type=Path, help="Folder of other images.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    predictor = blemish.load(options.model, threads=1)
    dataset = blemish.open_dataset(options.data, task=predictor.task)
    if "test" not in dataset.splits:
        dataset = split_dataset(
            dataset, fractions=FEW_FRACTIONS, seed=options.seed, group_by="near-duplicates"
        )
    rng = np.random.default_rng(options.seed)
    paths = [s.path for s in dataset.of_split("test").samples]
    paths = [paths[i] for i in rng.permutation(len(paths))[:FAMILIAR]]

    def judged(images: Sequence[Any]) -> list[Familiarity]:
        found = (predictor.predict(np.asarray(i) if isinstance(i, Image.Image) else i) for i in images)
        return [p.familiarity for p in found if p.familiarity is not None]

    familiar = judged(paths)
    distances = np.array([f.distance for f in familiar])
    cases: dict[str, list[Any]] = {}
    if options.foreign is not None:
        files = [p for p in sorted(options.foreign.rglob("*")) if p.suffix.lower() in (".jpg", ".png")]
        cases["foreign images"] = list(files[:CHANGED])
    with tempfile.TemporaryDirectory() as folder:
        task = Task("classification")
        panels = write_panels(folder, CHANGED, 0, layout="images", task=task, size_hw=(300, 300))
        cases["drawn panels"] = [Image.open(s.path).convert("RGB") for s in panels.samples[:CHANGED]]
    cases |= changes([Image.open(p).convert("L").convert("RGB") for p in paths[:CHANGED]], rng)
    rate = float(np.mean([f.unfamiliar for f in familiar]))
    sys.stdout.write(
        f"familiar: {rate:.1%} of {len(familiar)} unfamiliar (stated rate {familiar[0].rate:g})\n"
    )
    for name, images in cases.items():
        found = judged(images)
        share = float(np.mean([f.unfamiliar for f in found]))
        area = auroc(distances, np.array([f.distance for f in found]))
        sys.stdout.write(f"{name}: {share:.0%} of {len(found)} unfamiliar, AUROC {area:.3f}\n")


if __name__ == "__main__":
    main()
