"""clean: fixes every fault that a finding's `fix` describes."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.clean import clean


def lines_of(change):
    """Change the lines of the first label file of YOLO that has any."""

    def plant_fault(planted):
        path = next(p for p in sorted(planted.root.rglob("labels/**/*.txt")) if p.read_text())
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return plant_fault


def first_annotation(**fields):
    return lambda planted: planted.coco(lambda c: c["annotations"][0].update(fields))


def another_annotation(**fields):
    return lambda planted: planted.coco(
        lambda c: c["annotations"].append(c["annotations"][0] | {"id": 999} | fields)
    )


def image(change):
    return lambda planted: change(planted.images()[5])


def turned(planted):
    """Store an image rotated, with labels that state its stored size."""
    path = planted.images()[3]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).convert("RGB").resize((64, 48)).save(path, exif=exif)

    def change(content):
        image = next(i for i in content["images"] if i["file_name"] == path.name)
        image["width"], image["height"] = 64, 48
        for number, entry in enumerate(a for a in content["annotations"] if a["image_id"] == image["id"]):
            x = 4 + 8 * number
            entry["bbox"], entry["segmentation"] = [x, 8, 20, 12], [[x, 8, x + 20, 8, x + 20, 20, x, 20]]

    planted.coco(change)


def stated(factor, change=lambda text: text):
    """Let an XML file state another size."""

    def plant_fault(planted):
        path = planted.page_with_box()
        size = round(64 * factor)
        text = re.sub(r"<(width|height)>64<", rf"<\1>{size}<", path.read_text())
        path.write_text(change(text))

    return plant_fault


def halved(text):
    return re.sub(r"<([xy]m..)>([\d.]+)<", lambda m: f"<{m[1]}>{max(1, float(m[2]) / 2)}<", text)


def of_another_shape(planted):
    """Let labels state a wide image and exceed the real one."""
    path = planted.page_with_box()
    text = path.read_text().replace("<width>64<", "<width>400<")
    path.write_text(text.replace("<xmax>", "<xmax>3"))


def another(planted):
    pixels = np.random.default_rng(9).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(planted.images()[0].with_name("extra.png"))


def line_again(planted):
    path = planted.root / "labels.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[5] + "\n")


def gap(planted):
    def change(text):
        header, first, *rest = text.splitlines()
        name, _, *others = first.split(",")
        return "\n".join([header, ",".join([name, "", *others]), *rest]) + "\n"

    planted.edit("labels.csv", change)


def half_a_box(text):
    """Return a table without one number in its first line with a box."""
    lines = text.splitlines()
    at = lines[0].split(",").index("x2")
    row = next(i for i, line in enumerate(lines[1:], 1) if line.split(",")[at])
    cells = lines[row].split(",")
    cells[at] = ""
    lines[row] = ",".join(cells)
    return "\n".join(lines) + "\n"


def leak(planted):
    train = planted.images()[0]
    copy = planted.root / "images/val/copy.png"
    shutil.copy(train, copy)
    shutil.copy(planted.label_of(train), planted.label_of(copy))


def listed_ghost(planted):
    planted.edit("ImageSets/Main/train.txt", lambda t: t + "ghost\n")


FIXED = [
    ("missing-image", "csv", image(Path.unlink)),
    ("missing-image", "voc-splits", listed_ghost),
    ("image-without-label", "csv", another),
    ("label-without-image", "coco", another_annotation(image_id=12345)),
    ("empty-file", "yolo", image(lambda p: p.write_bytes(b""))),
    ("broken-image", "coco", image(lambda p: p.write_bytes(b"<html>"))),
    ("truncated-image", "voc", image(lambda p: p.write_bytes(p.read_bytes()[:-400]))),
    ("tiny-image", "csv", image(lambda p: Image.open(p).resize((9, 9)).save(p))),
    ("wrong-extension", "folders", image(lambda p: Image.open(p).convert("RGB").save(p, "JPEG"))),
    ("labels-not-upright", "coco", turned),
    ("labels-in-another-scale", "voc", stated(0.5, halved)),
    ("labels-in-another-scale", "voc", of_another_shape),
    ("wrong-stated-size", "voc", stated(0.5)),
    ("box-outside", "coco", first_annotation(bbox=[1, 1, 100, 20], segmentation=[])),
    ("box-outside", "coco", first_annotation(bbox=[9, 9, 20, 9], segmentation=[[9, -30, 90, 9, 9, 40]])),
    ("bad-run-lengths", "coco", first_annotation(segmentation="none")),
    ("bad-box", "boxes", lambda planted: planted.edit("labels.csv", half_a_box)),
    ("box-inside-out", "coco", first_annotation(bbox=[30, 30, -20, 5], segmentation=[])),
    ("box-without-area", "coco", first_annotation(bbox=[30, 30, 0, 5], segmentation=[])),
    ("bad-box", "coco", first_annotation(bbox=[1, 2], segmentation=[])),
    ("bad-line", "yolo", lines_of(lambda x: [*x, "0 0.5"])),
    ("mixed-lines", "yolo", lines_of(lambda x: [*x, "0 0.5 0.5 0.1 0.1"])),
    ("bad-file", "voc", lambda planted: planted.page_with_box().write_text("<annotation>")),
    ("bad-run-lengths", "coco", first_annotation(segmentation={"size": [64, 64], "counts": [5]})),
    ("empty-polygon", "coco", first_annotation(segmentation=[[1, 2, 3, 4]])),
    ("tiny-mask", "coco", first_annotation(segmentation=[[9, 9, 11, 9, 11, 10, 9, 10]], bbox=[9, 9, 2, 1])),
    ("repeated-object", "yolo", lines_of(lambda x: [*x, x[0]])),
    ("repeated-line", "csv", line_again),
    ("unknown-label", "yolo", lines_of(lambda _: ["17 0.5 0.5 0.1 0.1"])),
    ("empty-label", "voc", stated(1, lambda t: re.sub(r"<name>\w+<", "<name><", t, count=1))),
    ("empty-cell", "csv", gap),
    ("exact-duplicate", "folders", image(lambda p: shutil.copy(p, p.with_name("again.png")))),
    ("split-leak", "yolo", leak),
    ("other-filename", "voc", stated(1, lambda t: t.replace("<filename>", "<filename>other"))),
]


@pytest.mark.parametrize(("code", "base", "plant_fault"), FIXED, ids=[f"{c}, {b}" for c, b, _ in FIXED])
def test_clean_fixes_fault(plant, tmp_path, code, base, plant_fault):
    planted = plant(base)
    plant_fault(planted)
    copies = code in ("exact-duplicate", "split-leak")
    result = clean(planted.root, tmp_path / "clean", duplicates=copies, link=True)
    assert code in result.found.counts
    assert code not in result.left.counts
    left = set(check(tmp_path / "clean", duplicates=copies).counts)
    assert left <= ({"exif-orientation"} if code == "labels-not-upright" else set())


def test_clean_leaves_original_unchanged(plant, tmp_path):
    planted = plant("yolo")
    images = planted.images()
    with_objects = [p for p in images if planted.label_of(p).read_text()]
    planted.truncate(images[0])
    Image.open(with_objects[8]).convert("RGB").save(with_objects[8], format="JPEG", quality=95)
    lines = planted.label_of(with_objects[9]).read_text()
    planted.label_of(with_objects[9]).write_text(lines + lines.splitlines()[0] + "\n0 1 2\n")
    leaked = planted.root / "images/val/copy.png"
    original = sorted((planted.root / "images/train").iterdir())[-1]
    shutil.copy(original, leaked)
    shutil.copy(planted.label_of(original), planted.label_of(leaked))
    before = {p: p.read_bytes() for p in planted.root.rglob("*") if p.is_file()}

    result = clean(planted.root, tmp_path / "clean")
    assert {p: p.read_bytes() for p in planted.root.rglob("*") if p.is_file()} == before
    assert result.found.counts.keys() >= {
        "truncated-image",
        "wrong-extension",
        "repeated-object",
        "bad-line",
        "split-leak",
    }
    assert set(result.dropped) == {"truncated-image", "split-leak"}
    again = check(tmp_path / "clean")
    assert set(again.counts) <= {"few-examples"}
    assert again.images == 59


def two_files(root, names, category=("dent", "dent")):
    """COCO files of train and val that list those images, each with one object of that label."""
    (root / "annotations").mkdir()
    for (split, listed), label in zip(names.items(), category, strict=True):
        content = {
            "images": [{"id": i, "file_name": n, "width": 24, "height": 20} for i, n in enumerate(listed, 1)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": [2, 3, 8, 9]}
                for i in range(1, len(listed) + 1)
            ],
            "categories": [{"id": 1, "name": label}],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("duplicates", [True, False])
def test_clean_keeps_image_of_two_splits_in_one(draw, tmp_path, duplicates):
    for name in ("a.png", "b.png", "c.png"):
        draw(f"set/{name}")
    two_files(tmp_path / "set", {"train": ["a.png", "b.png"], "val": ["a.png", "c.png"]})
    result = clean(tmp_path / "set", tmp_path / "clean", duplicates=duplicates)
    assert [f.code for f in result.found.errors] == ["split-leak"]
    assert result.dropped == {"split-leak": ("a.png",)}
    assert open_dataset(tmp_path / "clean").splits == {"train": 1, "val": 2}


def test_clean_keeps_contradicting_labels(draw, tmp_path):
    draw("set/dent/a.png", seed=1)
    draw("set/scratch/a2.png", seed=1)
    draw("set/scratch/b.png")
    result = clean(tmp_path / "set", tmp_path / "clean")
    assert not result.dropped
    assert {"contradicting-labels"} == {f.code for f in result.left.errors}
    assert result.written.images == 3


def test_clean_keeps_leak_with_contradicting_labels(draw, tmp_path):
    draw("set/a.png")
    draw("set/b.png")
    names = {"train": ["a.png", "b.png"], "val": ["a.png"]}
    two_files(tmp_path / "set", names, ("dent", "scratch"))
    result = clean(tmp_path / "set", tmp_path / "clean")
    assert not result.dropped
    assert {f.code for f in result.left.errors} == {"contradicting-labels", "split-leak"}
