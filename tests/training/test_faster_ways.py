"""What makes training faster must not make it different: caches, batch size, several processes."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from blemish.config.schema import CropConfig
from blemish.errors import BadRecipe
from blemish.model_file import InputSpec
from blemish.models import create
from blemish.structures import Sample
from blemish.training import image_cache
from blemish.training.auto_batch_size import bytes_per_image, find_batch_size
from blemish.training.augmentation.image_augmentation import AugmentationParams
from blemish.training.image_cache import ResizedImageCache, prune
from blemish.training.image_source import FileImageSource
from blemish.training.run import train

SPEC = InputSpec(size_hw=(24, 32))


@pytest.fixture
def photo(tmp_path):
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8))
    small.resize((400, 300), Image.Resampling.BICUBIC).save(tmp_path / "p.png")
    return Sample(id="p", path=tmp_path / "p.png")


def same(first, second):
    return all(torch.equal(first[k], second[k]) for k in first)


def weights_of(run):
    return load_file(run.path / "weights.safetensors")


class Counted(ResizedImageCache):
    opened = 0

    def image(self, sample):
        type(self).opened += 1
        return super().image(sample)


@pytest.fixture
def copies(tmp_path):
    def make(crop=None, room=10**8, inputs=(SPEC,)):
        Counted.opened = 0
        return Counted(inputs, crop, room, tmp_path / "copies")

    return make


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        InputSpec(size_hw=(24, 24), resize="shortest", resize_to=28),
        InputSpec(size_hw=(32, 32), resize="letterbox"),
    ],
)
def test_without_a_crop_the_copy_is_the_input_bit_for_bit(photo, copies, spec):
    expected, where = FileImageSource().resized(photo, spec, AugmentationParams())
    for number in range(3):
        pixels, placement = copies(inputs=(spec,)).resized(photo, spec, AugmentationParams())
        assert np.array_equal(pixels, expected)
        assert placement == where
        assert Counted.opened == (number == 0)


def test_crops_from_a_copy_look_the_same_and_lie_in_the_same_place(photo, copies):
    crop = CropConfig(scale=(0.25, 1.0))
    change = AugmentationParams(crop_xyxy=(100.0, 60.0, 340.0, 260.0))
    expected, where = FileImageSource().resized(photo, SPEC, change)
    for number in range(2):
        source = copies(crop)
        pixels, placement = source.resized(photo, SPEC, change)
        assert np.abs(pixels.astype(float) - expected).mean() < 4
        assert placement.size_hw == where.size_hw == source.size_hw(photo)
        np.testing.assert_allclose(placement.scale_xy, where.scale_xy, rtol=0.02)
        np.testing.assert_allclose(placement.offset_xy, where.offset_xy, atol=0.5)
        assert Counted.opened == (number == 0)


def test_the_smallest_crop_of_the_recipe_still_fills_the_input(photo, copies):
    source = copies(CropConfig(scale=(0.25, 1.0)))
    copy, size_hw = source._reduced(photo)
    assert size_hw == (300, 400)
    assert min(copy.size_hw) * 0.25**0.5 >= 32


def test_a_changed_image_is_read_anew(photo, copies):
    before, _ = copies().resized(photo, SPEC, AugmentationParams())
    Image.new("RGB", (400, 300), (9, 9, 9)).save(photo.path)
    os.utime(photo.path, ns=(1, 1))
    after, _ = copies().resized(photo, SPEC, AugmentationParams())
    assert after.max() == 9
    assert before.max() > 9


def test_the_folder_is_bounded_and_half_a_copy_is_none(photo, copies, tmp_path):
    copies(room=100).resized(photo, SPEC, AugmentationParams())
    assert not list((tmp_path / "copies").glob("*.reduced"))
    copies().resized(photo, SPEC, AugmentationParams())
    (kept,) = (tmp_path / "copies").glob("*.reduced")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    pixels, _ = copies().resized(photo, SPEC, AugmentationParams())
    assert np.array_equal(pixels, FileImageSource().resized(photo, SPEC, AugmentationParams())[0])
    assert prune(tmp_path / "copies", 10) == 0


def test_copies_of_this_training_stay_and_those_nobody_uses_make_room(photo, copies, tmp_path):
    folder = tmp_path / "copies"
    copies().resized(photo, SPEC, AugmentationParams())
    (kept,) = folder.glob("*.reduced")
    size = kept.stat().st_size
    room = size + size // 2 + 1000
    os.utime(kept, ns=(1, 1))
    assert copies(room=room).resized(photo, SPEC, AugmentationParams())
    assert Counted.opened == 0  # nearly all of the room is taken, and by what is needed
    assert kept.stat().st_mtime_ns > 1
    os.utime(kept, ns=(1, 1))
    (folder / ".x.reduced.1.tmp").touch()
    os.utime(folder / ".x.reduced.1.tmp", ns=(1, 1))
    other = SPEC.model_copy(update={"resize": "letterbox"})
    copies(room=room, inputs=(other,)).resized(photo, other, AugmentationParams())
    (new,) = folder.iterdir()
    assert new != kept  # another recipe's gave way, once there was no room beside it


def test_loaders_side_by_side_fill_no_more_than_the_room_of_one_folder(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "prune", lambda folder, max_bytes: 0)  # at the end it would hide it
    room = 24_000  # bytes; the copies of all 18 images would take 60,000
    train(
        recipe(training__epochs=1, training__workers=2, data__photo_cache_gb=room / 1e9),
        output=tmp_path / "run",
        device="cpu",
    )
    sizes = [p.stat().st_size for p in (tmp_path / "cache" / "images").glob("*.reduced")]
    assert sizes
    assert sum(sizes) <= room


def test_training_from_copies_is_training_from_files_bit_for_bit(recipe, tmp_path):
    chosen = recipe(training__epochs=2, augmentation__horizontal_flip=0.5)
    copied = train(chosen, output=tmp_path / "a", device="cpu")
    assert list((tmp_path / "cache" / "images").glob("*.reduced"))
    read = train(chosen.changed({"data.image_cache_gb": 0}), output=tmp_path / "b", device="cpu")
    assert same(weights_of(copied), weights_of(read))


@pytest.mark.slow
def test_large_images_come_five_times_as_fast_from_the_second_epoch(tmp_path):
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (75, 100, 3), np.uint8))
    samples = []
    for i in range(4):
        small.resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.jpg", quality=92)
        samples.append(Sample(id=str(i), path=tmp_path / f"{i}.jpg", size_hw=(3000, 4000)))
    spec = InputSpec(size_hw=(224, 224))
    for crop in (None, CropConfig()):
        source = ResizedImageCache((spec,), crop, 10**9, tmp_path / f"copies-{crop is None}")
        change = AugmentationParams(None if crop is None else (100.0, 100.0, 2100.0, 1900.0))
        times = []
        for _ in range(2):
            start = time.perf_counter()
            for sample in samples:
                source.resized(sample, spec, change)
            times.append(time.perf_counter() - start)
        assert times[1] * 5 <= times[0], (crop, times)


FROZEN = {"model__trainable": [], "training__epochs": 3}


def test_a_frozen_trunk_is_asked_once_and_the_head_learns_the_same(recipe, tmp_path, monkeypatch):
    slow = train(recipe(**FROZEN, training__feature_cache="off"), output=tmp_path / "slow", device="cpu")
    quick = train(recipe(**FROZEN), output=tmp_path / "quick", device="cpu")
    assert [r["macro_f1"] for r in slow.history] == [r["macro_f1"] for r in quick.history]
    first, second = weights_of(slow), weights_of(quick)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)
    assert not same(
        {"w": first["head.1.weight"]},
        {
            "w": weights_of(train(recipe(**FROZEN, training__seed=5), output=tmp_path / "c", device="cpu"))[
                "head.1.weight"
            ]
        },
    )


def test_features_are_not_kept_where_they_would_change(recipe, tmp_path):
    for changes in (
        {"augmentation__horizontal_flip": 0.5},
        {"augmentation__mixup": 0.2},
        {"model__trainable": ["layer4"]},
    ):
        from blemish.training.feature_cache import can_cache_features
        from blemish.training.optimizers import freeze

        chosen = recipe(**{**FROZEN, **changes})
        network = create("timm/test_resnet", task="classification", label_count=2, input_size=32)
        freeze(network, chosen.model.trainable)
        assert not can_cache_features(network, chosen)
    with pytest.raises(BadRecipe, match="frozen trunk"):
        train(recipe(training__feature_cache="on"), output=tmp_path / "run", device="cpu")


def test_an_automatic_batch_size_is_stored(recipe, tmp_path):
    run = train(
        recipe(training__batch_size="auto", training__epochs=1), output=tmp_path / "run", device="cpu"
    )
    text = (run.path / "recipe.yaml").read_text()
    assert "batch_size: 8" in text  # 14 images learn: the largest power of two below


def test_what_an_image_takes_grows_with_its_area():
    small = create("resnet18", task="classification", label_count=2, input_size=64)
    large = create("resnet18", task="classification", label_count=2, input_size=128)
    assert 3.5 < bytes_per_image(large) / bytes_per_image(small) < 4.5
    assert find_batch_size(large, torch.device("cpu"), 10**6) <= 64


def test_channels_last_and_mixed_precision_train(recipe, tmp_path):
    for i, changes in enumerate(
        ({"training__channels_last": True}, {"training__precision": "bf16", "training__channels_last": True})
    ):
        run = train(recipe(**changes, training__epochs=1), output=tmp_path / str(i), device="cpu")
        assert np.isfinite(run.history[0]["val_loss"])


TWO = """
import json, sys
from blemish.training import read_recipe
from blemish.training.run import train

