"""Play the pointing game: count how often the peak of a heatmap is inside the synthetic damage.

Trains a small network on synthetic solar cells and explains each damaged cell of the test split. Chance is
the share of the image that the damage covers.

    python bench/pointing_game.py --count 800 --epochs 6
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import blemish
from blemish.data.synthetic import CELL_LABELS, cells, write_cells
from blemish.explanation import EXPLAINERS, Explainer
from blemish.geometry import mask_to_array
from blemish.inference import load

METHODS = ("grad-cam", "hires-cam", "layer-cam", "eigen-cam", "occlusion", "rise")
MARGIN = 0.05  # of the image's side: the published game allows one, because heatmaps are coarse


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=800)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--size", type=int, default=128)
    arguments.add_argument("--shown", type=int, default=30, help="cells explained")
    arguments.add_argument("--model", default="resnet18")
    arguments.add_argument("--methods", nargs="+", default=METHODS)
    arguments.add_argument("--max-evals", type=int, help="forward passes per damage of occlusion and RISE")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments.add_argument("--output", type=Path, help="keep the run in this folder, or use an existing one")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_game(given, given.output or Path(folder))


def print_game(given: argparse.Namespace, folder: Path) -> None:
    splits = {"train": 0.7, "val": 0.15, "test": 0.15}
    drawn = write_cells(folder / "cells", given.count, size=given.size, splits=splits)
    model = folder / "run" / "model.onnx"
    if not model.is_file():
        train(given, folder)
    boxes = damage_masks(given.count, given.size)
    predictor = load(model)
    explainer = Explainer(predictor.backend, predictor.model_file)
    print(f"| method | forward passes | {' | '.join(predictor.labels.names)} | all | chance |")
    print("|---|---|" + "---|" * (len(predictor.labels) + 2))
    test = [s for s in drawn if s.split == "test" and s.ground_truth is not None and len(s.ground_truth)]
    for method in given.methods:
        hits: dict[str, list[bool]] = {name: [] for name in predictor.labels.names}
        chance = []
        for sample in test[: given.shown]:
            prediction = predictor.predict(sample.path)
            for name in sample.ground_truth.label_names:
                if not prediction.decide()[prediction.labels.index(name)]:
                    continue  # a label that was not predicted cannot be explained
                (heatmap,) = explainer.explain(
                    sample.path, method=method, label=name, faithfulness=False, max_evals=given.max_evals
                )
                there = boxes[Path(sample.path).stem][name]
                hits[name].append(inside(heatmap.peak_xy, there))
                chance.append(covered_share(there, given.size))
        every = [hit for of in hits.values() for hit in of]
        columns = [f"{np.mean(of):.0%} of {len(of)}" if of else "-" for of in (*hits.values(), every)]
        passes = EXPLAINERS.get(method).forward_passes(given.max_evals)
        print(f"| {method} | {passes} | {' | '.join(columns)} | {np.mean(chance):.0%} |", flush=True)


def train(given: argparse.Namespace, folder: Path) -> None:
    settings = [f"model.input_size={given.size}", "training.workers=0", *given.set]
    run = blemish.train(
        data=folder / "cells",
        model=given.model,
        weights="none",
        epochs=given.epochs,
        output=folder / "run",
        set=settings,
        progress=True,
    )
    print(f"validation macro F1 {run.metrics['macro_f1']:.3f}")


def damage_masks(count: int, size: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the mask of the damage by image and label, grown by the margin."""
    grown = {}
    for specimen in cells(count, size=size):
        masks: dict[str, np.ndarray] = {}
        for flaw in specimen.flaws:
            name = CELL_LABELS.names[flaw.label_index]
            masks[name] = masks.get(name, False) | mask_to_array(flaw.mask)
        grown[specimen.id] = {name: grow(mask, round(MARGIN * size)) for name, mask in masks.items()}
    return grown


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Return the mask, dilated by a square of `pixels`."""
    for axis in (0, 1):
        mask = np.any([np.roll(mask, shift, axis) for shift in range(-pixels, pixels + 1)], axis=0)
    return mask


def inside(peak_xy: tuple[float, float], mask: np.ndarray) -> bool:
    return bool(mask[int(peak_xy[1]), int(peak_xy[0])])


def covered_share(mask: np.ndarray, size: int) -> float:
    return float(mask.sum()) / size**2


if __name__ == "__main__":
    main()
