r"""Train detectors from pretrained and from random weights with the same budget, and compare their AP.

    python bench/pretrained_detectors.py --data cars --recipe car-ssd-lite --seeds 0 1 2 \
        --count 320 --epochs 12 --set model.input_size=224 --output results.jsonl

The first images with objects of the data's train split are trained on. The first --select images of its val
split choose the epoch, and all others are the test split that the printed interval belongs to. Learning
rates that a recipe sets for pretrained stages do not apply to random weights. The times are processor
seconds of the whole training, validation and export included.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from blemish.config.recipe import read_recipe
from blemish.data import open_dataset
from blemish.data.write_dataset import write_dataset
from blemish.errors import BlemishError
from blemish.evaluation import evaluate
from blemish.training import train


def write_subset(source, task, count, select, root):
    dataset = open_dataset(source, task=task)
    with_objects = [s for s in dataset if s.ground_truth is not None and len(s.ground_truth)]
    validation = [s for s in with_objects if s.split == "val"]
    parts = {
        "train": [s for s in with_objects if s.split == "train"][:count],
        "val": validation[:select],
        "test": validation[select:],
    }
    samples = [
        replace(s, id=f"{split}/{s.path.name}", split=split) for split, part in parts.items() for s in part
    ]
    write_dataset(replace(dataset, samples=samples), root, "coco")
    return {split: len(part) for split, part in parts.items()}


def run_arm(options, root, weights, seed, folder):
    settings = [f"training.seed={seed}", "training.patience=null", *options.set]
    if weights == "none":
        settings.append("training.optimizer.lr_by_stage={}")
    started = time.process_time()
    run = train(
        options.recipe, data=root, weights=weights, epochs=options.epochs, output=folder,
        device="cpu", set=settings, progress=True,
    )  # fmt: skip
    seconds = time.process_time() - started
    report = evaluate(run.model_file, open_dataset(root), split="test")
    ap = report.metrics["ap"]
    return {
        "recipe": options.recipe,
        "weights": weights,
        "seed": seed,
        "ap_by_epoch": [round(row["ap"], 4) for row in run.history],
        "val_loss_by_epoch": [round(row["val_loss"], 3) for row in run.history],
        "best_epoch": run.best_epoch,
        "test_ap": getattr(ap, "value", ap),
        "test_low": getattr(ap, "low", None),
        "test_high": getattr(ap, "high", None),
        "test_ap50": getattr(report.metrics["ap50"], "value", report.metrics["ap50"]),
        "cpu_seconds": round(seconds),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--select", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--weights", nargs="+", default=["default", "none"])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    task = read_recipe(options.recipe).task
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "subset"
        print(write_subset(options.data, task, options.count, options.select, root))
        for seed in options.seeds:
            for weights in options.weights:
                try:
                    result = run_arm(options, root, weights, seed, Path(folder) / f"{weights}-{seed}")
                except BlemishError as error:
                    sys.exit(str(error))
                line = json.dumps(result)
                print(line, flush=True)
                if options.output is not None:
                    with options.output.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")


if __name__ == "__main__":
    main()