if __name__ == "__main__":
    run = train(read_recipe(sys.argv[1]), output=sys.argv[2], device="cpu")
    print(json.dumps(run.history))
"""


@pytest.mark.slow
def test_two_processes_train_together(recipe, tmp_path):
    chosen = recipe(training__devices=2, training__epochs=2, augmentation__horizontal_flip=0.5)
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    made = subprocess.run(
        [sys.executable, tmp_path / "two.py", tmp_path / "recipe.yaml", tmp_path / "run"],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    history = json.loads(made.stdout.strip().splitlines()[-1])
    assert [row["epoch"] for row in history] == [1, 2]
    assert (tmp_path / "run" / "model.onnx").exists()
    assert "epoch 2" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
def test_two_nodes_train_together_and_the_first_alone_writes(recipe, tmp_path):
    chosen = recipe(training__nodes=2, training__epochs=2)
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [sys.executable, tmp_path / "two.py", tmp_path / "recipe.yaml", tmp_path / "run"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    told = [node.communicate(timeout=500) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    first, second = (json.loads(out.strip().splitlines()[-1]) for out, _ in told)
    timed = ("seconds", "ms_per_image")
    assert [{k: v for k, v in row.items() if k not in timed} for row in first] == [
        {k: v for k, v in row.items() if k not in timed} for row in second
    ]
    assert (tmp_path / "run" / "model.onnx").exists()
    assert (tmp_path / "run" / "train.log").read_text().count("model file") == 1


@pytest.mark.parametrize(
    ("changes", "output", "said"),
    [({}, None, "--output"), ({"training__batch_size": "auto"}, "run", "training.batch_size")],
)
def test_what_several_nodes_cannot_agree_on_is_refused(recipe, tmp_path, changes, output, said):
    with pytest.raises(BadRecipe, match=said):
        train(recipe(training__nodes=2, **changes), output=output and tmp_path / output, device="cpu")
