"""Compare the images per second of `blemish train` with a tuned manual loop on the same model and batch.

The manual loop keeps every image decoded and resized in memory, flips with torchvision's v2 kernels and does
nothing else. The time of Blemish is from its `metrics.csv`: the training part of each epoch, including
loading and the progress bar. The best of several epochs counts, without the first, which fills caches.

    python bench/train_overhead.py [--count 800] [--size 128] [--epochs 3] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path


def manual_loop(paths, labels, recipe, epochs):
    """Return the seconds of each epoch."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision.transforms import v2

    from blemish.models import create

    torch.manual_seed(0)
    size = recipe.model.input_size
    network = create(recipe.model.name, task="classification", label_count=2, input_size=size).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    photos = torch.stack(
        [
            torch.from_numpy(
                np.asarray(
                    Image.open(p).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
                ).copy()
            ).permute(2, 0, 1)
            for p in paths
        ]
    )
    target = torch.tensor(labels)
    flips = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5)])
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    batch = recipe.training.batch_size
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        order = torch.randperm(len(photos))
        for first in range(0, len(order) - 1, batch):
            chosen = order[first : first + batch]
            x = torch.stack([(flips(photos[i]).float() / 255 - mean) / std for i in chosen])
            loss = torch.nn.functional.cross_entropy(network(x)[0], target[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def ours(table, recipe, folder):
    """Return the seconds of each training epoch."""
    from types import SimpleNamespace

    from blemish import export
    from blemish.training.run import train

    export.export_trained = lambda network, *, output, **_: SimpleNamespace(path=output / "model.onnx")
    run = train(recipe, data=table, output=folder, device="cpu")
    return [row["seconds"] for row in run.history]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    import csv

    import numpy as np
    from PIL import Image

    from blemish.training import read_recipe

    settings = {
        "model.name": "resnet18", "model.weights": "none", "model.input_size": options.size,
        "augmentation.horizontal_flip": 0.5, "augmentation.vertical_flip": 0.5,
        "training.epochs": options.epochs, "training.batch_size": 32, "training.patience": None,
        "data.split.fractions": {"train": 0.96, "val": 0.04},
    }  # fmt: skip
    recipe = read_recipe().changed(settings)
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        random = np.random.default_rng(0)
        rows = []
        for i in range(options.count):
            Image.fromarray(random.integers(0, 256, (300, 300), np.uint8)).save(root / f"{i}.png")
            rows.append((f"{i}.png", "ab"[i % 2]))
        with (root / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("filename", "label"), *rows])
        learned = round(options.count * 0.96)
        paths, labels = [root / name for name, _ in rows[:learned]], [i % 2 for i in range(learned)]
        best = {"hand": 0.0, "blemish": 0.0}
        for number in range(options.repeat):  # alternately, so that load affects both
            hand = manual_loop(paths, labels, recipe, options.epochs)
            mine = ours(root / "labels.csv", recipe, root / f"run-{number}")
            best["hand"] = max(best["hand"], learned / min(hand[1:] or hand))
            best["blemish"] = max(best["blemish"], learned / min(mine[1:] or mine))
    ratio = best["blemish"] / best["hand"]
    if options.json:
        print(json.dumps({**best, "ratio": ratio}))
        return
    print(f"{'loop':<12}images/s")
    print(f"{'manual':<12}{best['hand']:.1f}")
    print(f"{'blemish':<12}{best['blemish']:.1f}")
    print(f"ratio       {ratio:.3f} (target: at least .95)")


if __name__ == "__main__":
    main()
