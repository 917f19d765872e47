"""Can an architecture learn a few photographs by heart? A detector that cannot has a fault somewhere.

    python bench/memorise.py --data DATASET --model ssd300-resnet50 --count 16 [--set key=value]...

Writes the first photographs with objects as a set whose train and val are the same, trains without
augmentation, and prints the AP50 by epoch. Memorised means at least .9.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from blemish.data import open_dataset
from blemish.data.writing import write_dataset
from blemish.errors import BlemishError
from blemish.training import train


def write_subset(source, task, count, root):
    dataset = open_dataset(source, task=task)
    few = [s for s in dataset if s.truth is not None and len(s.truth)][:count]
    both = [replace(s, id=f"{split}/{s.path.name}", split=split) for split in ("train", "val") for s in few]
    write_dataset(replace(dataset, samples=both), root, "coco")
    return len(few)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="ssd300-resnet50")
    parser.add_argument("--task", default="detection")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "few"
        count = write_subset(given.data, given.task, given.count, root)
        output = given.output or Path(folder) / "run"
        settings = ["training.patience=null", "model.weights=none", *given.set]
        try:
            run = train(
                None, data=root, model=given.model, epochs=given.epochs, output=output, device=given.device,
                set=[f"task={given.task}", *settings], progress=True,
            )  # fmt: skip
            history = run.history
        except BlemishError as error:
            sys.exit(str(error))
        for row in history[:: max(len(history) // 10, 1)]:
            print(f"epoch {row['epoch']:4.0f}  loss {row['train_loss']:8.4f}  AP50 {row['ap50']:.3f}")
        best = max(row["ap50"] for row in history)
        print(f"{given.model}: {count} photographs, best AP50 {best:.3f}: memorised: {best >= 0.9}")


if __name__ == "__main__":
    main()
