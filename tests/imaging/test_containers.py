"""blemish.imaging.containers: the exact size at which a file counts as truncated."""

import io

import numpy as np
import pytest
from PIL import Image

from blemish.imaging import read_header
from blemish.imaging.containers import ends_early, png_exif, tiff_directories
from blemish.testing import raises

RGB = np.random.default_rng(1).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def encode(image_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_ends_early_from_the_first_missing_byte(image_format, options):
    data = encode(image_format, **options)
    assert not ends_early(io.BytesIO(data), len(data), image_format)
    assert not ends_early(io.BytesIO(data + b"trailing"), len(data) + 8, image_format)
    if image_format == "TIFF":  # the directory may follow the pixels, whose end counts
        needed = tiff_directories(io.BytesIO(data)).reach
        assert not ends_early(io.BytesIO(data), needed, image_format)
    else:
        needed = len(data)
    cut = data[: needed - 1]
    assert ends_early(io.BytesIO(data if image_format == "TIFF" else cut), needed - 1, image_format)


def test_ends_early_of_webp_with_the_declared_size():
    data = encode("WEBP")
    declared = int.from_bytes(data[4:8], "little") + 8
    for size, expected in ((declared, False), (declared - 1, True), (declared - 8, True)):
        assert ends_early(io.BytesIO(data), size, "WEBP") is expected


def test_tiff_directories_counts_up_to_a_maximum():
    frames = [Image.fromarray(np.roll(RGB, k, 0)) for k in range(5)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    assert tiff_directories(buffer).frames == 5
    assert tiff_directories(buffer, max_frames=3).frames == 3


def test_png_exif_is_empty_without_the_chunk():
    assert png_exif(io.BytesIO(encode("PNG"))) == b""


def test_lossy_webp_bomb_is_rejected_from_its_header():
    data = bytearray(encode("WEBP"))
    assert data[12:16] == b"VP8 "
    data[26:30] = (12_000).to_bytes(2, "little") + (10_000).to_bytes(2, "little")
    with raises("image-too-large.max-pixels", "12000 x 10000"):
        read_header(bytes(data))
