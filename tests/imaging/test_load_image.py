"""blemish.imaging.load_image: every supported image is loaded upright and complete; all others are errors."""

import io
import os
import pickle
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps

from blemish.errors import BadImage, ImageTooLarge
from blemish.imaging import Limits, LoadedImage, apply_orientation, open_image, read_header
from blemish.testing import raises

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
GRAY_16 = RNG.integers(0, 65536, (13, 17), dtype=np.uint16)
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
def test_open_image_equals_pillow_for_rgb(image_format):
    data = encoded(RGB, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    loaded = open_image(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert loaded.pixels.dtype == np.uint8
    assert np.array_equal(loaded.pixels, expected)
    assert (loaded.header.format, loaded.header.frames, loaded.header.bits) == (image_format, 1, 8)
    assert loaded.path is None and loaded.size_hw == (13, 17)


def test_open_image_of_a_file_equals_its_bytes(tmp_path):
    path = tmp_path / "ä photo.png"
    Image.fromarray(RGB).save(path)
    for source in (path, str(path)):
        loaded = open_image(source)
        assert loaded.path == path
        assert np.array_equal(loaded.pixels, open_image(path.read_bytes()).pixels)
    path.unlink()  # on Windows this fails if the file is still open


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("image_format", "pixels", "options"),
    [
        ("PNG", RGB, {}),
        ("WEBP", RGB, {"lossless": True}),
        ("TIFF", RGB, {}),
        ("TIFF", RGB, {"compression": "tiff_lzw"}),
        ("PNG", GRAY_16, {}),
        ("TIFF", GRAY_16, {}),
        ("TIFF", GRAY_16, {"compression": "tiff_deflate"}),
    ],
)
def test_open_image_applies_every_orientation(orientation, image_format, pixels, options):
    data = encoded(pixels, image_format, exif=with_orientation(orientation), **options)
    stored = Image.fromarray(pixels)
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    loaded = open_image(data)
    assert np.array_equal(loaded.pixels, expected)
    assert loaded.header.orientation == orientation
    assert loaded.header.stored_size_hw == (13, 17)
    assert read_header(data).size_hw == loaded.size_hw == expected.shape[:2]


def test_open_image_rotates_a_portrait_jpeg():
    data = encoded(RGB, "JPEG", exif=with_orientation(6))
    stored = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(open_image(data).pixels, np.rot90(stored, -1))


def test_apply_orientation_equals_pillow_for_every_number_of_channels():
    image = Image.fromarray(RGB)
    for orientation in range(1, 9):
        image.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(apply_orientation(RGB, orientation), expected)
        assert np.array_equal(apply_orientation(RGB[..., 0], orientation), expected[..., 0])


def test_read_header_finds_exif_after_the_pixels_of_a_png_without_decoding(monkeypatch):
    data = encoded(RGB, "PNG", exif=with_orientation(8))
    start = data.index(b"eXIf") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    chunk, rest = data[start : start + length], data[:start] + data[start + length :]
    reordered = rest[:-12] + chunk + rest[-12:]
    assert reordered.index(b"eXIf") > reordered.index(b"IDAT")
    loaded = open_image(reordered)
    assert np.array_equal(loaded.pixels, np.rot90(RGB))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    assert read_header(reordered).orientation == 8


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_open_image_ignores_an_invalid_orientation(orientation):
    loaded = open_image(encoded(RGB, "PNG", exif=with_orientation(orientation)))
    assert loaded.header.orientation == 1
    assert np.array_equal(loaded.pixels, RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_open_image_converts_gray_bilevel_and_palette_images_to_rgb(mode):
    image = Image.fromarray(RGB).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    for image_format in ("PNG", "TIFF", "BMP"):
        loaded = open_image(encoded(image, image_format))
        assert np.array_equal(loaded.pixels, expected)
    assert read_header(encoded(image, "TIFF")).bits == (1 if mode == "1" else 8)


def test_open_image_reads_cmyk_with_and_without_adobe_inversion():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for image_format in ("JPEG", "TIFF"):  # Pillow writes Adobe's marker and inverts in JPEG only
        data = encoded(red, image_format)
        assert np.abs(open_image(data).pixels[4, 4].astype(int) - (255, 0, 0)).max() <= 3, image_format
        assert read_header(data).mode == "CMYK"


@pytest.mark.parametrize(
    ("mode", "image_format"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")]
)
def test_open_image_blends_transparency_with_white(mode, image_format):
    image = Image.fromarray(RGB).convert(mode)
    alpha = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 255
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    loaded = open_image(encoded(image, image_format, **options))
    color, alpha_share = np.asarray(image.convert("RGBA"))[..., :3].astype(float), alpha[..., None] / 255
    assert np.abs(loaded.pixels - (color * alpha_share + 255 * (1 - alpha_share))).max() <= 1
    assert loaded.pixels[0, 0].tolist() == [255, 255, 255]


def test_open_image_turns_a_transparent_color_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    loaded = open_image(encoded(palette, "PNG", transparency=0))
    assert loaded.pixels.tolist() == [[[255, 255, 255], [200, 0, 0]]]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    assert open_image(encoded(rgb, "PNG", transparency=(1, 2, 3))).pixels[0].tolist() == [
        [255] * 3,
        [9] * 3,
    ]
    gray = Image.fromarray(np.array([[500, 40000]], np.uint16))
    assert open_image(encoded(gray, "PNG", transparency=500)).pixels.tolist() == [[65535, 40000]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_open_image_keeps_16_bit_tiff_in_both_byte_orders(order, options):
    image = Image.fromarray(GRAY_16)
    if order == ">":
        image = Image.frombytes("I;16B", (17, 13), GRAY_16.astype(">u2").tobytes())
    loaded = open_image(encoded(image, "TIFF", **options))
    assert loaded.is_16bit and loaded.header.bits == 16
    assert loaded.pixels.dtype == np.uint16 and loaded.pixels.dtype.isnative
    assert np.array_equal(loaded.pixels, GRAY_16)


def test_open_image_keeps_16_bit_png():
    loaded = open_image(encoded(GRAY_16, "PNG"))
    assert np.array_equal(loaded.pixels, GRAY_16)
    assert loaded.header.bits == 16


def test_open_image_accepts_32_bit_values_up_to_65535_only():
    values = GRAY_16.astype(np.int32)
    assert np.array_equal(open_image(encoded(values, "TIFF")).pixels, GRAY_16)
    with raises("image-undecodable.pixel-type", "0 to 65536", "16-bit"):
        open_image(encoded(np.array([[0, 65536]], np.int32), "TIFF"))
    with raises("image-undecodable.pixel-type", "-1"):
        open_image(encoded(np.array([[-1, 5]], np.int32), "TIFF"))


def test_open_image_rejects_floating_point_pixels():
    with raises("image-undecodable.pixel-type", "floating-point"):
        open_image(encoded(np.ones((3, 4), np.float32), "TIFF"))


def test_open_image_reads_the_first_of_several_frames():
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    for image_format in ("WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = encoded(first, image_format, save_all=True, append_images=[second, first], **options)
        loaded = open_image(data)
        assert loaded.header.frames == 3, image_format
        assert np.array_equal(loaded.pixels, RGB), image_format
    phone = encoded(first, "MPO", save_all=True, append_images=[second])
    header = open_image(phone).header
    assert (header.format, header.frames) == ("JPEG", 2)


@pytest.mark.parametrize("image_format", FORMATS)
def test_decompression_bomb_is_rejected_from_its_header(image_format, monkeypatch):
    # The size is patched into the header of a tiny file, as an attacker would do.
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
    for read in (open_image, read_header):
        with raises("image-too-large.max-pixels", "10000 x 10000", "64,000,000"):
            read(bytes(data))


def test_animated_webp_bomb_is_rejected_before_its_canvas_is_allocated(monkeypatch):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (9_999).to_bytes(3, "little") * 2
    from PIL import WebPImagePlugin

    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "_open", lambda *_: pytest.fail("canvas allocated"))
    with raises("image-too-large.max-pixels", "10000 x 10000"):
        open_image(bytes(data))


def test_limits_are_inclusive_and_named_in_errors(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    assert open_image(path, Limits(max_pixels=221)).size_hw == (13, 17)
    with raises("image-too-large.max-pixels", "max_pixels") as caught:
        open_image(path, Limits(max_pixels=220))
    assert isinstance(caught.value, ImageTooLarge) and caught.value.path == path
    size = path.stat().st_size
    assert open_image(path, Limits(max_bytes=size)).size_hw == (13, 17)
    for source in (path, path.read_bytes()):
        with raises("image-too-large.max-bytes", "max_bytes"):
            open_image(source, Limits(max_bytes=size - 1))


def test_pillows_own_pixel_limit_is_not_used(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Image.open would raise DecompressionBombError
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(encoded(RGB, "PNG")))
    for image_format in ("JPEG", "PNG", "BMP"):
        assert open_image(encoded(RGB, image_format)).size_hw == (13, 17)
    for image_format in ("WEBP", "TIFF"):  # from Pillow 12 on, their decoders apply it themselves
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
def test_truncated_file_is_rejected_also_if_pillow_is_set_to_load_it(
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
def test_damaged_pixels_are_rejected_also_if_pillow_is_set_to_load_them(lenient, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = bytearray(encoded(RNG.integers(0, 256, (60, 70, 3), dtype=np.uint8), "PNG"))
    start = data.index(b"IDAT") + 4
    data[start + 40 : start + 80] = bytes(40)
    with raises("image-undecodable.damaged"):
        open_image(bytes(data))


def test_files_that_are_not_images_have_one_code_each(tmp_path):
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
        assert isinstance(caught.value, BadImage) and caught.value.path == tmp_path / name
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe_is_rejected_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with raises("bad-image.not-a-file"):
        open_image(tmp_path / "pipe.jpg")


@pytest.mark.parametrize(
    ("start", "fact"),
    [
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"%PDF-1.7 etc.", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
    ],
)
def test_unsupported_formats_are_recognized(start, fact):
    with raises("image-undecodable.unsupported-format", fact):
        open_image(start)


def test_gif_with_the_suffix_of_a_png_is_rejected(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GRAY).save(path, "GIF")
    with raises("image-undecodable.unsupported-format", "GIF"):
        open_image(path)


def test_damaged_metadata_give_no_warning_and_no_error():
    data = bytearray(encoded(RGB, "JPEG", exif=with_orientation(6), icc_profile=b"this is no profile"))
    at = data.index(b"Exif\0\0") + 6
    data[at + 8 : at + 10] = b"\xff\xff"  # more entries than bytes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(bytes(data)).pixels.shape[2] == 3


def test_color_profiles_are_ignored():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(open_image(encoded(RGB, "PNG", icc_profile=profile)).pixels, RGB)


def test_warnings_of_other_threads_are_not_suppressed():
    filters_before = list(warnings.filters)
    damaged = bytearray(encoded(RGB, "TIFF", exif=with_orientation(6)))
    caught = []

    def warn():
        try:
            for _ in range(200):
                warnings.warn("mine", UserWarning, stacklevel=1)
        except UserWarning as warning:
            caught.append(str(warning))

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
    assert caught == ["mine"] * 4
    assert list(warnings.filters) == filters_before


def test_open_image_in_many_threads_gives_the_same_pixels(tmp_path):
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


def test_loaded_image_checks_its_pixels_and_is_read_only():
    pixels = RGB.copy()
    loaded = LoadedImage(pixels)
    with pytest.raises(ValueError, match="read-only"):
        loaded.pixels[0, 0] = 0
    pixels[0, 0] = 0  # the caller's array stays writable
    for wrong in (GRAY, RGB.astype(float), RGB[..., :2], np.zeros((0, 4, 3), np.uint8), GRAY_16[None]):
        with raises("bad-input.pixels", "(h, w, 3) uint8", wrong.dtype, wrong.shape):
            LoadedImage(wrong)


def test_to_pil_scales_16_bits_to_the_white_level():
    loaded = LoadedImage(np.array([[0, 2048, 4095, 65535]], np.uint16))
    assert np.asarray(loaded.to_pil(4095))[0, :, 0].tolist() == [0, 128, 255, 255]
    assert np.asarray(loaded.to_pil())[0, :, 0].tolist() == [0, 8, 16, 255]
    assert np.array_equal(np.asarray(LoadedImage(RGB).to_pil()), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rgb_image_and_pixels_are_the_same_in_either_order(orientation):
    data = encoded(RGB, "JPEG", exif=with_orientation(orientation), quality=100)
    first, second = open_image(data), open_image(data)
    image = np.asarray(first.rgb_image())
    np.testing.assert_array_equal(image, second.pixels)
    np.testing.assert_array_equal(first.pixels, np.asarray(second.rgb_image()))
    assert first.size_hw == image.shape[:2] == second.size_hw


def test_a_decoded_image_survives_pickling_as_loaders_do():
    data = encoded(RGB, "PNG")
    copy = pickle.loads(pickle.dumps(open_image(data)))
    np.testing.assert_array_equal(copy.pixels, RGB)
    assert copy.header.format == "PNG"


def test_drawing_on_the_pil_copy_leaves_the_loaded_image():
    loaded = open_image(encoded(RGB, "PNG"))
    loaded.to_pil().paste((0, 0, 0), (0, 0, 17, 13))
    np.testing.assert_array_equal(loaded.pixels, RGB)


def test_loaded_image_takes_pil_images_of_mode_rgb_only():
    np.testing.assert_array_equal(LoadedImage(Image.fromarray(RGB)).pixels, RGB)
    with raises("bad-input.pixels"):
        LoadedImage(Image.fromarray(GRAY))
