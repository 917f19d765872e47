"""Differences of Windows and macOS, simulated on Linux: locks, drives, device names, case, encodings."""

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.data import header_cache
from blemish.data.write_context import check_folder_name
from blemish.errors import StorageFull
from blemish.imaging import open_image
from blemish.model_file import InputSpec, atomic_write, write_atomically
from blemish.structures import Sample
from blemish.testing import raises
from blemish.training import callbacks, read_recipe, tile_dataset
from blemish.training.data_setup import prepare_data
from blemish.training.image_cache import ResizedImageCache, prune
from blemish.training.lightning_trainer import check_device
from blemish.training.progress import Progress


def image(path, size=(40, 30), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def lock_targets(monkeypatch):
    """Refuse the next renames onto an existing file, as Windows does while another process reads it."""
    real = Path.replace
    left: list[Any] = []

    def replace(self, target):
        if left:
            left.pop()
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    return lambda times: left.extend([True] * times)


def test_write_atomically_waits_for_a_locked_target(tmp_path, lock_targets, monkeypatch):
    monkeypatch.setattr(atomic_write, "RETRY_SECONDS", (0.0, 0.0))
    lock_targets(2)
    write_atomically(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    lock_targets(3)
    with raises("storage-full.read-only", "a.txt"):
        write_atomically(tmp_path / "a.txt", b"newer")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_run_logger_continues_if_the_table_is_locked(tmp_path, lock_targets, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("blemish.training"), "propagate", True)
    run = callbacks.RunLogger(tmp_path, None)
    progress = Progress(1, [{"epoch": 1, "train_loss": 0.5}])
    run._write_table(progress)
    lock_targets(1)
    run._write_table(progress)
    assert "metrics.csv" in caplog.text and caplog.records[-1].levelname == "WARNING"

    def full(history, path):
        raise StorageFull("no space left") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(callbacks, "write_table", full)
    with raises("storage-full"):
        run._write_table(progress)


def test_image_cache_continues_if_a_copy_is_locked(tmp_path, lock_targets, monkeypatch):
    path = image(tmp_path / "p.png", (400, 300))
    sample, spec = Sample(id="p", path=path), InputSpec(size_hw=(24, 32))
    for _ in range(2):  # two processes open the image at once
        copies = ResizedImageCache((spec,), None, 10**8, tmp_path / "copies")
        monkeypatch.setattr(copies, "_read", lambda _: None)
        copies.resized(sample, spec)
        lock_targets(1)
    assert copies.free_bytes > 0
    assert len(list((tmp_path / "copies").iterdir())) == 1


def test_prune_counts_files_that_cannot_be_removed(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.npy").write_bytes(bytes(100))

    def unlink(self, missing_ok=False):
        raise PermissionError(errno.EACCES, "Access is denied")

    size = prune(tmp_path, 10**6)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert prune(tmp_path, 0) == size


def test_write_tile_keeps_a_tile_of_another_process(tmp_path, monkeypatch):
    photo, target = open_image(image(tmp_path / "p.png")), tmp_path / "tile.png"

    def replace(self, path):
        path.write_bytes(b"other")
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(Path, "replace", replace)
    tile_dataset._write(photo, np.array([0, 0, 20, 20]), target)
    assert target.read_bytes() == b"other"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.png", "tile.png"]


def test_header_cache_of_images_on_two_drives(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path))

    def two_drives(paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", two_drives)
    paths = [tmp_path / f"{i}.png" for i in range(header_cache.MIN_IMAGES)]
    assert (
        header_cache.HeaderCache.for_paths(paths).name
        != header_cache.HeaderCache.for_paths([tmp_path / "z.png", *paths]).name
    )


@pytest.mark.parametrize("name", ["con", "NUL", "Com1", "aux.2024", "lpt9 .x"])
def test_check_folder_name_refuses_device_names_of_windows(name):
    with raises("bad-input.folder-name", repr(name)):
        check_folder_name(name)


@pytest.mark.parametrize("name", ["console", "nullen", "com", "COM10", "dent.con"])
def test_check_folder_name_accepts_names_that_begin_like_a_device(name):
    check_folder_name(name)


def test_check_device_refuses_a_start_method_that_the_system_lacks(monkeypatch):
    recipe = read_recipe(None, overrides={"training.start_method": "fork"})
    monkeypatch.setattr(torch.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with raises("bad-recipe.start-method", "training.start_method", "fork", "spawn"):
        check_device(recipe, torch.device("cpu"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_prepare_data_refuses_file_names_that_are_not_text(tmp_path):
    for label in ("dent", "fine"):
        for i in range(4):
            image(tmp_path / label / f"{i}.png", seed=i)
    os.rename(tmp_path / "dent" / "0.png", os.fsencode(tmp_path / "dent") + b"/\xff.png")  # noqa: PTH104
    recipe = read_recipe(None, overrides={"data.path": str(tmp_path)})
    with raises("bad-dataset.unwritable-id", "dcff.png"):
        prepare_data(recipe)


def blemish(*arguments, **environment):
    command = [sys.executable, "-m", "blemish", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_labels_that_the_terminal_cannot_encode_are_escaped(tmp_path):
    for label in ("Kratzer-ß", "凹み"):
        image(tmp_path / label / "a.png")
    result = blemish("data", "stats", tmp_path, PYTHONIOENCODING="ascii:strict", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr
    assert "\\u51f9\\u307f" in result.stdout


def test_explain_writes_one_heatmap_per_label_with_similar_names(tmp_path, tiny):
    labels = ("a/b", "A-B", "x" * 300)
    thresholds = dict.fromkeys(labels, 0.0)  # so that all of them are positive
    tiny.write_scores_model(tmp_path / "m.onnx", labels=labels, task="multilabel", thresholds=thresholds)
    photo = image(tmp_path / "p.png")
    options = ("--method", "occlusion", "--max-evals", "16", "--no-faithfulness", "--json")
    result = blemish("explain", photo, "-m", tmp_path / "m.onnx", "-o", tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["label"] for row in rows] == list(labels)
    names = [name for row in rows for name in row["files"].values()]
    assert len({name.casefold() for name in names}) == len(names) == 3 * len(labels)
    assert all(len(name.encode()) < 255 for name in names)
