r"""Train detectors with Blemish and with Ultralytics on the same images and weights, and compare their AP.

    python -m bench.detector_training --data cars --count 400 --size 256 --epochs 6 --seeds 0 1 2 \
        --model yolo11n --weights yolo11n_coco_state_dict.pth \
        --arm ultralytics --arm preset --arm plain:recipe=defaults --output results.jsonl
    python -m bench.detector_training --table results.jsonl

An arm is `ultralytics`, its own training with its defaults, or `NAME[:SETTING]...` for a training by Blemish:
`recipe=NAME` takes another recipe than the architecture's preset, and `KEY=VALUE` sets a key of it. --count
images with objects of the train split are drawn for training; the first --select of the val split choose the
epoch, and the AP is that of all others, measured by Blemish from both model files. The arms take turns with
each seed. Seconds are processor seconds of a training with its validation. Ultralytics and its models need
the extra `yolo`.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}

import numpy as np
import yaml

from bench.measure import cpu_seconds
from blemish.data import open_dataset
from blemish.data.write_dataset import write_dataset
from blemish.errors import BlemishError
from blemish.evaluation import evaluate
from blemish.geometry import mask_from_array
from blemish.structures import Prediction
from blemish.training import Callback, train
from blemish.training.detection_metrics import measure_detections

THEIRS = "ultralytics"


def write_subset(options, root):
    """Write the images as COCO for Blemish, and as YOLO for Ultralytics, without the test split."""
    dataset = open_dataset(options.data, task=options.task)
    with_objects = [s for s in dataset if s.ground_truth is not None and len(s.ground_truth)]
    validation = [s for s in with_objects if s.split == "val"]
    train_images = [s for s in with_objects if s.split == "train"]
    chosen = np.random.default_rng(options.draw).permutation(len(train_images))[: options.count]
    parts = {
        "train": [train_images[i] for i in sorted(chosen)],
        "val": validation[: options.select],
        "test": validation[options.select :],
    }
    samples = [
        replace(s, id=f"{split}/{s.path.name}", split=split) for split, part in parts.items() for s in part
    ]
    write_dataset(replace(dataset, samples=tuple(samples)), root / "coco", "coco")
    theirs = tuple(s for s in samples if s.split != "test")
    write_dataset(replace(dataset, samples=theirs), root / "yolo", "yolo")
    file = root / "yolo" / "data.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"path": str(root / "yolo")}))
    return {split: len(part) for split, part in parts.items()}


def result_of(model_file, root, seconds, history):
    report = evaluate(model_file, open_dataset(root / "coco"), split="test")
    out = {"seconds": round(seconds), "ap_by_epoch": [round(ap, 4) for ap in history]}
    for name in ("ap", "ap50", "box_ap", "box_ap50"):
        if name in report.metrics:
            value = report.metrics[name]
            out[name] = round(float(getattr(value, "value", value)), 4)
    ap = report.metrics["ap"]
    out["interval"] = [getattr(ap, "low", None), getattr(ap, "high", None)]
    for row in report.label_rows:
        value = row.metrics.get("ap50")
        out.setdefault("ap50_by_label", {})[row.label] = round(float(getattr(value, "value", value) or 0), 4)
    return out


class EpochClock(Callback):
    """Measures the processor seconds of each epoch, with its validation."""

    def on_train_start(self, recipe, folder):
        """Start the clock."""
        self.times = [cpu_seconds()]

    def on_epoch_end(self, metrics):
        """Read the clock."""
        self.times.append(cpu_seconds())

    def median(self):
        """Return the median over the epochs."""
        return round(float(np.median(np.diff(self.times))), 1)


def train_ours(options, arm, seed, root, folder):
    settings = [f"training.seed={seed}", f"model.input_size={options.size}", *options.set]
    recipe = None
    for part in arm.split(":")[1:]:
        if part.startswith("recipe="):
            recipe = part.removeprefix("recipe=")
        else:
            settings.append(part)
    started, clock = cpu_seconds(), EpochClock()
    run = train(
        recipe, data=root / "coco", model=options.model, weights=options.weights, epochs=options.epochs,
        output=folder, device=options.device, set=["training.patience=null", *settings], callbacks=[clock],
    )  # fmt: skip
    seconds = cpu_seconds() - started
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.model_file, options.keep / f"{arm.partition(':')[0]}-{seed}.onnx")
    found = result_of(run.model_file, root, seconds, [row["ap"] for row in run.history])
    return found | {"seconds_per_epoch": clock.median()}


def train_theirs(options, seed, root, folder):
    import torch
    from ultralytics.utils import SETTINGS

    for name in ("mlflow", "wandb", "tensorboard", "raytune"):  # in this process only
        dict.__setitem__(SETTINGS, name, False)
    from ultralytics import YOLO

    model = YOLO(options.weights if options.weights.endswith(".pt") else f"{options.model}.yaml")
    if options.weights.endswith((".pth", ".safetensors")):
        state = torch.load(options.weights, map_location="cpu", weights_only=True)
        model.model.load_state_dict(state)
        folder.mkdir(parents=True)
        torch.save({"model": model.model.half()}, folder / "start.pt")
        model = YOLO(folder / "start.pt")
    history = []
    model.add_callback(
        "on_fit_epoch_end", lambda t: history.append(t.metrics.get("metrics/mAP50-95(B)", 0.0))
    )
    started = cpu_seconds()
    model.train(
        data=str(root / "yolo" / "data.yaml"), epochs=options.epochs, imgsz=options.size,
        batch=options.batch, seed=seed, device="cpu" if options.device == "cpu" else 0, workers=0,
        project=str(folder), name="run", exist_ok=True, verbose=False, plots=False,
        amp=options.device != "cpu",
    )  # fmt: skip
    seconds = cpu_seconds() - started
    return {**measure_theirs(next(folder.rglob("best.pt")), options, root), "seconds": round(seconds)} | {
        "ap_by_epoch": [round(ap, 4) for ap in history]
    }


def measure_theirs(weights, options, root):
    """Measure a checkpoint of Ultralytics on the test images, with its own prediction."""
    from ultralytics import YOLO

    dataset = open_dataset(root / "coco", task=options.task)
    samples = [s for s in dataset if s.split == "test"]
    names = list(dataset.labels.names)
    how = {"conf": 0.001, "iou": 0.7, "max_det": 300, "imgsz": options.size, "rect": False}
    model = YOLO(weights)
    indices = np.array([names.index(model.names[i]) for i in range(len(names))])
    predictions = []
    for sample in samples:
        found = model.predict(sample.path, verbose=False, device="cpu", retina_masks=True, **how)[0]
        height, width = found.orig_shape
        masks = None
        if found.masks is not None:
            masks = tuple(mask_from_array(mask > 0.5) for mask in found.masks.data.numpy())
        elif dataset.task.has_masks:
            masks = ()
        predictions.append(
            Prediction(
                task=dataset.task,
                labels=dataset.labels,
                size_hw=(height, width),
                label_index=indices[found.boxes.cls.numpy().astype(int)],
                boxes_xyxy=np.clip(found.boxes.xyxy.numpy(), 0, (width, height) * 2),
                masks=masks,
                scores=found.boxes.conf.numpy(),
                label_scores=np.zeros(len(names)),
                thresholds=np.zeros(len(names)),
            )
        )
    metrics = measure_detections(predictions, samples)
    kept = ("ap", "ap50", "box_ap", "box_ap50")
    return {name: round(metrics[name], 4) for name in kept if name in metrics}


def print_table(paths):
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines() if line.strip()]
    groups = defaultdict(list)
    for row in rows:
        groups[row["model"], row["count"], row["size"], row["epochs"], row["arm"]].append(row)
    ap = "AP, mean ± standard deviation (each)"
    seconds = "processor seconds | of an epoch"
    print(f"| model, images, size, epochs | training | seeds | {ap} | AP50 | {seconds} |")
    print("|---|---|---|---|---|---|---|")
    for (model, count, size, epochs, arm), found in groups.items():
        ap = [row["ap"] for row in found]
        spread = f" ± {np.std(ap, ddof=1):.4f}" if len(ap) > 1 else ""
        seeds = ", ".join(str(row["seed"]) for row in found)
        each = ", ".join(f"{x:.4f}" for x in ap)
        ap50, seconds = (np.mean([row[name] for row in found]) for name in ("ap50", "seconds"))
        per_epoch = [row["seconds_per_epoch"] for row in found if "seconds_per_epoch" in row]
        epoch = f"{np.mean(per_epoch):.1f}" if per_epoch else ""
        print(
            f"| {model}, {count}, {size} px, {epochs} | `{arm}` | {seeds} | "
            f"{np.mean(ap):.4f}{spread} ({each}) | {ap50:.4f} | {seconds:.0f} | {epoch} |"
        )


def main(peers=None, description=__doc__):
    """Run the arms of the command line.

    Args:
        peers: by the name of their arm, functions of the options, the seed, the folder of the data and a
            folder of the arm, which train and return the metrics on the test images.
        description: for --help.
    """
    peers = peers or {THEIRS: train_theirs}
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--task", default="detection")
    parser.add_argument("--model", default="yolo11n")
    parser.add_argument("--weights", default="default", help="default, none, or a file")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--select", type=int, default=60)
    parser.add_argument("--draw", type=int, default=0, help="seed of the choice of training images")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16, help="of Ultralytics")
    parser.add_argument("--arm", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the model files of Blemish")
    parser.add_argument("--table", type=Path, nargs="+")
    options = parser.parse_args()
    if options.table:
        print_table(options.table)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(write_subset(options, root), flush=True)
        for seed in options.seeds:
            for i, arm in enumerate(options.arm or [*peers, "preset"]):
                own = root / f"{i}-{seed}"
                try:
                    with contextlib.redirect_stdout(sys.stderr):
                        if arm in peers:
                            found = peers[arm](options, seed, root, own)
                        else:
                            found = train_ours(options, arm, seed, root, own)
                except BlemishError as error:
                    sys.exit(str(error))
                keys = ("model", "count", "size", "epochs")
                line = json.dumps(
                    {**{k: getattr(options, k) for k in keys}, "arm": arm, "seed": seed, **found}
                )
                print(line, flush=True)
                if options.output is not None:
                    with options.output.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")


if __name__ == "__main__":
    main()
