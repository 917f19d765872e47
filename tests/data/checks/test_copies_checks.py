"""Checks of copies and of leaks between splits."""

import shutil

import pytest
from PIL import Image

from blemish.data import open_dataset
from blemish.data.audit import check


def test_copies_exact_and_contradicting_labels(plant):
    planted = plant("folders")
    path = planted.images()[0]
    shutil.copy(path, path.with_name("again.png"))
    found = check(planted.root)
    assert set(found.counts) == {"exact-duplicate"}

    Image.open(path).convert("RGB").save(path.with_name("again.png"), format="PNG")
    other = next(p for p in planted.images() if p.parent != path.parent)
    path.with_name("again.png").rename(other.with_name("again.png"))
    found = check(planted.root)
    assert set(found.counts) == {"exact-duplicate", "contradicting-labels"}


def test_copies_across_splits(plant):
    planted = plant("yolo")
    train = sorted((planted.root / "images/train").iterdir())[0]
    copy = planted.root / "images/val/copy.png"
    Image.open(train).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC).save(copy)
    shutil.copy(planted.label_of(train), planted.label_of(copy))
    found = check(planted.root)
    assert set(found.counts) == {"split-leak"}
    assert found.errors[0].path == train  # the training image is dropped, the validation image stays


def test_copies_near_without_splits(plant):
    planted = plant("folders")
    path = planted.images()[0]
    Image.open(path).convert("RGB").save(path.with_name("again.jpg"), quality=70)
    found = check(planted.root)
    assert [(f.code, str(f.severity)) for f in found] == [("near-duplicate", "note")]


def test_groups_across_splits(plant):
    planted = plant("csv")
    path = planted.root / "labels.csv"
    lines = path.read_text().splitlines()
    head = lines[0].split(",")
    assert "group" in head
    splits = ["split", *("train" if i % 2 else "val" for i in range(len(lines) - 1))]
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, splits, strict=True)) + "\n")
    assert set(check(planted.root, duplicates=False).counts) - {"few-examples"} == {"group-leak"}


def test_splits_unknown(plant):
    planted = plant("csv")
    path = planted.root / "labels.csv"
    header, first, *rest = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"{header},split", f"{first},middle", *(f"{line},train" for line in rest)]) + "\n"
    )
    found = check(planted.root, duplicates=False)
    assert [(f.code, f.origin) for f in found] == [("unknown-split", f"{path}:2")]


def test_copies_across_splits_in_two_voc_lists(plant):
    planted = plant("voc-splits")
    lists = planted.root / "ImageSets" / "Main"
    stem = (lists / "val.txt").read_text().splitlines()[0]
    with (lists / "train.txt").open("a") as stream:
        stream.write(f"{stem}\n")
    found = check(planted.root, duplicates=False)
    assert [(f.code, repr(stem) in f.message) for f in found.errors] == [("split-leak", True)]


@pytest.mark.parametrize(
    ("header", "label"), [("file,label,split", "dent"), ("file,label,x1,y1,x2,y2,split", "dent,1,2,9,9")]
)
def test_copies_across_splits_in_a_table(draw, table, header, label):
    for name in ("a.png", "b.png"):
        draw(name)
    other = label.replace("dent", "rust")
    path = table(f"{header}\na.png,{label},test\na.png,{label},train\nb.png,{other},train\n")
    found = check(path, duplicates=False)
    assert [(f.code, f.origin) for f in found.errors] == [("split-leak", f"{path}:3")]
    assert [s.split for s in open_dataset(path, task=None)] == ["test", "train"]
