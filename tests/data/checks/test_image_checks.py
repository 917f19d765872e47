"""Checks of images: a planted fault is found by its file, and nothing else is."""

import zlib

import numpy as np
import pytest
from PIL import Image

from blemish.data.audit import check
from blemish.imaging import Limits


def corrupt(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def trailing(path):
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("empty-file", lambda p: p.write_bytes(b"")),
        ("broken-image", lambda p: p.write_bytes(b"<html>not found</html>")),
        ("truncated-image", lambda p: p.write_bytes(p.read_bytes()[:-400])),
        ("damaged-image", corrupt),
        ("trailing-bytes", trailing),
    ],
)
@pytest.mark.parametrize("base", ["csv", "yolo", "coco"])
def test_images_damaged_file(plant, base, code, spoil):
    planted = plant(base)
    path = planted.images()[5]
    spoil(path)
    found = check(planted.root)
    assert [(f.code, f.path) for f in found] == [(code, path)]
    assert found.findings[0].remedy
    assert set(check(planted.root, duplicates=False).counts) == {code}


def test_images_damaged_needs_decoding(plant):
    planted = plant("csv")
    path = planted.images()[5]
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    data[at + 20 : at + 60] = bytes(40)  # wrong compressed data with a right checksum
    data[at + 4 + length : at + 8 + length] = zlib.crc32(data[at : at + 4 + length]).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    assert set(check(planted.root, duplicates=False).counts) == set()
    assert [(f.code, f.path) for f in check(planted.root)] == [("damaged-image", path)]


def test_images_oversized(plant):
    planted = plant("csv")
    planted.replace(lambda i: i.resize((65, 64)))
    found = check(planted.root, limits=Limits(max_pixels=64 * 64))
    assert set(found.counts) == {"oversized-image"}


def exif(orientation):
    out = Image.Exif()
    out[0x0112] = orientation
    return out


@pytest.mark.parametrize(
    ("code", "image", "save"),
    [
        ("wrong-extension", lambda i: i, {"format": "JPEG", "quality": 95}),
        ("palette", lambda i: i.quantize(200), {}),
        ("exif-orientation", lambda i: i.rotate(90), {"exif": exif(6)}),
        ("sixteen-bit", lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 257), {}),
        ("tiny-image", lambda i: i.resize((9, 40)), {}),
    ],
)
def test_images_unusual_properties(plant, code, image, save):
    planted = plant("csv")
    path = planted.replace(image, **save)
    assert [(f.code, f.path) for f in check(planted.root)] == [(code, path)]


@pytest.mark.parametrize(
    ("code", "name", "image", "save"),
    [
        ("cmyk", "x.jpg", lambda i: i.convert("CMYK"), {"quality": 95}),
        (
            "several-frames",
            "x.tif",
            lambda i: i,
            {"save_all": True, "append_images": [Image.new("RGB", (64, 64))]},
        ),
    ],
)
def test_images_cmyk_and_multiple_frames(plant, code, name, image, save):
    planted = plant("csv")
    path = planted.replace(image, name, **save)
    path.unlink()
    planted.edit("labels.csv", lambda t: t.replace(path.name, name))
    assert [(f.code, f.path.name) for f in check(planted.root)] == [(code, name)]


def test_images_missing_is_found_by_line(plant):
    planted = plant("csv")
    path = planted.images()[3]
    path.unlink()
    line = next(
        i for i, t in enumerate((planted.root / "labels.csv").read_text().splitlines(), 1) if path.name in t
    )
    found = check(planted.root)
    assert [(f.code, f.origin) for f in found] == [("missing-image", f"{planted.root / 'labels.csv'}:{line}")]
    assert path.name in found.findings[0].message


@pytest.mark.parametrize("base", ["coco", "voc"])
def test_images_missing_in_other_formats(plant, base):
    planted = plant(base)
    planted.images()[3].unlink()
    assert set(check(planted.root).counts) == {"missing-image"}


def test_images_missing_in_voc_list(plant):
    planted = plant("voc-splits")
    planted.edit("ImageSets/Main/train.txt", lambda t: t + "ghost\n")
    found = check(planted.root)
    assert set(found.counts) == {"missing-image"}
    assert "ghost" in found.findings[0].message


@pytest.mark.parametrize("base", ["csv", "boxes", "coco", "voc", "folders"])
def test_images_unlabeled(plant, base):
    planted = plant(base)
    folder = planted.root if base == "folders" else planted.images()[0].parent
    extra = folder / "extra.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (64, 64, 3), np.uint8)).save(extra)
    found = check(planted.root)
    assert set(found.counts) == {"image-without-label"}
    assert found.findings[0].path in (extra, folder)


def test_annotations_without_image(plant):
    planted = plant("yolo")
    orphan = planted.label_of(planted.images()[0]).with_name("orphan.txt")
    orphan.write_text("0 .5 .5 .1 .1\n")
    assert [(f.code, f.path) for f in check(planted.root)] == [("label-without-image", orphan)]

    planted = plant("coco")
    planted.coco(lambda c: c["annotations"].append(c["annotations"][0] | {"id": 999, "image_id": 12345}))
    found = check(planted.root)
    assert set(found.counts) == {"label-without-image"}
    assert "annotation 999" in found.findings[0].origin


def test_images_unused_bits(plant):
    planted = plant("csv")
    narrow = planted.replace(lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 16))
    found = check(planted.root)
    assert [(f.code, f.path) for f in found] == [("unused-bits", narrow), ("sixteen-bit", narrow)]
    assert "white is 4095" in found.findings[0].message


def test_images_passed_over_are_counted_and_named(plant):
    planted = plant("csv")
    for name in ("b.HEIC", "a.heic", "c.jxl", "sub/d.dng", "e.txt"):
        (planted.root / name).parent.mkdir(exist_ok=True)
        (planted.root / name).write_bytes(b"unread")
    found = check(planted.root).of("passed-over-image")
    messages = sorted(f.message for f in found)
    assert messages == [
        "1 DNG file is not read: d.dng",
        "1 JPEG XL file is not read: c.jxl",
        "2 HEIC files are not read: a.heic, b.HEIC",
    ]


def test_images_are_checked_in_a_folder_without_labels(tmp_path):
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "c.heic").write_bytes(b"unread")
    found = check(tmp_path)
    assert {"unreadable-set", "unused-bits", "empty-file", "passed-over-image"} <= set(found.counts)
