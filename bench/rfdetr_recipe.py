"""RF-DETR's own trainer, from the start weights of Blemish's network: for comparison only."""

import csv
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from bench.measure import cpu_seconds
from bench.torchvision_recipe import measure, prepare
from blemish.models._weights import load_weights


def read_losses(folder):
    """Return the training loss of each epoch from the trainer's table."""
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    losses = {}
    for row in rows:
        for name in ("train/loss_epoch", "train/loss"):
            if row.get(name):
                losses[row["epoch"]] = round(float(row[name]), 3)
                break
    return list(losses.values())


def train_rfdetr(options, seed, root, folder):
    """Train one network with the package's defaults, and return the metrics of its best checkpoint."""
    import pytorch_lightning as pl
    import rfdetr
    import rfdetr.training

    _, data, network, contract = prepare(options, seed, root)
    folder = Path(folder)
    folder.mkdir(parents=True)
    start = folder / "start.pth"
    state = {name.removeprefix("model."): value for name, value in network.state_dict().items()}
    torch.save({"model": state}, start)
    pl.seed_everything(seed)
    builder = getattr(rfdetr, "RFDETR" + "".join(part.capitalize() for part in options.model.split("-")[1:]))
    model = builder(
        pretrain_weights=str(start), num_classes=len(data.dataset.labels), resolution=options.size,
        positional_encoding_size=network._patches, device="cpu",
    )  # fmt: skip
    times = []
    build_trainer = rfdetr.training.build_trainer

    def read_clock(*_):
        times.append(cpu_seconds())

    def build_with_clock(*args, **given):
        trainer = build_trainer(*args, **given)
        clock = pl.callbacks.LambdaCallback(on_train_start=read_clock, on_train_epoch_end=read_clock)
        trainer.callbacks.append(clock)
        return trainer

    started = cpu_seconds()
    with mock.patch.object(rfdetr.training, "build_trainer", build_with_clock):
        model.train(
            dataset_dir=str(root / "yolo"), dataset_file="yolo", epochs=options.epochs,
            output_dir=str(folder), device="cpu", num_workers=0, tensorboard=False,
            eval_backend="faster_coco_eval",
        )  # fmt: skip
    seconds = cpu_seconds() - started
    load_weights(network, [folder / "checkpoint_best_total.pth"])
    metrics = measure(network, contract, data.dataset.of_split("test").samples)
    kept = ("ap", "ap50", "box_ap", "box_ap50")
    return {
        **{name: round(metrics[name], 4) for name in kept if name in metrics},
        "seconds": round(seconds),
        "seconds_per_epoch": round(float(np.median(np.diff(times))), 1),
        "loss_by_epoch": read_losses(folder),
    }
