"""Can an architecture learn a few images by heart, and others a little? One that cannot has a fault.

    python bench/memorise.py --data DATASET --model ssd300-resnet50 --count 16 [--set key=value]...
    python bench/memorise.py --data DATASET --model ssd300-resnet50 --count 200 --judged 50 --epochs 5

Writes the first images with objects as a set whose train and val are the same, trains without
augmentation, and prints the AP50 by epoch (of masks where there are masks). Memorised means at least .9.
With --judged the first images of the data's own val are judged instead: does their loss fall?
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from blemish.data import open_dataset
from blemish.data.write_dataset import write_dataset
from blemish.errors import BlemishError
from blemish.training import train


def write_subset(source, task, count, judged, root):
    dataset = open_dataset(source, task=task)
    held = [s for s in dataset if s.ground_truth is not None and len(s.ground_truth)]
    few = [s for s in held if judged is None or s.split == "train"][:count]
    others = few if judged is None else [s for s in held if s.split == "val"][:judged]
    both = [
        replace(s, id=f"{split}/{s.path.name}", split=split)
        for split, part in (("train", few), ("val", others))
        for s in part
    ]
    write_dataset(replace(dataset, samples=both), root, "coco")
    return len(few)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="ssd300-resnet50")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--task", default="detection")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--judged", type=int)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "few"
        count = write_subset(given.data, given.task, given.count, given.judged, root)
        output = given.output or Path(folder) / "run"
        settings = [f"task={given.task}", "training.patience=null", *given.set]
        try:
            run = train(
                None, data=root, model=given.model, weights=given.weights, epochs=given.epochs,
                output=output, device=given.device, set=settings, progress=True,
            )  # fmt: skip
        except BlemishError as error:
            sys.exit(str(error))
    names = [n for n in ("train_loss", "val_loss", "ap50", "box_ap50", "seconds") if n in run.history[0]]
    for row in run.history[:: max(len(run.history) // 10, 1)]:
        print(f"epoch {row['epoch']:4.0f}  " + "  ".join(f"{name} {row[name]:.3f}" for name in names))
    best = max(row["ap50"] for row in run.history)
    verdict = f": memorised: {best >= 0.9}" if given.judged is None else ""
    if given.judged is not None:
        losses = [row["val_loss"] for row in run.history]
        verdict = f": validation loss from {losses[0]:.3f} to {losses[-1]:.3f}, least {min(losses):.3f}"
    print(f"{given.model}: {count} images, best AP50 {best:.3f}{verdict}")


if __name__ == "__main__":
    main()
