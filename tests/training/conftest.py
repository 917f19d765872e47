"""Tiny sets of images that a tiny network can learn: brightness is the label, a square is the box."""

import csv
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from blemish.export.run_export import write_weights
from blemish.model_file import Contract
from blemish.training import read_recipe
from blemish.training.callbacks import RunLogger

SMALL = {
    "model.name": "timm/test_resnet",
    "model.weights": "none",
    "model.input_size": 32,
    "model.head": {"hidden": [8], "dropout": [0.2, 0.1]},
    "training.epochs": 3,
    "training.batch_size": 4,
    "training.workers": 0,
    "training.tensorboard": False,
}


def paint(path, bright, random, size=(40, 52)):
    pixels = random.integers(0, 90, (*size, 3), np.uint8)
    if bright:
        pixels[8:30, 10:36] += 120
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """18 images in two folders."""
    root = tmp_path_factory.mktemp("folders")
    random = np.random.default_rng(0)
    for label in ("dark", "light"):
        (root / label).mkdir()
        for i in range(9):
            paint(root / label / f"{i}.png", label == "light", random)
    return root


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """16 images and a table of two labels that may both hold."""
    root = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(1)
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "crack", "inactive"))
        for i in range(16):
            paint(root / f"{i}.png", i % 2, random)
            writer.writerow((f"{i}.png", i % 2, int(i % 4 == 0)))
    return root / "labels.csv"


@pytest.fixture(scope="session")
def boxes(tmp_path_factory):
    """14 images with one bright rectangle each, and a table of it."""
    root = tmp_path_factory.mktemp("boxes")
    random = np.random.default_rng(2)
    with (root / "boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "x", "y", "w", "h"))
        for i in range(14):
            pixels = random.integers(0, 60, (60, 80, 3), np.uint8)
            w, h = random.integers(15, 40, 2)
            x, y = random.integers(0, 80 - w), random.integers(0, 60 - h)
            pixels[y : y + h, x : x + w] = 220
            Image.fromarray(pixels).save(root / f"{i}.png")
            writer.writerow((f"{i}.png", x, y, w, h))
    return root / "boxes.csv"


@pytest.fixture
def recipe(folders):
    """A recipe that takes a second; `recipe(key=value)` with dots written as double underscores."""

    def make(data=folders, **changes):
        settings = {key.replace("__", "."): value for key, value in changes.items()}
        return read_recipe(overrides={**SMALL, "data.path": str(data), **settings})

    return make


@pytest.fixture(autouse=True)
def quick_export(request, monkeypatch):
    """Tracing a graph takes most of a tiny training: unless `exported` is asked for, keep the contract."""
    if "exported" in request.fixturenames:
        return

    def keep(network, *, output, contract, fingerprints, **_):
        write_weights(network, output / "weights.safetensors")
        (output / "contract.json").write_text(contract.model_dump_json())
        np.savez(output / "prints.npz", pixel=fingerprints.pixel, split=fingerprints.split)
        return SimpleNamespace(path=output / "model.onnx")

    monkeypatch.setattr("blemish.export.export_trained", keep)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def stop_after(monkeypatch):
    """Return a context in which a training ends after some completed epochs, as if its process was killed."""

    class Killed(Exception):
        pass

    original = RunLogger.on_train_epoch_end

    @contextmanager
    def stopping(epochs):
        def dying(self, trainer, module):
            original(self, trainer, module)
            if module.progress.epoch == epochs:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(RunLogger, "on_train_epoch_end", dying)
            yield

    return stopping


@pytest.fixture
def exported():
    """Asks for the whole export."""


@pytest.fixture
def contract_of():
    return lambda made: Contract.model_validate_json((made.path / "contract.json").read_text())
