"""blemish.imaging.tiff_layout: thumbnails before the image, white that is zero, planes, white levels."""

import io
from zlib import crc32

import numpy as np
import pytest
from PIL import Image
from tests.imaging.tiff_files import gradient, write_tiff

from blemish.imaging import LoadedImage, open_image, read_header
from blemish.model_file import InputSpec
from blemish.preprocessing import prepare
from blemish.testing import raises

FULL = gradient(40, 60, 3)
SMALL = gradient(8, 12, 3)
GRAY_12 = gradient(6, 8, dtype=np.uint16) >> 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("in_sub_ifd", [True, False])
@pytest.mark.parametrize("mark", [{254: 1}, {255: 2}])
def test_open_image_reads_the_full_image_behind_a_thumbnail(order, in_sub_ifd, mark):
    data = write_tiff([(SMALL, mark), (FULL, {254: 0})], order=order, sub_ifds=(1,) if in_sub_ifd else ())
    loaded = open_image(data)
    assert read_header(data).size_hw == loaded.size_hw == (40, 60)
    assert np.array_equal(loaded.pixels, FULL)


def test_open_image_skips_previews_and_masks():
    mask = (gradient(40, 60), {254: 4})
    data = write_tiff([(SMALL, {254: 1}), mask, (SMALL, {254: 1}), (FULL, {})])
    assert np.array_equal(open_image(data).pixels, FULL)


def test_open_image_refuses_a_file_of_thumbnails():
    data = write_tiff([(SMALL, {254: 1}), (SMALL, {254: 1})])
    for function in (open_image, read_header):
        with raises("image-undecodable.thumbnail-only", "marked as reduced"):
            function(data)
    assert open_image(write_tiff([(SMALL, {254: 1})])).size_hw == (8, 12)  # the only image


@pytest.mark.parametrize("photometric", [32803, 34892])
def test_open_image_refuses_raw_sensor_data(photometric):
    raw = (gradient(40, 60, dtype=np.uint16), {262: photometric, 254: 0})
    with raises("image-undecodable.raw-sensor-data", "raw data"):
        open_image(write_tiff([(SMALL, {254: 1}), raw], sub_ifds=(1,)))


@pytest.mark.parametrize(("dtype", "order"), [(np.uint8, "<"), (np.uint8, ">"), (np.uint16, "<")])
def test_open_image_inverts_gray_whose_white_is_zero(dtype, order):
    pixels = gradient(6, 8, dtype=dtype)
    loaded = open_image(write_tiff([(pixels, {262: 0})], order=order))
    expected = np.iinfo(dtype).max - pixels
    assert np.array_equal(loaded.pixels if dtype == np.uint16 else loaded.pixels[..., 0], expected)


def test_open_image_inverts_compressed_gray_whose_white_is_zero():
    pixels, buffer = gradient(6, 8, dtype=np.uint16), io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", compression="tiff_adobe_deflate", tiffinfo={262: 0})
    assert np.array_equal(open_image(buffer.getvalue()).pixels, 65535 - pixels)


@pytest.mark.parametrize("order", ["<", ">"])
def test_open_image_reads_separate_planes_of_16_bits(order):
    planes = np.stack([np.full((4, 5), value, np.uint16) for value in (0x1234, 0x5678, 0x9ABC)])
    planes[:, 2, 3] = 0xFF00
    loaded = open_image(write_tiff([(planes, {284: 2})], order=order))
    assert loaded.pixels[0, 0].tolist() == [0x12, 0x56, 0x9A]
    assert loaded.pixels[2, 3].tolist() == [255, 255, 255]
    upright = open_image(write_tiff([(planes, {284: 2, 274: 6})], order=order))
    assert upright.size_hw == (5, 4)
    assert upright.pixels[3, 1].tolist() == [255, 255, 255]


def test_open_image_refuses_four_separate_planes_of_16_bits():
    planes = np.zeros((4, 4, 5), np.uint16)
    with raises("image-undecodable.damaged", "separate planes"):
        open_image(write_tiff([(planes, {284: 2, 262: 2, 338: 2})]))


@pytest.mark.parametrize(
    ("tags", "level"),
    [
        ({50717: 4000}, 4000),
        ({281: 4095}, 4095),
        ({281: 3888}, 4095),
        ({341: 1023}, 1023),
        ({281: 65535}, None),
    ],
)
def test_white_level_of_tiff_tags(tags, level):
    loaded = open_image(write_tiff([(GRAY_12, tags)]))
    assert loaded.white_level == loaded.header.white_level == level


def png_with_significant_bits(pixels, bits):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    chunk = b"sBIT" + bytes([bits])
    return data[:33] + (1).to_bytes(4, "big") + chunk + crc32(chunk).to_bytes(4, "big") + data[33:]


def test_white_level_of_png_significant_bits(tmp_path):
    from blemish.data.image_headers import read_header_info

    path = tmp_path / "a.png"
    path.write_bytes(png_with_significant_bits(GRAY_12, 12))
    assert open_image(path).white_level == 4095
    assert read_header_info(path).header == read_header(path)
    # The specification recommends scaled samples, whose white is 65535.
    scaled = open_image(png_with_significant_bits(gradient(6, 8, dtype=np.uint16), 12))
    assert scaled.white_level is None


def test_white_level_of_the_file_reaches_network_and_display():
    spec = InputSpec(size_hw=(6, 8), mean=(0.0,), std=(1.0,), channels=1)
    stated = open_image(write_tiff([(GRAY_12, {281: 4095})]))
    plain = open_image(write_tiff([(GRAY_12, {})]))
    assert prepare(stated, spec)[0].max() == pytest.approx(1.0)
    assert prepare(plain, spec)[0].max() < 0.07
    given = spec.model_copy(update={"white_level": 8191})  # the model's own level comes first
    assert prepare(stated, given)[0].max() == pytest.approx(0.5, abs=0.01)
    assert np.asarray(stated.to_pil()).max() == 255
    assert np.asarray(plain.to_pil()).max() < 20


def test_unused_bits():
    plain = open_image(write_tiff([(GRAY_12, {})]))
    assert "4,095, and white is 65,535; if it has 12 bits, white is 4095" in plain.unused_bits()
    assert plain.unused_bits(4095) == ""
    assert open_image(write_tiff([(GRAY_12, {281: 4095})])).unused_bits() == ""
    assert LoadedImage(gradient(6, 8, dtype=np.uint16)).unused_bits() == ""
    assert LoadedImage(np.zeros((6, 8), np.uint16)).unused_bits() == ""  # black at every white level
    color = open_image(write_tiff([(gradient(6, 8, 3, np.uint16) >> 4, {})]))
    assert "channels have 16 bits" in color.unused_bits()
    assert open_image(write_tiff([(gradient(6, 8, 3, np.uint16), {})])).unused_bits() == ""
