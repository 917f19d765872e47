"""read_header_info: the fast parser returns the header that Pillow returns."""

import io
import os
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from blemish.data.image_headers import read_all_header_info, read_header_info, read_headers
from blemish.errors import BadImage
from blemish.imaging import Limits, read_header


def exif(orientation, little=True):
    out = Image.Exif()
    out[0x0112] = orientation
    out[0x010F] = "maker"
    out.endian = "<" if little else ">"
    return out


def encoded(mode, size, kind, **save):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **save)
    return buffer.getvalue()


def big_profile():
    return {"icc_profile": bytes(100_000)}


def text_chunk(key):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, '<x tiff:Orientation="6"/>')
    return info


RED = Image.new("RGB", (31, 17), "red")
CASES: dict[str, Callable[[], bytes]] = {
    "gray jpeg": lambda: encoded("L", (31, 17), "JPEG"),
    "progressive": lambda: encoded("RGB", (31, 17), "JPEG", progressive=True),
    "cmyk": lambda: encoded("CMYK", (31, 17), "JPEG"),
    "profile": lambda: encoded("RGB", (31, 17), "JPEG", **big_profile()),
    "comment": lambda: encoded("RGB", (31, 17), "JPEG", comment=b"\xff\xc0 not a frame"),
    "xmp": lambda: encoded("RGB", (31, 17), "JPEG", xmp=b'<x:xmpmeta><rdf'
        b' tiff:Orientation="6"/></x:xmpmeta>'),
    "png 16": lambda: encoded("I;16", (31, 17), "PNG"),
    "png palette": lambda: encoded("P", (31, 17), "PNG"),
    "png bits": lambda: encoded("1", (31, 17), "PNG"),
    "png alpha": lambda: encoded("RGBA", (31, 17), "PNG"),
    "png la": lambda: encoded("LA", (31, 17), "PNG"),
    "png exif": lambda: encoded("RGB", (31, 17), "PNG", exif=exif(6)),
    "png xmp": lambda: encoded("RGB", (31, 17), "PNG", pnginfo=text_chunk("XML:com.adobe.xmp")),
    "apng": lambda: encoded("RGB", (31, 17), "PNG", save_all=True, append_images=[RED]),
    "webp": lambda: encoded("RGB", (31, 17), "WEBP"),
    "tiff": lambda: encoded("I;16", (31, 17), "TIFF"),
    "bmp": lambda: encoded("L", (31, 17), "BMP"),
    **{f"orientation {o}": partial(encoded, "RGB", (31, 17), "JPEG", exif=exif(o)) for o in range(10)},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_read_header_info_equals_read_header(tmp_path, case):
    path = tmp_path / "photo"
    path.write_bytes(CASES[case]())
    info = read_header_info(path)
    assert info.header == read_header(path)
    assert info.fault == ""


@settings(max_examples=300, deadline=None)
@given(
    case=st.sampled_from(
        ["gray jpeg", "progressive", "profile", "png 16", "png exif", "orientation 6", "xmp"]
    ),
    flips=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 900),
)
def test_read_header_info_of_damaged_file_never_differs(tmp_path_factory, case, flips, cut):
    data = bytearray(CASES[case]())
    for at, value in flips:
        data[at % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(data[: max(len(data) - cut, 0)]))
    info = read_header_info(path)
    try:
        expected = read_header(path)
    except BadImage as error:
        # The fast parser may not notice that decoding would fail, but it reports that the file is damaged.
        assert info.error_code == error.code or info.fault or info.header
        return
    if info.header is not None:
        assert info.header.stored_size_hw == expected.stored_size_hw
        assert info.header.format == expected.format


def test_read_headers_limits_and_missing_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("RGB", (100, 50), "JPEG"))
    headers = read_headers(
        [tmp_path / "a.jpg", tmp_path / "no.jpg", tmp_path], limits=Limits(max_pixels=4999)
    )
    assert [isinstance(x, BadImage) and x.code for x in headers] == [
        "image-too-large.max-pixels",
        "bad-image.no-such-file",
        "bad-image.folder",
    ]


def test_read_all_header_info_caches_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    data = encoded("RGB", (31, 17), "JPEG", exif=exif(8))
    paths = [folder / f"{i}.jpg" for i in range(600)]
    for path in paths:
        path.write_bytes(data)
    first = read_all_header_info(paths)
    assert first[0].header.size_hw == (31, 17)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setattr(os, "open", None)  # no file is opened again
    assert read_all_header_info(paths) == first
    monkeypatch.undo()
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    paths[7].write_bytes(encoded("RGB", (40, 30), "JPEG"))
    assert read_all_header_info(paths)[7].header.size_hw == (30, 40)


def test_read_all_header_info_ignores_damaged_and_unwritable_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(600):
        (folder / f"{i}.png").write_bytes(encoded("L", (5, 4), "PNG"))
    paths = sorted(folder.iterdir())
    first = read_all_header_info(paths)
    for file in (tmp_path / "cache").iterdir():
        file.write_text('{"version": 2, "content": {"x": [1, 2]}}')
    assert read_all_header_info(paths) == first
    monkeypatch.setenv("BLEMISH_CACHE", str(paths[0]))
    assert read_all_header_info(paths) == first
    assert np.array([k.header.bits for k in first]).tolist() == [8] * 600
