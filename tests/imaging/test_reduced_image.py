"""Images at a half, a quarter or an eighth of their size."""

import io

import numpy as np
import pytest
from PIL import Image

from blemish.imaging import LoadedImage, open_image
from blemish.testing import raises


def ramp(size_wh):
    """Return a smooth image whose colors show the position of each pixel."""
    x, y = np.meshgrid(np.arange(size_wh[0]), np.arange(size_wh[1]))
    pixels = np.stack([x * 2, y * 2, 128 + 40 * np.sin(x / 25)], 2)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def as_jpeg(image, orientation=1, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif, **options)
    return buffer.getvalue()


def by(factor):
    return lambda size_hw: factor


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_jpeg_shows_the_same_place_at_every_orientation(factor, orientation):
    data = as_jpeg(ramp((117, 83)), orientation)
    whole = open_image(data)
    loaded = open_image(data, reduction=by(factor))
    assert loaded.size_hw == whole.size_hw
    image, same_factor, (x, y) = loaded.reduced(factor)
    assert same_factor == factor
    assert image.size == tuple(-(-side // factor) for side in whole.size_hw[::-1])
    height, width = whole.size_hw
    box = (x / factor, y / factor, (x + width) / factor, (y + height) / factor)
    small = np.asarray(image.resize((6, 6), Image.Resampling.BILINEAR, box), float)
    expected = np.asarray(whole.rgb_image().resize((6, 6), Image.Resampling.BILINEAR), float)
    # A shift by one pixel would change the mean by 2 levels, and the least shift of a wrong side is 3 pixels.
    assert np.abs((small - expected)[1:-1, 1:-1].mean((0, 1))).max() < 1.5


def test_image_opened_at_a_reduced_size_has_its_full_pixels_too():
    data = as_jpeg(ramp((100, 60)), 6)
    loaded = open_image(data, reduction=by(4))
    loaded.load()
    assert np.array_equal(loaded.pixels, open_image(data).pixels)
    assert not loaded.pixels.flags.writeable


@pytest.mark.parametrize("source", ["path", "bytes"])
def test_reduced_pixels_do_not_depend_on_how_the_file_was_opened(source, tmp_path):
    data = as_jpeg(ramp((100, 60)), subsampling=2, progressive=True)
    (tmp_path / "a.jpg").write_bytes(data)
    opened = [
        open_image(data if source == "bytes" else tmp_path / "a.jpg", reduction=r)
        for r in (None, by(1), by(2), by(8))
    ]
    images = [np.asarray(image.reduced(2).image) for image in opened]
    assert all(np.array_equal(images[0], image) for image in images)


def test_reduced_averages_the_pixels_of_other_formats():
    image = ramp((50, 31))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    loaded = open_image(buffer.getvalue(), reduction=by(4))
    assert np.array_equal(np.asarray(loaded.reduced(4).image), np.asarray(image.reduce(4)))
    assert loaded.reduced(4).offset_xy == (0, 0)


@pytest.mark.parametrize("is_read", [False, True])
def test_crop_returns_the_pixels_of_a_region(is_read):
    loaded = open_image(as_jpeg(ramp((50, 31))))
    expected = open_image(as_jpeg(ramp((50, 31)))).pixels[3:20, 7:40]
    if is_read:
        _ = loaded.pixels
    assert np.array_equal(loaded.crop((7, 3, 40, 20)).pixels, expected)
    gray = LoadedImage(np.arange(12, dtype=np.uint16).reshape(3, 4), white_level=11)
    assert gray.crop((1, 0, 3, 2)).pixels.tolist() == [[1, 2], [5, 6]]
    assert gray.crop((1, 0, 3, 2)).white_level == 11


def test_reduced_keeps_16_bits():
    pixels = np.array([[0, 65535], [3, 4]], np.uint16)
    reduced = LoadedImage(pixels).reduced(2).image
    assert reduced.mode == "F"
    assert np.asarray(reduced).tolist() == [[65542 / 4]]


def test_a_damaged_jpeg_is_an_error_at_a_reduced_size_too():
    data = as_jpeg(ramp((400, 300)))
    with raises("image-truncated"):
        open_image(data[: len(data) // 2], reduction=by(8))


def test_full_pixels_of_a_file_that_is_gone(tmp_path):
    (tmp_path / "a.jpg").write_bytes(as_jpeg(ramp((100, 60))))
    loaded = open_image(tmp_path / "a.jpg", reduction=by(2))
    (tmp_path / "a.jpg").unlink()
    assert loaded.size_hw == (60, 100)
    with raises("bad-image.no-such-file", "a.jpg"):
        _ = loaded.pixels
