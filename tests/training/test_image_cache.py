"""Resized copies of images: training from them equals training from the files."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from blemish.config.schema import CropConfig
from blemish.model_file import InputSpec
from blemish.structures import Sample
from blemish.training.image_cache import ResizedImageCache, prune
from blemish.training.image_source import FileImageSource
from blemish.training.run import train

SPEC = InputSpec(size_hw=(24, 32))


@pytest.fixture
def sample(tmp_path):
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

    def image(self, sample, reduction=None):
        type(self).opened += 1
        return super().image(sample, reduction)


@pytest.fixture
def copies(tmp_path):
    def make(crop=None, max_bytes=10**8, inputs=(SPEC,)):
        Counted.opened = 0
        return Counted(inputs, crop, max_bytes, tmp_path / "copies")

    return make


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        InputSpec(size_hw=(24, 24), resize="shortest", resize_to=28),
        InputSpec(size_hw=(32, 32), resize="letterbox"),
        InputSpec(size_hw=(24, 32), decode="scaled"),
    ],
)
def test_copy_without_crop_equals_the_input(sample, copies, spec):
    expected, where = FileImageSource().resized(sample, spec)
    for number in range(3):
        pixels, placement = copies(inputs=(spec,)).resized(sample, spec)
        assert np.array_equal(pixels, expected)
        assert placement == where
        assert Counted.opened == (number == 0)


@pytest.mark.parametrize("decode", ["full", "scaled"])
def test_crop_from_a_copy_resembles_the_crop_from_the_file(sample, copies, decode):
    crop = CropConfig(scale=(0.25, 1.0))
    region = (100.0, 60.0, 340.0, 260.0)
    expected, where = FileImageSource().resized(sample, SPEC, region)
    for number in range(2):
        spec = SPEC.model_copy(update={"decode": decode})
        source = copies(crop, inputs=(spec,))
        pixels, placement = source.resized(sample, spec, region)
        assert np.abs(pixels.astype(float) - expected).mean() < 4
        assert placement.size_hw == where.size_hw == source.size_hw(sample)
        np.testing.assert_allclose(placement.scale_xy, where.scale_xy, rtol=0.02)
        np.testing.assert_allclose(placement.offset_xy, where.offset_xy, atol=0.5)
        assert Counted.opened == (number == 0)


def test_copy_is_large_enough_for_the_smallest_crop(sample, copies):
    source = copies(CropConfig(scale=(0.25, 1.0)))
    copy, size_hw = source._reduced(sample)
    assert size_hw == (300, 400)
    assert min(copy.size_hw) * 0.25**0.5 >= 32


def test_changed_image_is_read_again(sample, copies):
    before, _ = copies().resized(sample, SPEC)
    Image.new("RGB", (400, 300), (9, 9, 9)).save(sample.path)
    os.utime(sample.path, ns=(1, 1))
    after, _ = copies().resized(sample, SPEC)
    assert after.max() == 9
    assert before.max() > 9


def test_folder_is_bounded_and_partial_copies_are_ignored(sample, copies, tmp_path):
    copies(max_bytes=100).resized(sample, SPEC)
    assert not list((tmp_path / "copies").glob("*.reduced"))
    copies().resized(sample, SPEC)
    (kept,) = (tmp_path / "copies").glob("*.reduced")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    pixels, _ = copies().resized(sample, SPEC)
    assert np.array_equal(pixels, FileImageSource().resized(sample, SPEC)[0])
    assert prune(tmp_path / "copies", 10) == 0


def test_unused_copies_are_deleted_and_used_ones_kept(sample, copies, tmp_path):
    folder = tmp_path / "copies"
    copies().resized(sample, SPEC)
    (kept,) = folder.glob("*.reduced")
    size = kept.stat().st_size
    max_bytes = size + size // 2 + 1000
    os.utime(kept, ns=(1, 1))
    assert copies(max_bytes=max_bytes).resized(sample, SPEC)
    assert Counted.opened == 0  # the folder is nearly full, of copies that are in use
    assert kept.stat().st_mtime_ns > 1
    os.utime(kept, ns=(1, 1))
    (folder / ".x.reduced.1.tmp").touch()
    os.utime(folder / ".x.reduced.1.tmp", ns=(1, 1))
    other = SPEC.model_copy(update={"resize": "letterbox"})
    copies(max_bytes=max_bytes, inputs=(other,)).resized(sample, other)
    (new,) = folder.iterdir()
    assert new != kept  # the copy of another recipe was deleted to make space


def test_concurrent_loaders_respect_the_folder_limit(recipe, tmp_path):
    max_bytes = 24_000  # bytes; the copies of all 18 images would take 60,000
    chosen = recipe(training__epochs=1, training__workers=2, data__image_cache_gb=max_bytes / 1e9)
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml(), encoding="utf-8")
    code = (
        "import sys\n"
        "from blemish.training import image_cache, train\n"
        "image_cache.prune = lambda folder, max_bytes: 0\n"  # pruning at the end would hide the excess
        "train(sys.argv[1], output=sys.argv[2], device='cpu')\n"
    )
    # In a process of its own: this one has threads of other tests, and a fork would copy their locks.
    arguments = [sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), str(tmp_path / "run")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = [p.stat().st_size for p in (tmp_path / "cache" / "images").glob("*.reduced")]
    assert sizes
    assert sum(sizes) <= max_bytes


def test_training_from_copies_equals_training_from_files(recipe, tmp_path):
    chosen = recipe(training__epochs=2, augmentation__horizontal_flip=0.5)
    copied = train(chosen, output=tmp_path / "a", device="cpu")
    assert list((tmp_path / "cache" / "images").glob("*.reduced"))
    read = train(chosen.changed({"data.image_cache_gb": 0}), output=tmp_path / "b", device="cpu")
    assert same(weights_of(copied), weights_of(read))


@pytest.mark.slow
def test_copies_of_large_images_are_five_times_as_fast(tmp_path):
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (75, 100, 3), np.uint8))
    samples = []
    for i in range(4):
        small.resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.jpg", quality=92)
        samples.append(Sample(id=str(i), path=tmp_path / f"{i}.jpg", size_hw=(3000, 4000)))
    spec = InputSpec(size_hw=(224, 224))
    for crop in (None, CropConfig()):
        source = ResizedImageCache((spec,), crop, 10**9, tmp_path / f"copies-{crop is None}")
        region = None if crop is None else (100.0, 100.0, 2100.0, 1900.0)
        times = []
        for _ in range(2):
            start = time.process_time()
            for sample in samples:
                source.resized(sample, spec, region)
            times.append(time.process_time() - start)
        assert times[1] * 5 <= times[0], (crop, times)
