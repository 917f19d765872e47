"""docs/image-formats.md: one test for each row of its table."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from tests.imaging.tiff_files import gradient, write_tiff

from blemish.imaging import Limits, open_image
from blemish.imaging.image_formats import HAS_AVIF
from blemish.testing import raises

PAGE = Path(__file__).parents[2] / "docs" / "image-formats.md"
RGB = gradient(12, 16, 3)
GRAY = gradient(12, 16)
GRAY_16 = gradient(12, 16, dtype=np.uint16)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data):
    return open_image(data).pixels


def png(width, height, depth, color, rows, *chunks):
    """Return a PNG file written by hand, for kinds that Pillow does not write."""
    from struct import pack
    from zlib import compress, crc32

    def chunk(kind, body):
        return pack(">I", len(body)) + kind + body + pack(">I", crc32(kind + body))

    header = chunk(b"IHDR", pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = b"".join(chunk(kind, content) for kind, content in chunks)
    data = compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.rot90(RGB, -1)
    assert np.array_equal(pixels(encode(RGB, "PNG", exif=exif)), upright)
    assert np.array_equal(pixels(encode(RGB, "WEBP", exif=exif, lossless=True)), upright)
    assert np.array_equal(pixels(encode(RGB, "TIFF", tiffinfo={274: 6})), upright)
    jpeg = pixels(encode(RGB, "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(jpeg.astype(int) - upright).mean() < 6


def test_gray_8():
    assert np.array_equal(pixels(encode(GRAY, "PNG")), np.repeat(GRAY[..., None], 3, 2))
    bits = Image.fromarray(GRAY > 127)
    assert set(np.unique(pixels(encode(bits, "PNG")))) == {0, 255}
    palette = Image.fromarray(RGB).quantize(64)
    assert np.array_equal(pixels(encode(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_gray_16():
    assert np.array_equal(pixels(encode(GRAY_16, "PNG")), GRAY_16)
    assert np.array_equal(pixels(encode(GRAY_16, "TIFF")), GRAY_16)


def test_gray_16_white_is_zero():
    assert np.array_equal(pixels(write_tiff([(GRAY_16, {262: 0})])), 65535 - GRAY_16)
    assert np.array_equal(pixels(write_tiff([(GRAY, {262: 0})]))[..., 0], 255 - GRAY)
    with raises("image-undecodable.damaged", "unknown pixel mode"):
        open_image(write_tiff([(GRAY_16, {262: 0})], order=">"))


def test_gray_16_transparent():
    rows = [row.astype(">u2").tobytes() for row in GRAY_16]
    value = int(GRAY_16[3, 4])
    found = pixels(png(16, 12, 16, 0, rows, (b"tRNS", value.to_bytes(2, "big"))))
    assert np.array_equal(found, np.where(GRAY_16 == value, 65535, GRAY_16))


def test_gray_32():
    assert np.array_equal(pixels(encode(Image.fromarray(GRAY_16.astype(np.int32)), "TIFF")), GRAY_16)
    with raises("image-undecodable.pixel-type", "70000"):
        open_image(encode(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"))


RGB_16 = gradient(12, 16, 3, np.uint16)


def test_rgb_16():
    upper = (RGB_16 >> 8).astype(np.uint8)
    rows = [row.astype(">u2").tobytes() for row in RGB_16]
    assert np.array_equal(pixels(png(16, 12, 16, 2, rows)), upper)
    for order in "<>":
        assert np.array_equal(pixels(write_tiff([(RGB_16, {})], order=order)), upper)


def test_rgb_16_planar():
    planes = np.ascontiguousarray(RGB_16.transpose(2, 0, 1))
    for order in "<>":
        found = pixels(write_tiff([(planes, {284: 2})], order=order))
        assert np.array_equal(found, (RGB_16 >> 8).astype(np.uint8))
    with raises("image-undecodable.damaged", "separate planes"):
        open_image(write_tiff([(np.concatenate([planes, planes[:1]]), {284: 2, 262: 2})]))


def test_rgb_16_transparent():
    rows = [row.astype(">u2").tobytes() for row in RGB_16]
    with raises("image-undecodable.pixel-type", "tRNS"):
        open_image(png(16, 12, 16, 2, rows, (b"tRNS", b"\0\1\0\2\0\3")))


def test_alpha():
    rgba = np.dstack([RGB, np.where(GRAY > 100, 255, 0).astype(np.uint8)])
    expected = np.where(rgba[..., 3:] == 0, 255, RGB)
    assert np.array_equal(pixels(encode(rgba, "PNG")), expected)
    palette = Image.fromarray(RGB).quantize(16)
    found = pixels(encode(palette, "PNG", transparency=0))
    assert (found[np.asarray(palette) == 0] == 255).all()


def test_extra_bands():
    bands = np.dstack([RGB, GRAY])
    assert np.array_equal(pixels(write_tiff([(bands, {262: 2, 338: 0})])), RGB)


def test_cmyk():
    cmyk = Image.fromarray(RGB).convert("CMYK")
    assert np.array_equal(pixels(encode(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB")))
    assert np.abs(pixels(encode(cmyk, "JPEG", quality=100)).astype(int) - RGB).mean() < 12


def test_ycbcr_tiff():
    found = pixels(encode(RGB, "TIFF", compression="jpeg"))
    assert np.abs(found.astype(int) - RGB).mean() < 12


def test_icc_profile():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert np.array_equal(pixels(encode(RGB, "PNG", icc_profile=profile)), RGB)


def test_mpo():
    other = Image.fromarray(255 - RGB)
    found = open_image(encode(RGB, "MPO", save_all=True, append_images=[other], quality=95))
    single = open_image(encode(RGB, "JPEG", quality=95))
    assert np.abs(found.pixels.astype(int) - single.pixels).mean() < 2


def test_several_frames():
    found = open_image(encode(RGB, "TIFF", save_all=True, append_images=[Image.fromarray(255 - RGB)]))
    assert found.header.frames == 2
    assert np.array_equal(found.pixels, RGB)


def test_thumbnail_first():
    for sub_ifds in ((), (1,)):
        data = write_tiff([(RGB[:4, :4].copy(), {254: 1}), (RGB, {254: 0})], sub_ifds=sub_ifds)
        assert np.array_equal(pixels(data), RGB)


def test_thumbnail_only():
    with raises("image-undecodable.thumbnail-only"):
        open_image(write_tiff([(RGB, {254: 1}), (RGB, {254: 1})]))


def test_raw_sensor():
    with raises("image-undecodable.raw-sensor-data"):
        open_image(write_tiff([(GRAY_16, {262: 32803})]))


def test_float():
    with raises("image-undecodable.pixel-type", "floating-point"):
        open_image(encode(Image.fromarray(GRAY.astype(np.float32)), "TIFF"))


def test_jpeg_12():
    data = bytearray(encode(RGB, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = 0xC1, 12
    with raises("image-undecodable.damaged", "12-bit"):
        open_image(bytes(data))


def test_lab():
    with raises("image-undecodable.pixel-type", "LAB"):
        open_image(encode(Image.fromarray(RGB).convert("LAB"), "TIFF"))


@pytest.mark.skipif(not HAS_AVIF, reason="this Pillow cannot read AVIF")
def test_avif():
    assert np.abs(pixels(encode(RGB, "AVIF", quality=100)).astype(int) - RGB).mean() < 6
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        stored = Image.fromarray(RGB)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(stored, "PNG", exif=exif))))
        found = open_image(encode(stored, "AVIF", quality=100, exif=exif))
        assert found.header.size_hw == upright.size[::-1]
        assert np.abs(found.pixels.astype(int) - np.asarray(upright)).mean() < 6
    clear = np.dstack([RGB, np.zeros_like(GRAY)])
    assert (pixels(encode(clear, "AVIF", quality=100)) == 255).all()
    with raises("image-too-large.max-pixels"):
        open_image(encode(RGB, "AVIF"), Limits(max_pixels=100))
    with raises("image-undecodable.damaged", "AVIF"):
        open_image(encode(RGB, "AVIF")[:-40])


def test_foreign_names_avif_without_support(monkeypatch):
    monkeypatch.setattr("blemish.imaging.load_image.FORMATS", ("JPEG", "PNG", "WEBP", "TIFF", "BMP"))
    with raises("image-undecodable.unsupported-format", "AVIF", "Pillow"):
        open_image(b"\0\0\0\x18ftypavif" + b"\0" * 100)


def test_foreign():
    for head, name in [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"GIF89a", "GIF"),
        (b"%PDF-1.7", "PDF"),
    ]:
        with raises("image-undecodable.unsupported-format", name):
            open_image(head + b"\0" * 100)


def test_truncated():
    for data in (encode(RGB, "JPEG"), encode(RGB, "PNG"), encode(RGB, "BMP")):
        with raises("image-truncated"):
            open_image(data[: len(data) * 2 // 3])


def test_every_row_of_the_page_has_a_test():
    rows = re.findall(r"^\| `([a-z0-9-]+)`:", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 20
    assert [row for row in rows if f"test_{row.replace('-', '_')}" not in globals()] == []
