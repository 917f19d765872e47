"""Run the four image-level recipes end to end: train, kill, resume, export, evaluate, predict.

Each is shortened for a CPU to a minute or two and starts from random weights: the numbers show that every
step works, not how good the system is. The training is killed with SIGKILL in the middle of an epoch and
resumed; a second run of the same recipe is not interrupted, and both must end with the same weights.

    blemish data synthesize vehicles --count 120 --size 96 --output vehicles
    python bench/image_systems.py --cells cells/data.csv --boxes raccoon/single_box.csv --vehicles vehicles
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

SHORT = {
    "solar-crack-inactive": {"model.input_size": 64, "training.epochs": 2, "training.batch_size": 16},
    "localize-resnet50-scratch": {
        "model.input_size": 64,
        "model.resize_to": 73,
        "training.epochs": 4,
        "training.batch_size": 16,
    },
    "damagelens-resnet18": {
        "model.input_size": 64,
        "training.epochs": 6,
        # From random weights all layers must be trained, at a higher learning rate.
        "model.trainable": None,
        "training.optimizer": {"name": "adamw", "learning_rate": 1e-3},
    },
    "damagelens-fusion": {
        "model.input_size": {"efficientnet": 64, "convnext": 64},
        "training.epochs": 2,
        "training.batch_size": 16,
    },
}
TIMEOUT_SECONDS = 900  # per command


def blemish(*words):
    """Return the standard output of one command and its seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "blemish", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    if done.returncode:
        sys.exit(f"blemish {' '.join(map(str, words))}\nended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout, time.perf_counter() - start


def train_words(name, data, run, settings):
    words = ["train", "--recipe", name, "--data", data, "--weights", "none", "--output", run, "--json"]
    for key, value in settings.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words


def killed(words, run):
    """Start a training, kill it in its second epoch, and return the number of complete epochs."""
    child = subprocess.Popen(
        [sys.executable, "-m", "blemish", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    table, start = run / "metrics.csv", time.perf_counter()
    while not table.exists():
        if child.poll() is not None or time.perf_counter() - start > TIMEOUT_SECONDS:
            child.kill()
            sys.exit(f"blemish {' '.join(map(str, words))}\nended with {child.poll()} before its first epoch")
        time.sleep(0.05)
    time.sleep(float(table.read_text().splitlines()[1].split(",")[-2]) / 2)
    child.kill()
    child.wait()
    return len(table.read_text().splitlines()) - 1


def one(name, data, folder, epochs):
    """Run one recipe and return its row of the table."""
    settings = {**SHORT[name], "training.tensorboard": False, "training.patience": None}
    if epochs:
        settings["training.epochs"] = epochs
    run, alone = folder / name, folder / f"{name}-uninterrupted"
    complete = killed(train_words(name, data, run, settings), run)
    resumed, _ = blemish("train", "--resume", run, "--json")
    blemish(*train_words(name, data, alone, settings))
    first, second = (load_file(folder / "weights.safetensors") for folder in (run, alone))
    same = first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)
    blemish("export", run, "--precision", "fp16")
    half = (run / "model-fp16.onnx").stat().st_size / (run / "model.onnx").stat().st_size
    report = json.loads(blemish("evaluate", "--model", run / "model.onnx", "--data", data, "--json")[0])
    image = next(p for p in sorted(Path(data).parent.rglob("*")) if p.suffix in (".png", ".jpg"))
    if Path(data).is_dir():
        image = next(p for p in sorted(Path(data).rglob("*")) if p.suffix in (".png", ".jpg"))
    output, seconds = blemish("predict", image, "--model", run / "model.onnx", "--json")
    return {
        "recipe": name,
        "images": report["images"],
        "killed after epoch": complete,
        "same weights": same,
        "validation": json.loads(resumed)["metrics"],
        "all images": report["primary_metric"],
        "fp16 size": round(half, 3),
        "predict seconds": round(seconds, 2),
        "prediction": json.loads(output.splitlines()[0]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--boxes", type=Path)
    parser.add_argument("--vehicles", type=Path)
    parser.add_argument("--only", choices=SHORT)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--folder", type=Path, help="keep the runs in this folder")
    given = parser.parse_args()
    data = dict(
        zip(SHORT, (given.cells, given.boxes, given.vehicles, given.vehicles), strict=True),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for name, path in data.items():
            if path is None or given.only not in (None, name):
                continue
            row = one(name, path, folder, given.epochs)
            print(json.dumps(row), flush=True)
            if not row["same weights"]:
                sys.exit(f"{name}: the resumed training has other weights")


if __name__ == "__main__":
    main()
