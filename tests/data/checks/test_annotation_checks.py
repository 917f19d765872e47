"""Checks of annotations: a planted fault is found by its line, and nothing else is."""

import re
import shutil

import pytest

from blemish.data.audit import check


def first_box(text, change):
    """Return a table with other numbers in the box columns of its first line with a box."""
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
def test_annotations_outside_inverted_and_zero_area_box(plant, code, change):
    planted = plant("boxes")
    path, line = planted.edit("labels.csv", lambda t: first_box(t, change))
    assert [(f.code, f.origin) for f in check(planted.root)] == [(code, f"{path}:{line}")]


def test_annotations_empty_polygon_and_tiny_mask(plant):
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
        assert set(check(planted.root).counts) == {code}
        shutil.rmtree(planted.root)


def test_annotations_empty_polygon_of_two_points(plant):
    planted = plant("coco")
    two = [[10, 10, 30, 10, 30, 30], [1, 2, 3, 4]]
    planted.coco(lambda c: c["annotations"][0].update(segmentation=two))
    assert set(check(planted.root).counts) == {"empty-polygon"}


def test_annotations_invalid_run_lengths(plant):
    planted = plant("coco")
    broken = {"size": [64, 64], "counts": [5, 5]}
    planted.coco(lambda c: c["annotations"][0].update(segmentation=broken))
    found = check(planted.root)
    assert set(found.counts) == {"bad-run-lengths"}


def test_annotations_repeated_object(plant):
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
def test_annotations_invalid_line(plant, code, line):
    planted = plant("yolo")
    path = sorted(planted.root.rglob("labels/**/*.txt"))[0]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, line]) + "\n")
    assert [(f.code, f.origin) for f in check(planted.root)] == [(code, f"{path}:{len(lines) + 1}")]


def test_annotations_mixed_lines(plant):
    planted = plant("yolo")
    path = next(p for p in sorted(planted.root.rglob("labels/**/*.txt")) if p.read_text())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "0 0.5 0.5 0.1 0.1"]) + "\n")
    assert [(f.code, f.origin) for f in check(planted.root)] == [("mixed-lines", f"{path}:{len(lines) + 1}")]


def test_labels_unknown_category(plant):
    planted = plant("coco")
    planted.coco(lambda c: c["annotations"].append(c["annotations"][0] | {"id": 999, "category_id": 77}))
    found = check(planted.root)
    assert [(f.code, f.origin.rsplit(": ")[-1]) for f in found] == [("unknown-label", "annotation 999")]


def test_annotations_invalid_box(plant):
    planted = plant("coco")
    planted.coco(
        lambda c: c["annotations"].append(
            c["annotations"][0] | {"id": 9, "bbox": [1, 2, 3], "segmentation": []}
        )
    )
    assert set(check(planted.root).counts) == {"bad-box"}


def test_labels_empty_and_annotations_invalid_file_of_voc(plant):
    planted = plant("voc")
    page = planted.page_with_box()
    text = page.read_text()
    page.write_text(re.sub(r"<name>\w+</name>", "<name/>", text, count=1))
    found = check(planted.root)
    assert set(found.counts) == {"empty-label"}
    assert found.findings[0].origin == f"{page}:{text[: text.index('<object')].count(chr(10)) + 1}"
    page.write_text(text[:-30])
    found = check(planted.root)
    assert set(found.counts) - {"image-without-label"} == {"bad-file"}


def test_annotations_other_filename(plant):
    planted = plant("voc")
    page = planted.page_with_box()
    page.write_text(re.sub(r"<filename>.*</filename>", "<filename>other.jpg</filename>", page.read_text()))
    assert [(f.code, f.origin) for f in check(planted.root)] == [("other-filename", str(page))]


@pytest.mark.parametrize("same", [True, False])
def test_annotations_repeated_line_and_contradicting_labels(plant, same):
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
