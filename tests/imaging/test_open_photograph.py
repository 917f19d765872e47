"""The image door: every kind of image comes in upright and whole, everything else is named."""

import io
import os
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps

from blemish.errors import BadInput, ImageTooLarge
from blemish.imaging import Limits, LoadedImage, open_image, read_header, upright
from blemish.testing import raises

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
GREY_16 = RNG.integers(0, 65536, (13, 17), dtype=np.uint16)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


def encoded(image, image_format, **options):
    buffer = io.BytesIO()
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def with_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("image_format", FORMATS)
def test_colours_come_in_as_pillow_reads_them(image_format):
    data = encoded(RGB, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    photo = open_image(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert photo.pixels.dtype == np.uint8
    assert np.array_equal(photo.pixels, expected)
    assert (photo.header.format, photo.header.frames, photo.header.bits) == (image_format, 1, 8)
    assert photo.path is None and photo.size_hw == (13, 17)


def test_a_file_and_its_bytes_are_the_same_image(tmp_path):
    path = tmp_path / "ä photo.png"
    Image.fromarray(RGB).save(path)
    for source in (path, str(path)):
        photo = open_image(source)
        assert photo.path == path
        assert np.array_equal(photo.pixels, open_image(path.read_bytes()).pixels)
    path.unlink()  # on Windows this fails while the file is open


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("image_format", "pixels", "options"),
    [
        ("PNG", RGB, {}),
        ("WEBP", RGB, {"lossless": True}),
        ("TIFF", RGB, {}),
        ("TIFF", RGB, {"compression": "tiff_lzw"}),
        ("PNG", GREY_16, {}),
        ("TIFF", GREY_16, {}),
        ("TIFF", GREY_16, {"compression": "tiff_deflate"}),
    ],
)
def test_every_orientation_is_undone(orientation, image_format, pixels, options):
    data = encoded(pixels, image_format, exif=with_orientation(orientation), **options)
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    photo = open_image(data)
    assert np.array_equal(photo.pixels, expected)
    assert photo.header.orientation == orientation
    assert photo.header.stored_size_hw == (13, 17)
    assert read_header(data).size_hw == photo.size_hw == expected.shape[:2]


def test_a_jpeg_from_a_camera_held_upright_is_turned():
    data = encoded(RGB, "JPEG", exif=with_orientation(6))
    stored = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(open_image(data).pixels, np.rot90(stored, -1))


def test_upright_equals_pillow_on_arrays_of_any_depth():
    image = Image.fromarray(RGB)
    for orientation in range(1, 9):
        image.getexif()[0x0112] = orientation
        assert np.array_equal(upright(RGB, orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_exif_behind_the_pixels_of_a_png_counts_and_nothing_is_decoded_for_it(monkeypatch):
    data = encoded(RGB, "PNG", exif=with_orientation(8))
    start = data.index(b"eXIf") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    chunk, rest = data[start : start + length], data[:start] + data[start + length :]
    behind = rest[:-12] + chunk + rest[-12:]
    assert behind.index(b"eXIf") > behind.index(b"IDAT")
    photo = open_image(behind)
    assert np.array_equal(photo.pixels, np.rot90(RGB))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    assert read_header(behind).orientation == 8


@pytest.mark.parametrize("nonsense", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(nonsense):
    photo = open_image(encoded(RGB, "PNG", exif=with_orientation(nonsense)))
    assert photo.header.orientation == 1
    assert np.array_equal(photo.pixels, RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bits_and_palettes_become_rgb(mode):
    image = Image.fromarray(RGB).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    for image_format in ("PNG", "TIFF", "BMP"):
        photo = open_image(encoded(image, image_format))
        assert np.array_equal(photo.pixels, expected)
    assert read_header(encoded(image, "TIFF")).bits == (1 if mode == "1" else 8)


def test_cmyk_is_read_with_adobes_inversion_and_without():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for image_format in ("JPEG", "TIFF"):  # Pillow writes Adobe's marker and inverts in JPEG only
        data = encoded(red, image_format)
        assert np.abs(open_image(data).pixels[4, 4].astype(int) - (255, 0, 0)).max() <= 3, image_format
        assert read_header(data).mode == "CMYK"


@pytest.mark.parametrize(
    ("mode", "image_format"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")]
)
def test_transparency_is_laid_on_white(mode, image_format):
    image = Image.fromarray(RGB).convert(mode)
    alpha = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 255
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    photo = open_image(encoded(image, image_format, **options))
    colour, share = np.asarray(image.convert("RGBA"))[..., :3].astype(float), alpha[..., None] / 255
    assert np.abs(photo.pixels - (colour * share + 255 * (1 - share))).max() <= 1
    assert photo.pixels[0, 0].tolist() == [255, 255, 255]


def test_a_transparent_colour_becomes_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    photo = open_image(encoded(palette, "PNG", transparency=0))
    assert photo.pixels.tolist() == [[[255, 255, 255], [200, 0, 0]]]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    assert open_image(encoded(rgb, "PNG", transparency=(1, 2, 3))).pixels[0].tolist() == [
        [255] * 3,
        [9] * 3,
    ]
    grey = Image.fromarray(np.array([[500, 40000]], np.uint16))
    assert open_image(encoded(grey, "PNG", transparency=500)).pixels.tolist() == [[65535, 40000]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_sixteen_bits_are_kept_in_either_byte_order(order, options):
    image = Image.fromarray(GREY_16)
    if order == ">":
        image = Image.frombytes("I;16B", (17, 13), GREY_16.astype(">u2").tobytes())
    photo = open_image(encoded(image, "TIFF", **options))
    assert photo.is_16bit and photo.header.bits == 16
    assert photo.pixels.dtype == np.uint16 and photo.pixels.dtype.isnative
    assert np.array_equal(photo.pixels, GREY_16)


def test_sixteen_bit_png_is_kept():
    photo = open_image(encoded(GREY_16, "PNG"))
    assert np.array_equal(photo.pixels, GREY_16)
    assert photo.header.bits == 16


def test_thirty_two_bits_are_kept_where_sixteen_hold_them_and_refused_where_not():
    values = GREY_16.astype(np.int32)
    assert np.array_equal(open_image(encoded(values, "TIFF")).pixels, GREY_16)
    with raises("image-undecodable.pixel-type", "0 to 65536", "16 bits"):
        open_image(encoded(np.array([[0, 65536]], np.int32), "TIFF"))
    with raises("image-undecodable.pixel-type", "-1"):
        open_image(encoded(np.array([[-1, 5]], np.int32), "TIFF"))


def test_floating_point_is_refused_by_name():
    with raises("image-undecodable.pixel-type", "floating-point"):
        open_image(encoded(np.ones((3, 4), np.float32), "TIFF"))


def test_the_first_of_several_frames_is_the_image():
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    for image_format in ("WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = encoded(first, image_format, save_all=True, append_images=[second, first], **options)
        photo = open_image(data)
        assert photo.header.frames == 3, image_format
        assert np.array_equal(photo.pixels, RGB), image_format
    phone = encoded(first, "MPO", save_all=True, append_images=[second])
    header = open_image(phone).header
    assert (header.format, header.frames) == ("JPEG", 2)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_bomb_is_refused_from_its_header(image_format, monkeypatch):
    # The pixels are patched into the header of a tiny file, as one who means harm would do it.
    small = encoded(
        Image.new("RGB", (16, 16)), image_format, **({"lossless": True} if image_format == "WEBP" else {})
    )
    data = bytearray(small)
    if image_format == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = (10_000).to_bytes(2, "big") * 2
    elif image_format == "PNG":
        data = bytearray(encoded(Image.new("1", (10_000, 10_000)), "PNG"))
    elif image_format == "WEBP":
        at = data.index(b"VP8L") + 9
        data[at : at + 4] = (9_999 | 9_999 << 14).to_bytes(4, "little")
    elif image_format == "BMP":
        data[18:26] = (10_000).to_bytes(4, "little") * 2
    else:
        data = bytearray(encoded(Image.new("1", (10_000, 10_000)), "TIFF", compression="group4"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    for opened in (open_image, read_header):
        with raises("image-too-large.max-pixels", "10000 x 10000", "64,000,000"):
            opened(bytes(data))


def test_an_animated_webp_bomb_is_refused_before_its_canvas_is_made(monkeypatch):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (9_999).to_bytes(3, "little") * 2
    from PIL import WebPImagePlugin

    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "_open", lambda *_: pytest.fail("canvas made"))
    with pytest.raises(ImageTooLarge):
        open_image(bytes(data))


def test_limits_are_the_callers(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    assert open_image(path, Limits(max_pixels=221)).size_hw == (13, 17)
    with raises("image-too-large.max-pixels", "max_pixels") as caught:
        open_image(path, Limits(max_pixels=220))
    assert caught.value.path == path
    size = path.stat().st_size
    assert open_image(path, Limits(max_bytes=size)).size_hw == (13, 17)
    for source in (path, path.read_bytes()):
        with raises("image-too-large.max-bytes", "max_bytes"):
            open_image(source, Limits(max_bytes=size - 1))


def test_pillows_own_limit_neither_helps_nor_hinders(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Image.open would raise DecompressionBombError
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(encoded(RGB, "PNG")))
    for image_format in ("JPEG", "PNG", "BMP"):
        assert open_image(encoded(RGB, image_format)).size_hw == (13, 17)
    for image_format in ("WEBP", "TIFF"):  # their decoders ask it themselves from Pillow 12 on
        try:
            assert open_image(encoded(RGB, image_format)).size_hw == (13, 17)
        except ImageTooLarge as error:
            assert "Image.MAX_IMAGE_PIXELS = 10" in str(error)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("BMP", {}),
    ],
)
def test_whatever_is_cut_off_is_missed_even_where_pillow_was_told_to_look_away(
    image_format, options, lenient, monkeypatch
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = encoded(RNG.integers(0, 256, (60, 70, 3), dtype=np.uint8), image_format, **options)
    assert open_image(data).size_hw == (60, 70)
    for share in (0.3, 0.6, 0.9):
        with raises("image-truncated"):
            open_image(data[: int(share * len(data))])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


@pytest.mark.parametrize("lenient", [False, True])
def test_damaged_pixels_are_refused_even_where_pillow_was_told_to_look_away(lenient, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = bytearray(encoded(RNG.integers(0, 256, (60, 70, 3), dtype=np.uint8), "PNG"))
    start = data.index(b"IDAT") + 4
    data[start + 40 : start + 80] = bytes(40)
    with raises("image-undecodable.damaged"):
        open_image(bytes(data))


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    (tmp_path / "short.jpg").write_bytes(b"\xff")
    for name, code in (
        ("missing.jpg", "bad-image.no-such-file"),
        (".", "bad-image.folder"),
        ("empty.jpg", "bad-image.empty-file"),
        ("text.jpg", "image-undecodable.unsupported-format"),
        ("short.jpg", "image-undecodable.unsupported-format"),
        ("bad\0name.jpg", "bad-image.invalid-path"),
        ("x" * 5000, "bad-image.unreadable-file"),
    ):
        with raises(code) as caught:
            open_image(tmp_path / name)
        assert caught.value.path == tmp_path / name
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with raises("bad-image.not-a-file"):
        open_image(tmp_path / "pipe.jpg")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"%PDF-1.7 and so on", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
    ],
)
def test_what_people_bring_by_mistake_is_named(start, said):
    with raises("image-undecodable.unsupported-format", said):
        open_image(start)


def test_a_gif_with_a_images_name_is_not_decoded(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path, "GIF")
    with raises("image-undecodable.unsupported-format", "GIF"):
        open_image(path)


def test_damaged_metadata_neither_warn_nor_hinder():
    data = bytearray(encoded(RGB, "JPEG", exif=with_orientation(6), icc_profile=b"this is no profile"))
    at = data.index(b"Exif\0\0") + 6
    data[at + 8 : at + 10] = b"\xff\xff"  # more entries than there are bytes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(bytes(data)).pixels.shape[2] == 3


def test_colour_profiles_are_left_alone():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(open_image(encoded(RGB, "PNG", icc_profile=profile)).pixels, RGB)


def test_other_threads_keep_their_warnings():
    filters_before = list(warnings.filters)
    damaged = bytearray(encoded(RGB, "TIFF", exif=with_orientation(6)))
    heard = []

    def warn():
        try:
            for _ in range(200):
                warnings.warn("mine", UserWarning, stacklevel=1)
        except UserWarning as warning:
            heard.append(str(warning))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=warn) for _ in range(4)]
        threads += [threading.Thread(target=open_image, args=(bytes(damaged),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(UserWarning, match="still mine"):
            warnings.warn("still mine", UserWarning, stacklevel=1)
    assert heard == ["mine"] * 4
    assert list(warnings.filters) == filters_before


def test_many_threads_read_the_same_images(tmp_path):
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.roll(RGB, number, 0)).save(paths[-1])
    results = {}

    def read(worker):
        results[worker] = [open_image(p).pixels.tobytes() for p in paths * 5]

    threads = [threading.Thread(target=read, args=(w,)) for w in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple(v) for v in results.values()}) == 1


def test_an_image_checks_its_pixels_and_locks_them():
    mine = RGB.copy()
    photo = LoadedImage(mine)
    with pytest.raises(ValueError, match="read-only"):
        photo.pixels[0, 0] = 0
    mine[0, 0] = 0  # still the caller's
    for wrong in (GREY, RGB.astype(float), RGB[..., :2], np.zeros((0, 4, 3), np.uint8), GREY_16[None]):
        with pytest.raises(BadInput, match=r"give \(h, w, 3\) uint8"):
            LoadedImage(wrong)


def test_to_pil_shows_sixteen_bits_up_to_the_white_level():
    photo = LoadedImage(np.array([[0, 2048, 4095, 65535]], np.uint16))
    assert np.asarray(photo.to_pil(4095))[0, :, 0].tolist() == [0, 128, 255, 255]
    assert np.asarray(photo.to_pil())[0, :, 0].tolist() == [0, 8, 16, 255]
    assert np.array_equal(np.asarray(LoadedImage(RGB).to_pil()), RGB)
