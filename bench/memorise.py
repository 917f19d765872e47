"""Can an architecture learn a few photographs by heart? A detector that cannot has a fault somewhere.

    python bench/memorise.py --data DATASET --model ssd300-resnet50 --count 16 [--set key=value]...

Writes the first photographs with objects as a set whose train and val are the same, trains without
augmentation, and prints the AP50 by epoch. Memorised means at least .9.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from blemish.data import open_dataset
from blemish.errors import BlemishError
from blemish.geometry import rle_to_text, xyxy_to_xywh
from blemish.training import train


def write_subset(source, task, count, root):
    dataset = open_dataset(source, task=task)
    samples = [s for s in dataset if s.truth is not None and len(s.truth)][:count]
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for number, sample in enumerate(samples, 1):
            name = f"{number:04d}{sample.path.suffix}"
            shutil.copy(sample.path, root / split / name)
            height, width = sample.truth.size_hw or sample.size_hw
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for row, (box, label) in enumerate(
                zip(xyxy_to_xywh(sample.truth.boxes_xyxy), sample.truth.label_index, strict=True)
            ):
                found = {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": 0,
                }
                if sample.truth.masks is not None:
                    mask = sample.truth.masks[row]
                    counts = rle_to_text(mask)
                    found["segmentation"] = {"size": list(mask.size_hw), "counts": counts}
                annotations.append(found)
        categories = [{"id": i + 1, "name": n} for i, n in enumerate(dataset.labels.names)]
        whole = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(whole))
    return len(samples)


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
