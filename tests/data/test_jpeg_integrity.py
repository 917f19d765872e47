"""find_jpeg_damage: finds damage by the count of codes, and none in intact files."""

import io

import numpy as np
import pytest
from PIL import Image

from blemish.data.audit import check
from blemish.data.jpeg_integrity import find_jpeg_damage
from blemish.imaging import open_image


def jpeg(size_wh=(203, 150), mode="RGB", seed=0, **save):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (15, 20, 3), np.uint8)).resize(
        size_wh, Image.Resampling.BICUBIC
    )
    noise = rng.integers(0, 30, (size_wh[1], size_wh[0], 3))
    image = Image.fromarray((np.asarray(coarse) * 0.8 + noise).astype(np.uint8))
    out = io.BytesIO()
    image.convert(mode).save(out, "JPEG", **save)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size_wh", [(203, 150), (16, 16), (1, 1), (9, 70)])
@pytest.mark.parametrize(
    "save",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"restart_marker_blocks": 5},
        {"restart_marker_rows": 1},
        {"optimize": True},
        {"quality": 98},
        {"quality": 3},
    ],
    ids=str,
)
def test_find_jpeg_damage_intact_files(size_wh, mode, save):
    assert find_jpeg_damage(jpeg(size_wh, mode, **save)) == ""


def spoil(data, kind, at):
    out = bytearray(data)
    if kind == "lost":
        del out[at : at + 500]
    elif kind == "repeated":
        out[at:at] = out[at : at + 500]
    elif kind == "zeros":
        out[at : at + 4000] = bytes(4000)
    elif kind == "interval lost":
        first = data.index(b"\xff\xd2", 600)
        del out[first : data.index(b"\xff\xd3", first)]
    return bytes(out)


@pytest.mark.parametrize("kind", ["lost", "repeated", "zeros"])
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_find_jpeg_damage_lost_repeated_and_overwritten_bytes(tmp_path, kind, fraction):
    data = jpeg((400, 300), quality=90)
    bad = spoil(data, kind, int(len(data) * fraction))
    assert find_jpeg_damage(bad)
    (tmp_path / "a.jpg").write_bytes(bad)
    open_image(tmp_path / "a.jpg")  # a decoder reports no error


def test_find_jpeg_damage_lost_restart_interval():
    data = jpeg((400, 300), restart_marker_rows=1)
    assert "18 restart intervals instead of 19" in find_jpeg_damage(spoil(data, "interval lost", 0))


@pytest.mark.parametrize("data", [jpeg(progressive=True), b"", b"\xff\xd8", jpeg()[:300], b"\x89PNG" * 9])
def test_find_jpeg_damage_unsupported_files(data):
    assert find_jpeg_damage(data) is None


def test_find_jpeg_damage_random_bytes():
    data = jpeg((64, 48))
    rng = np.random.default_rng(1)
    for _ in range(300):
        bad = bytearray(data)
        for at in rng.integers(2, len(bad), 4):
            bad[at] = rng.integers(256)
        find_jpeg_damage(bytes(bad))


def test_check_thorough_names_the_damaged_jpeg(tmp_path):
    for label in ("dent", "fine"):
        (tmp_path / label).mkdir()
        for i in range(10):
            (tmp_path / label / f"{i}.jpg").write_bytes(jpeg(seed=i + 100 * (label == "dent")))
    path = tmp_path / "dent" / "3.jpg"
    path.write_bytes(spoil(path.read_bytes(), "lost", 4000))
    assert len(check(tmp_path)) == 0
    found = check(tmp_path, duplicates=False, thorough=True)
    assert [(f.code, f.check, f.path) for f in found] == [("damaged-image", "images.damaged-jpeg", path)]
