"""The store of decoded images: bounded, and without effect on what is returned."""

import pickle

import numpy as np
import pytest
from PIL import Image

from blemish.model_file import InputSpec
from blemish.structures import Sample
from blemish.training.decoded_images import DecodedImages
from blemish.training.image_source import FileImageSource

SPEC = InputSpec(size_hw=(32, 32))
IMAGE_BYTES = 4 * 40 * 30


@pytest.fixture
def samples(tmp_path):
    random = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return [Sample(id=str(i), path=tmp_path / f"{i}.png", size_hw=(30, 40)) for i in range(4)]


def test_decoded_images_keeps_at_most_its_size(samples):
    source = DecodedImages(2 * IMAGE_BYTES)
    for sample in (*samples, *samples):
        source.resized(sample, SPEC)
        assert source.bytes <= source.max_bytes
    assert list(source._images) == ["2", "3"]


def test_decoded_images_opens_a_kept_file_once(samples):
    source = DecodedImages(10 * IMAGE_BYTES)
    expected = [FileImageSource().resized(sample, SPEC, (3.0, 2.0, 20.0, 25.0)) for sample in samples]
    for sample in samples:
        source.resized(sample, SPEC)
    for sample in samples:
        sample.path.unlink()
    for sample, (pixels, placement) in zip(samples, expected, strict=True):
        found = source.resized(sample, SPEC, (3.0, 2.0, 20.0, 25.0))
        assert np.array_equal(found[0], pixels)
        assert found[1] == placement


def test_decoded_images_larger_than_the_store_are_still_returned(samples):
    source = DecodedImages(10)
    pixels, _ = source.resized(samples[0], SPEC)
    assert pixels.shape == (32, 32, 3)
    assert source.bytes == 0


def test_decoded_images_counts_reduced_copies(tmp_path):
    Image.fromarray(np.zeros((256, 256, 3), np.uint8)).save(tmp_path / "a.jpg")
    sample = Sample(id="a", path=tmp_path / "a.jpg", size_hw=(256, 256))
    source = DecodedImages(10**7)
    spec = InputSpec(size_hw=(32, 32), decode="scaled")
    source.resized(sample, spec)
    small = source.bytes
    assert small == 4 * 64 * 64
    source.resized(sample, spec, (0.0, 0.0, 64.0, 64.0))
    assert source.bytes > small


def test_decoded_images_are_not_pickled(samples):
    source = DecodedImages(10**6)
    source.resized(samples[0], SPEC)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.bytes == 0
    assert not copy._images
    assert copy.resized(samples[0], SPEC)[0].shape == (32, 32, 3)
