"""Property tests: for arbitrary bytes, open_image returns a complete image or raises a BadImage."""

import io

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from blemish.errors import BadImage
from blemish.imaging import Limits, open_image, read_header

LIMITS = Limits(max_pixels=100_000, max_bytes=100_000)


def _files():
    rng = np.random.default_rng(3)
    rgb = Image.fromarray(rng.integers(0, 256, (13, 17, 3), dtype=np.uint8))
    gray_16 = Image.fromarray(rng.integers(0, 65536, (13, 17), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    for image, image_format, options in (
        (rgb, "JPEG", {"exif": exif}),
        (rgb, "JPEG", {"progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "PNG", {"exif": exif}),
        (rgb.convert("P"), "PNG", {"transparency": 3}),
        (gray_16, "PNG", {}),
        (rgb, "PNG", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb, "WEBP", {"exif": exif}),
        (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        (rgb, "TIFF", {"exif": exif}),
        (gray_16, "TIFF", {}),
        (rgb, "BMP", {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, image_format, **options)
        yield buffer.getvalue()


FILES = list(_files())


@st.composite
def mutated(draw):
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(min(len(data) - 1, draw(st.sampled_from([60, 200, 10**6]))), 0)))
        kind = draw(st.sampled_from(["set", "set", "flip", "cut", "drop", "insert", "word"]))
        if not data:
            break
        if kind == "set":
            data[at] = draw(st.integers(0, 255))
        elif kind == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + draw(st.integers(1, 8))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            data[at : at + 4] = draw(
                st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\1\0\0"])
            )
    return bytes(data)


def _check_result(data):
    try:
        header = read_header(data, LIMITS)
    except BadImage:
        header = None
    try:
        loaded = open_image(data, LIMITS)
    except BadImage as error:
        assert len(str(error)) < 400 and "\n" not in str(error)
        return
    assert loaded.header == header
    assert loaded.size_hw == loaded.header.size_hw
    assert loaded.pixels.ndim == (2 if loaded.is_16bit else 3)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(mutated())
def test_open_image_of_mutated_files_raises_only_bad_image(data):
    _check_result(data)


@settings(max_examples=150, deadline=None)
@given(mutated())
def test_open_image_of_mutated_files_raises_only_bad_image_if_pillow_is_lenient(data):
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        _check_result(data)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0", b"MM\0*", b"II+\0", b"BM"]
    ),
    st.binary(max_size=200),
)
def test_open_image_of_noise_after_a_valid_start_raises_only_bad_image(start, noise):
    _check_result(start + noise)
