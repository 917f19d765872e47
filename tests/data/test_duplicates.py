"""find_copies: finds edited copies and no other images."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from blemish.data.duplicates import (
    Signatures,
    find_copies,
    group_copies,
    image_signatures,
    stretch_contrast,
    window_hashes,
)
from blemish.data.image_hashes import perceptual_hash
from blemish.imaging import LoadedImage


def scene(seed, size=(200, 160)):
    """An image of coarse and fine patches that differs from that of any other seed."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 255, (n, n), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        )
        for n in (5, 11, 37)
    ]
    gray = np.average(np.stack(layers).astype(float), axis=0, weights=(4, 3, 2))
    return Image.fromarray(gray.astype(np.uint8)).convert("RGB")


def recompressed(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=45)
    return Image.open(buffer)


COPIES = {
    "resized": lambda i: i.resize((90, 120)),
    "recompressed": recompressed,
    "brightened": lambda i: ImageEnhance.Brightness(i).enhance(1.2),
    "cropped": lambda i: i.crop((13, 5, 193, 149)),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
}


@pytest.mark.parametrize("kind", COPIES)
def test_find_copies_finds_edited_copies_only(tmp_path, kind):
    paths = []
    for seed in range(40):
        paths.append(tmp_path / f"{seed}.png")
        scene(seed).save(paths[-1])
    for seed in range(0, 40, 4):
        paths.append(tmp_path / f"{seed}_copy.png")
        COPIES[kind](scene(seed)).save(paths[-1])
    pairs = find_copies(image_signatures(paths))
    assert [(p.first, p.second) for p in pairs] == [(seed, 40 + seed // 4) for seed in range(0, 40, 4)]
    assert {p.mirrored for p in pairs} == {kind in ("mirrored", "upside down")}
    assert not any(p.exact for p in pairs)


def test_find_copies_of_equal_pixels_are_exact(tmp_path):
    for name in ("a.png", "b.bmp", "c.png"):
        scene(1).save(tmp_path / name)
    scene(2).save(tmp_path / "other.png")
    pairs = find_copies(image_signatures([tmp_path / n for n in ("a.png", "other.png", "b.bmp", "c.png")]))
    assert [(p.first, p.second, p.exact) for p in pairs] == [(0, 2, True), (2, 3, True)]
    assert group_copies(4, pairs).tolist() == [0, 1, 0, 0]


def test_find_copies_ignores_what_all_images_have_in_common():
    """Solar cells have the same frame and busbars; only the area between them differs."""
    frame = np.full((64, 64), 40.0)
    frame[4:60, 4:60] = 160
    frame[20:23] = frame[42:45] = 10
    rng = np.random.default_rng(0)
    gray = [
        frame
        + 12 * np.asarray(Image.fromarray(rng.normal(size=(16, 16)).astype(np.float32)).resize((64, 64)))
        for _ in range(200)
    ]
    again = gray[7] + rng.normal(size=(64, 64))
    small = np.stack([stretch_contrast(g.astype(np.float32)) for g in [*gray, again]])
    signatures = Signatures(
        small,
        np.arange(201).astype(np.uint64),
        np.zeros(201, np.uint64),
        np.zeros((201, 4), np.uint64),
        np.ones(201, bool),
        {},
    )
    assert [(p.first, p.second) for p in find_copies(signatures)] == [(7, 200)]


def test_find_copies_skips_unreadable_images(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    signatures = image_signatures([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    assert list(signatures.errors) == [0, 1]
    assert find_copies(signatures) == []


def test_window_hashes_of_whole_image_equal_perceptual_hash():
    for seed in range(5):
        pixels = np.asarray(scene(seed, (128, 128)))
        gray = np.asarray(
            scene(seed, (128, 128)).convert("L").resize((64, 64), Image.Resampling.BOX), np.float32
        )
        query, stored = window_hashes(stretch_contrast(gray)[None])
        assert (int(query[0, 0]) ^ perceptual_hash(LoadedImage(pixels))).bit_count() <= 4
        assert query[0, 0] == stored[0, 0]
