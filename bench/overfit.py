"""Check that an architecture can overfit a few images; one that cannot has a defect.

    python bench/overfit.py --data DATASET --model ssd300-resnet50 --count 16 [--set key=value]...
    python bench/overfit.py --data DATASET --model ssd300-resnet50 --count 200 --eval-count 50 --epochs 5

Writes the first images with objects as a data set whose splits train and val are equal, trains without
augmentation, and prints the AP50 per epoch (of masks if the task has masks). The target is at least .9.
With --eval-count, the first images of the data's own val split are evaluated instead.
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


def write_subset(source, task, count, eval_count, root):
    dataset = open_dataset(source, task=task)
    with_objects = [s for s in dataset if s.ground_truth is not None and len(s.ground_truth)]
    few = [s for s in with_objects if eval_count is None or s.split == "train"][:count]
    others = few if eval_count is None else [s for s in with_objects if s.split == "val"][:eval_count]
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
    parser.add_argument("--eval-count", type=int)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "few"
        count = write_subset(options.data, options.task, options.count, options.eval_count, root)
        output = options.output or Path(folder) / "run"
        settings = [f"task={options.task}", "training.patience=null", *options.set]
        try:
            run = train(
                None, data=root, model=options.model, weights=options.weights, epochs=options.epochs,
                output=output, device=options.device, set=settings, progress=True,
            )  # fmt: skip
        except BlemishError as error:
            sys.exit(str(error))
    names = [n for n in ("train_loss", "val_loss", "ap50", "box_ap50", "seconds") if n in run.history[0]]
    for row in run.history[:: max(len(run.history) // 10, 1)]:
        print(f"epoch {row['epoch']:4.0f}  " + "  ".join(f"{name} {row[name]:.3f}" for name in names))
    best = max(row["ap50"] for row in run.history)
    result = f": target reached: {best >= 0.9}" if options.eval_count is None else ""
    if options.eval_count is not None:
        losses = [row["val_loss"] for row in run.history]
        result = f": validation loss from {losses[0]:.3f} to {losses[-1]:.3f}, minimum {min(losses):.3f}"
    print(f"{options.model}: {count} images, best AP50 {best:.3f}{result}")


if __name__ == "__main__":
    main()
