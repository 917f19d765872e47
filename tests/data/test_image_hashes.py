"""Hashes of images: equal for equal pixels, similar for copies."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from blemish.data.audit import unreadable
from blemish.data.image_hashes import (
    hash_images,
    perceptual_hash,
    pixel_hash,
)
from blemish.imaging import LoadedImage, open_image


def scene(seed, size=160):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (7, 7, 3), np.uint8))
    return coarse.resize((size, size), Image.Resampling.BICUBIC)


def hash_of(image):
    return perceptual_hash(LoadedImage(np.asarray(image.convert("RGB"))))


def bits(a, b):
    return (a ^ b).bit_count()


@pytest.mark.parametrize("seed", range(5))
def test_perceptual_hash_is_similar_for_copies_only(seed):
    original = scene(seed)
    for copy in (
        original.resize((90, 90)),
        original.resize((400, 300)),
        ImageEnhance.Brightness(original).enhance(1.15),
    ):
        assert bits(hash_of(original), hash_of(copy)) <= 6
    assert bits(hash_of(original), hash_of(scene(seed + 100))) > 12


def test_perceptual_hash_of_sixteen_bits_is_that_of_eight():
    gray = scene(3).convert("L")
    eight = perceptual_hash(LoadedImage(np.asarray(gray.convert("RGB"))))
    sixteen = perceptual_hash(LoadedImage(np.asarray(gray).astype(np.uint16) * 257))
    assert bits(eight, sixteen) <= 2


def test_pixel_hash_depends_on_upright_pixels_only(tmp_path):
    image = scene(1, 40)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.bmp")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "c.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "d.png", exif=exif)
    a, b, c, d = (pixel_hash(open_image(tmp_path / n)) for n in ("a.png", "b.bmp", "c.tif", "d.png"))
    assert a == b == d
    assert a != c


def test_hash_images_reports_unreadable_images(draw, tmp_path):
    good = [draw(f"{i}.png") for i in range(10)]
    bad = tmp_path / "broken.jpg"
    bad.write_bytes(b"no image")
    paths = [*good[:4], bad, *good[4:], tmp_path / "absent.png"]
    hashes = hash_images(paths)
    assert hashes.opened.tolist() == [True] * 4 + [False] + [True] * 6 + [False]
    assert len(set(hashes.pixel[hashes.opened].tolist())) == 10
    assert [e.path for e in hashes.unreadable] == [bad, tmp_path / "absent.png"]
    assert [e.path for e in unreadable(paths)] == [bad, tmp_path / "absent.png"]
