"""Every kind of fault, planted: found, named by file and line, and nothing else named."""

import json
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.audit import check
from blemish.data.cleaning import clean
from blemish.data.making import synthesize
from blemish.imaging import Limits

FRACTIONS = {"train": 0.5, "val": 0.5}
BASES = {
    "folders": ("panels", "classification", None),
    "csv": ("cells", "multilabel", None),
    "boxes": ("panels", "detection", None),
    "coco": ("panels", "segmentation", None),
    "voc": ("panels", "detection", None),
    "yolo": ("panels", "segmentation", FRACTIONS),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A clean set of each format."""
    root = tmp_path_factory.mktemp("bases")
    for name, (kind, task, fractions) in BASES.items():
        form = "csv" if name == "boxes" else name
        synthesize(kind, root / name, task=task, format=form, count=60, seed=4, size=64, fractions=fractions)
    return root


@dataclass
class Planted:
    """A copy of a clean set, to plant a fault in."""

    root: Path

    def photographs(self):
        return sorted(p for p in self.root.rglob("*.png"))

    def replace(self, image, name=None, position=3, **save):
        """Put another picture in the place of one photograph; its labels stay."""
        path = self.photographs()[position]
        image(Image.open(path).convert("RGB")).save(path if name is None else path.with_name(name), **save)
        return path

    def edit(self, pattern, change):
        """Change the first text file that matches; (its path, the number of the first line that differs)."""
        path = sorted(self.root.glob(pattern))[0]
        before = path.read_text("utf-8")
        after = change(before)
        assert after != before
        path.write_text(after, "utf-8")
        lines = zip(before.splitlines() + [""] * 99, after.splitlines(), strict=False)
        return path, next(i for i, (a, b) in enumerate(lines, 1) if a != b)

    def coco(self, change):
        path = self.root / "annotations.json"
        content = json.loads(path.read_text("utf-8"))
        change(content)
        path.write_text(json.dumps(content), "utf-8")
        return path


@pytest.fixture
def plant(bases, tmp_path):
    def copy(base):
        shutil.copytree(bases / base, tmp_path / base)
        return Planted(tmp_path / base)

    return copy


def codes(found):
    return set(found.counts)


@pytest.mark.parametrize("base", BASES)
def test_a_clean_set_has_no_findings(plant, base):
    found = check(plant(base).root)
    assert [f.sentence() for f in found] == []
    assert found.photographs == 60


def truncate(path):
    path.write_bytes(path.read_bytes()[:-400])


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
        ("broken-photograph", lambda p: p.write_bytes(b"<html>not found</html>")),
        ("truncated-photograph", truncate),
        ("damaged-photograph", corrupt),
        ("trailing-bytes", trailing),
    ],
)
@pytest.mark.parametrize("base", ["csv", "yolo", "coco"])
def test_a_spoilt_file(plant, base, code, spoil):
    planted = plant(base)
    path = planted.photographs()[5]
    spoil(path)
    found = check(planted.root)
    assert [(f.code, f.path) for f in found] == [(code, path)]
    assert found.findings[0].remedy
    assert codes(check(planted.root, duplicates=False)) == {code}


def test_damage_that_only_decoding_shows(plant):
    planted = plant("csv")
    path = planted.photographs()[5]
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    data[at + 20 : at + 60] = bytes(40)  # other pixels than were packed, under a checksum that is right
    data[at + 4 + length : at + 8 + length] = zlib.crc32(data[at : at + 4 + length]).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    assert codes(check(planted.root, duplicates=False)) == set()
    assert [(f.code, f.path) for f in check(planted.root)] == [("damaged-photograph", path)]


def test_an_oversized_photograph(plant):
    planted = plant("csv")
    planted.replace(lambda i: i.resize((65, 64)))
    found = check(planted.root, limits=Limits(max_pixels=64 * 64))
    assert codes(found) == {"oversized-photograph"}


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
        ("tiny-photograph", lambda i: i.resize((9, 40)), {}),
    ],
)
def test_an_unusual_photograph(plant, code, image, save):
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
def test_an_unusual_photograph_of_another_format(plant, code, name, image, save):
    planted = plant("csv")
    path = planted.replace(image, name, **save)
    path.unlink()
    planted.edit("labels.csv", lambda t: t.replace(path.name, name))
    assert [(f.code, f.path.name) for f in check(planted.root)] == [(code, name)]


def test_labels_drawn_before_a_photograph_was_turned_upright(plant):
    planted = plant("coco")
    path = planted.photographs()[3]
    stored = Image.open(path).convert("RGB").resize((64, 48))
    stored.save(path, exif=exif(6))

    def change(content):
        image = next(i for i in content["images"] if i["file_name"] == path.name)
        image["width"], image["height"] = 64, 48
        for a in content["annotations"]:
            if a["image_id"] == image["id"]:
                a["bbox"], a["segmentation"] = [4, 8, 20, 12], [[4, 8, 24, 8, 24, 20, 4, 20]]

    planted.coco(change)
    found = check(planted.root)
    assert codes(found) == {"labels-not-upright", "exif-orientation"} | ({"repeated-object"} & codes(found))
    assert found.of("labels-not-upright")[0].path == path

    from blemish.data import open_dataset

    dataset = open_dataset(planted.root)
    sample = next(s for s in dataset if s.path == path)
    assert sample.size_hw == (64, 48)
    assert sample.truth.boxes_xyxy[0].tolist() == [48 - 20, 4, 48 - 8, 24]
    assert any("turned" in n for n in dataset.notes)


def test_an_orientation_that_labels_say_nothing_about(plant):
    planted = plant("yolo")
    image = next(p for p in planted.photographs() if label_of(p).read_text())
    Image.open(image).save(image, exif=exif(3))
    found = check(planted.root)
    assert codes(found) == {"orientation-ambiguous", "exif-orientation"}
    assert found.of("orientation-ambiguous")[0].path == image


def label_of(path):
    return Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")


def test_a_missing_photograph_is_named_by_line(plant):
    planted = plant("csv")
    path = planted.photographs()[3]
    path.unlink()
    line = next(
        i for i, t in enumerate((planted.root / "labels.csv").read_text().splitlines(), 1) if path.name in t
    )
    found = check(planted.root)
    assert [(f.code, f.origin) for f in found] == [
        ("missing-photograph", f"{planted.root / 'labels.csv'}:{line}")
    ]
    assert path.name in found.findings[0].message


@pytest.mark.parametrize("base", ["coco", "voc"])
def test_a_missing_photograph_of_other_formats(plant, base):
    planted = plant(base)
    planted.photographs()[3].unlink()
    assert codes(check(planted.root)) == {"missing-photograph"}


@pytest.mark.parametrize("base", ["csv", "boxes", "coco", "voc", "folders"])
def test_a_photograph_without_label(plant, base):
    planted = plant(base)
    folder = planted.root if base == "folders" else planted.photographs()[0].parent
    extra = folder / "extra.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (64, 64, 3), np.uint8)).save(extra)
    found = check(planted.root)
    assert codes(found) == {"photograph-without-label"}
    assert found.findings[0].path in (extra, folder)


def test_a_label_without_photograph(plant):
    planted = plant("yolo")
    orphan = label_of(planted.photographs()[0]).with_name("orphan.txt")
    orphan.write_text("0 .5 .5 .1 .1\n")
    assert [(f.code, f.path) for f in check(planted.root)] == [("label-without-photograph", orphan)]

    planted = plant("coco")
    planted.coco(lambda c: c["annotations"].append(c["annotations"][0] | {"id": 999, "image_id": 12345}))
    found = check(planted.root)
    assert codes(found) == {"label-without-photograph"}
    assert "annotation 999" in found.findings[0].origin


def first_box(text, change):
    """A table whose first line with a box has other numbers in the last four columns before the group."""
    lines = text.splitlines()
    header = lines[0].split(",")
    at = [header.index(c) for c in ("x1", "y1", "x2", "y2")]
    row = next(i for i, line in enumerate(lines[1:], 1) if line.split(",")[at[0]])
    cells = lines[row].split(",")
    for position, value in zip(at, change([float(cells[i]) for i in at]), strict=True):
        cells[position] = str(value)
    lines[row] = ",".join(cells)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("box-outside", lambda b: [b[0], b[1], 80, b[3]]),
        ("box-outside", lambda b: [100, 100, 120, 120]),
        ("box-inside-out", lambda b: [b[2], b[1], b[0], b[3]]),
        ("box-without-area", lambda b: [b[0], b[1], b[0], b[3]]),
    ],
)
def test_a_box_that_cannot_be(plant, code, change):
    planted = plant("boxes")
    path, line = planted.edit("labels.csv", lambda t: first_box(t, change))
    assert [(f.code, f.origin) for f in check(planted.root)] == [(code, f"{path}:{line}")]


def scaled_page(text, size=True, boxes=True, factor=0.5):
    if size:
        text = re.sub(r"<(width|height)>64<", lambda m: f"<{m[1]}>{round(64 * factor)}<", text)
    if boxes:
        text = re.sub(
            r"<(xmin|ymin|xmax|ymax)>([\d.]+)<", lambda m: f"<{m[1]}>{max(1, float(m[2]) * factor)}<", text
        )
    return text


def page_with_box(root):
    """An XML file whose boxes lie beyond the middle, so that half the size cannot hold them."""
    for path in sorted(root.glob("Annotations/*.xml")):
        text = path.read_text()
        if "<object>" in text and max(map(float, re.findall(r"<[xy]max>([\d.]+)<", text))) > 40:
            return path
    raise AssertionError


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("labels-in-another-scale", {}),
        ("wrong-stated-size", {"boxes": False}),
    ],
)
def test_labels_for_a_picture_of_another_size(plant, code, options):
    planted = plant("voc")
    path = page_with_box(planted.root)
    path.write_text(scaled_page(path.read_text(), **options))
    assert [(f.code, f.origin) for f in check(planted.root)] == [(code, str(path))]


def test_masks_that_hold_nothing_or_next_to_nothing(plant):
    for code, points in (
        ("empty-polygon", [10, 10, 10.2, 10, 10.2, 10.2]),
        ("tiny-mask", [10, 10, 12, 10, 12, 11, 10, 11]),
    ):
        planted = plant("coco")

        def change(content, points=points):
            entry = content["annotations"][0]
            entry["segmentation"] = [points]
            entry["bbox"] = [points[0], points[1], 2, 2]

        planted.coco(change)
        assert codes(check(planted.root)) == {code}
        shutil.rmtree(planted.root)


def test_an_outline_of_two_points(plant):
    planted = plant("coco")
    two = [[10, 10, 30, 10, 30, 30], [1, 2, 3, 4]]
    planted.coco(lambda c: c["annotations"][0].update(segmentation=two))
    assert codes(check(planted.root)) == {"empty-polygon"}


def test_run_lengths_that_do_not_add_up(plant):
    planted = plant("coco")
    broken = {"size": [64, 64], "counts": [5, 5]}
    planted.coco(lambda c: c["annotations"][0].update(segmentation=broken))
    found = check(planted.root)
    assert codes(found) == {"bad-run-lengths"}


def test_an_object_drawn_twice(plant):
    planted = plant("yolo")
    path = next(p for p in sorted(planted.root.rglob("labels/**/*.txt")) if p.read_text())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")
    assert [(f.code, f.origin) for f in check(planted.root)] == [
        ("repeated-object", f"{path}:{len(lines) + 1}")
    ]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("bad-line", "0 0.5 0.5"),
        ("bad-line", "0 0.5 0.5 0.1 zero"),
        ("bad-line", "-1 0.5 0.5 0.1 0.1"),
        ("bad-line", "0 0.5 0.5 -0.1 0.1"),
        ("bad-line", "0 250 170 30 20"),
        ("bad-line", "0 nan 0.5 0.1 0.1"),
        ("unknown-label", "17 0.5 0.5 0.1 0.1"),
        ("box-outside", "0 0.9 0.4 1.09 0.4 1.09 0.6"),
    ],
)
def test_a_bad_line_of_yolo(plant, code, line):
    planted = plant("yolo")
    path = sorted(planted.root.rglob("labels/**/*.txt"))[0]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, line]) + "\n")
    assert [(f.code, f.origin) for f in check(planted.root)] == [(code, f"{path}:{len(lines) + 1}")]


def test_boxes_among_outlines(plant):
    planted = plant("yolo")
    path = next(p for p in sorted(planted.root.rglob("labels/**/*.txt")) if p.read_text())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "0 0.5 0.5 0.1 0.1"]) + "\n")
    assert [(f.code, f.origin) for f in check(planted.root)] == [("mixed-lines", f"{path}:{len(lines) + 1}")]
    clean(planted.root, planted.root.with_name("clean"))
    assert codes(check(planted.root.with_name("clean"))) == set()


def test_a_category_that_is_not_listed(plant):
    planted = plant("coco")
    planted.coco(lambda c: c["annotations"].append(c["annotations"][0] | {"id": 999, "category_id": 77}))
    found = check(planted.root)
    assert [(f.code, f.origin.rsplit(": ")[-1]) for f in found] == [("unknown-label", "annotation 999")]


def test_a_category_without_name_and_one_listed_twice(plant):
    planted = plant("coco")
    planted.coco(lambda c: c["categories"].append({"id": 50, "name": " "}))
    assert codes(check(planted.root)) == {"empty-label", "unused-label"}
    shutil.rmtree(planted.root)
    planted = plant("coco")
    planted.coco(lambda c: c["categories"].append({"id": 50, "name": "dent"}))
    assert codes(check(planted.root)) == {"repeated-label"}


def test_a_box_of_three_numbers(plant):
    planted = plant("coco")
    planted.coco(
        lambda c: c["annotations"].append(
            c["annotations"][0] | {"id": 9, "bbox": [1, 2, 3], "segmentation": []}
        )
    )
    assert codes(check(planted.root)) == {"bad-box"}


def test_an_object_without_name_and_a_file_that_is_no_xml(plant):
    planted = plant("voc")
    page = page_with_box(planted.root)
    text = page.read_text()
    page.write_text(re.sub(r"<name>\w+</name>", "<name/>", text, count=1))
    found = check(planted.root)
    assert codes(found) == {"empty-label"}
    assert found.findings[0].origin == f"{page}:{text[: text.index('<object')].count(chr(10)) + 1}"
    page.write_text(text[:-30])
    found = check(planted.root)
    assert codes(found) - {"photograph-without-label"} == {"bad-file"}


def test_an_xml_file_that_names_another_photograph(plant):
    planted = plant("voc")
    page = page_with_box(planted.root)
    page.write_text(re.sub(r"<filename>.*</filename>", "<filename>other.jpg</filename>", page.read_text()))
    assert [(f.code, f.origin) for f in check(planted.root)] == [("other-filename", str(page))]


def test_an_image_set_that_lists_what_is_not_there(bases, tmp_path):
    synthesize(
        "panels",
        tmp_path / "v",
        task="detection",
        format="voc",
        count=60,
        size=64,
        seed=4,
        fractions=FRACTIONS,
    )
    listing = tmp_path / "v/ImageSets/Main/train.txt"
    listing.write_text(listing.read_text() + "ghost\n")
    found = check(tmp_path / "v")
    assert codes(found) == {"missing-photograph"}
    assert "ghost" in found.findings[0].message


def relabelled(text, count, new):
    """The table with `new` in the place of the first label in so many lines."""
    lines = text.splitlines()
    column = lines[0].split(",").index("label")
    for i in range(1, len(lines)):
        cells = lines[i].split(",")
        if cells[column] and count:
            cells[column], count = new(cells[column]), count - 1
            lines[i] = ",".join(cells)
    return "\n".join(lines) + "\n"


def test_names_that_look_like_one(plant):
    planted = plant("folders")
    label = next(p for p in sorted(planted.root.iterdir()) if p.is_dir())
    other = label.with_name(label.name + "s")
    other.mkdir()
    for path in sorted(label.iterdir())[:10]:
        path.rename(other / path.name)
    found = check(planted.root)
    assert "similar-labels" in codes(found)
    assert codes(found) <= {"similar-labels", "few-examples"}


def test_a_label_that_nobody_has_and_one_that_few_have(plant):
    planted = plant("folders")
    (planted.root / "rust").mkdir()
    found = check(planted.root)
    assert codes(found) <= {"unused-label", "empty-label"}
    assert "rust" in found.findings[0].message

    extra = planted.root / "rust" / "r.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (64, 64, 3), np.uint8)).save(extra)
    found = check(planted.root)
    assert "few-examples" in codes(found)
    assert "stands in 1 photographs" in found.of("few-examples")[0].message


def test_imbalance(draw, tmp_path):
    for i in range(250):
        draw(f"good/{i}.png", seed=i)
    for i in range(11):
        draw(f"bad/{i}.png", seed=1000 + i)
    found = check(tmp_path, duplicates=False)
    assert codes(found) == {"imbalance"}


def test_too_few_in_a_split_to_measure(draw, tmp_path):
    for label in ("good", "bad"):
        for i in range(20):
            split = "val" if i < (8 if label == "good" else 2) else "train"
            draw(f"{split}/{label}/{label}{i}.png")
    found = check(tmp_path, duplicates=False)
    assert [(f.code, "of val" in f.message) for f in found] == [("few-examples", True)]


def test_copies_inside_a_split_and_across(plant):
    planted = plant("folders")
    path = planted.photographs()[0]
    shutil.copy(path, path.with_name("again.png"))
    found = check(planted.root)
    assert codes(found) == {"exact-duplicate"}

    Image.open(path).convert("RGB").save(path.with_name("again.png"), format="PNG")
    other = next(p for p in planted.photographs() if p.parent != path.parent)
    path.with_name("again.png").rename(other.with_name("again.png"))
    found = check(planted.root)
    assert codes(found) == {"exact-duplicate", "contradicting-labels"}


def test_a_leak_between_splits_is_an_error(plant):
    planted = plant("yolo")
    train = sorted((planted.root / "images/train").iterdir())[0]
    copy = planted.root / "images/val/copy.png"
    Image.open(train).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC).save(copy)
    shutil.copy(label_of(train), label_of(copy))
    found = check(planted.root)
    assert codes(found) == {"split-leak"}
    assert found.errors[0].path == train  # the training photograph can go, the measuring one stays


def test_a_near_copy_without_splits_is_a_note(plant):
    planted = plant("folders")
    path = planted.photographs()[0]
    Image.open(path).convert("RGB").save(path.with_name("again.jpg"), quality=70)
    found = check(planted.root)
    assert [(f.code, str(f.severity)) for f in found] == [("near-duplicate", "note")]


def test_a_group_on_both_sides(plant):
    planted = plant("csv")
    path = planted.root / "labels.csv"
    lines = path.read_text().splitlines()
    head = lines[0].split(",")
    assert "group" in head
    splits = ["split", *("train" if i % 2 else "val" for i in range(len(lines) - 1))]
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, splits, strict=True)) + "\n")
    assert codes(check(planted.root, duplicates=False)) - {"few-examples"} == {"group-leak"}


@pytest.mark.parametrize("same", [True, False])
def test_a_line_that_is_there_twice(plant, same):
    planted = plant("csv")
    path = planted.root / "labels.csv"
    lines = path.read_text().splitlines()
    again = lines[5]
    if not same:
        cells = again.split(",")
        cells[1] = str(1 - int(cells[1]))
        again = ",".join(cells)
    path.write_text("\n".join([*lines, again]) + "\n")
    code = "repeated-line" if same else "contradicting-labels"
    assert [(f.code, f.origin) for f in check(planted.root)] == [(code, f"{path}:{len(lines) + 1}")]


def test_a_set_that_cannot_be_read_at_all(tmp_path):
    found = check(tmp_path / "nowhere")
    assert codes(found) == {"unreadable-set"}
    (tmp_path / "labels.csv").write_text("a.png,b\n")
    assert codes(check(tmp_path / "labels.csv")) == {"unreadable-set"}


def test_a_cleaned_copy_is_clean_and_the_original_untouched(plant, tmp_path):
    planted = plant("yolo")
    photographs = planted.photographs()
    with_objects = [p for p in photographs if label_of(p).read_text()]
    truncate(photographs[0])
    Image.open(with_objects[8]).convert("RGB").save(with_objects[8], format="JPEG", quality=95)
    lines = label_of(with_objects[9]).read_text()
    label_of(with_objects[9]).write_text(lines + lines.splitlines()[0] + "\n0 1 2\n")
    leaked = planted.root / "images/val/copy.png"
    shutil.copy(
        planted.root / "images/train" / sorted((planted.root / "images/train").iterdir())[-1].name, leaked
    )
    before = {p: p.read_bytes() for p in planted.root.rglob("*") if p.is_file()}

    result = clean(planted.root, tmp_path / "clean")
    assert {p: p.read_bytes() for p in planted.root.rglob("*") if p.is_file()} == before
    assert result.found.counts.keys() >= {
        "truncated-photograph",
        "wrong-extension",
        "repeated-object",
        "bad-line",
        "split-leak",
    }
    assert set(result.dropped) == {"truncated-photograph", "split-leak"}
    again = check(tmp_path / "clean")
    assert codes(again) <= {"few-examples"}
    assert again.photographs == 59


def test_findings_are_remembered_until_a_file_changes(plant, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    planted = plant("yolo")
    first = check(planted.root)
    from blemish.data import audit

    with monkeypatch.context() as patch:
        patch.setattr(audit, "audit", None)  # nothing is looked at again
        assert check(planted.root).to_dict() == first.to_dict()
    truncate(planted.photographs()[0])
    assert codes(check(planted.root)) == {"truncated-photograph"}


def test_every_finding_is_documented():
    root = Path(__file__).parents[2]
    source = "".join(p.read_text("utf-8") for p in sorted((root / "src/blemish/data").rglob("*.py")))
    found = set(re.findall(r'(?:problem|Finding|error|note|finding)\(\s*"([a-z]+(?:-[a-z]+)+)"', source))
    found |= set(re.findall(r'"([a-z]+-[a-z-]+)" if .* else "[a-z]+-[a-z-]+"', source))
    assert len(found) > 30
    page = (root / "docs/data-formats.md").read_text("utf-8")
    assert [code for code in sorted(found) if f"`{code}`" not in page] == []
