"""blemish.data.formats.labelme_format: every shape, flags, search for images, and faults."""

import base64
import io
import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.data.outlines import outlines_of

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.geometry import mask_to_array
from blemish.structures import Task
from blemish.testing import raises

SIZE_WH = (48, 40)


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


TRIANGLE = [[4, 4], [20, 4], [4, 20]]


@pytest.fixture
def write_pair(draw, tmp_path):
    """A function that writes an image and its JSON file."""

    def one(name="a.png", shapes=(), **changes):
        image = draw(name, SIZE_WH)
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": list(shapes),
            "imagePath": image.name,
            "imageData": None,
            "imageHeight": SIZE_WH[1],
            "imageWidth": SIZE_WH[0],
        }
        file = image.with_suffix(".json")
        file.write_text(json.dumps(content | changes, indent=2), "utf-8")
        return file

    return one


def test_read_every_kind_of_shape(write_pair, tmp_path):
    window = np.zeros((6, 9), bool)
    window[1:5, 2:8] = True
    png = io.BytesIO()
    Image.fromarray(window).save(png, "PNG")
    write_pair(
        shapes=[
            shape("dent", TRIANGLE),
            shape("dent", [[30, 22], [10, 12]], "rectangle"),
            shape("rust", [[24, 20], [24, 30]], "circle"),
            shape("rust", [[5, 7], [13, 12]], "mask", mask=base64.b64encode(png.getvalue()).decode()),
            shape("scratch", [[1, 1], [9, 9]], "line"),
            shape("scratch", [[1, 1]], "point"),
        ]
    )
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.task) == ("labelme", Task.SEGMENTATION)
    assert dataset.labels.names == ("dent", "rust", "scratch")
    ground_truth = dataset[0].ground_truth
    assert ground_truth.label_names == ("dent", "dent", "rust", "rust")
    expected = [[4, 4, 20, 20], [10, 12, 30, 22], [14, 10, 34, 30]]
    np.testing.assert_allclose(ground_truth.boxes_xyxy[:3], expected, atol=1e-12)
    assert ground_truth.masks[2].area == pytest.approx(math.pi * 100, rel=0.02)
    expected_mask = np.zeros(SIZE_WH[::-1], bool)
    expected_mask[7:13, 5:14] = window
    assert (mask_to_array(ground_truth.masks[3]) == expected_mask).all()
    assert any("line have no area" in n for n in dataset.notes)
    assert open_dataset(tmp_path, task="detection")[0].ground_truth.masks is None


def test_rectangles_are_a_detection_set(write_pair, tmp_path):
    write_pair(shapes=[shape("dent", [[4, 6], [10, 12]], "rectangle")])
    four = [[4, 6], [10, 6], [10, 12], [4, 12]]
    write_pair("b.png", [shape("dent", four, "rectangle")])
    write_pair("c.png")
    dataset = open_dataset(tmp_path)
    assert dataset.task is Task.DETECTION
    assert [s.ground_truth.boxes_xyxy.tolist() for s in dataset] == [[[4, 6, 10, 12]]] * 2 + [[]]


def test_polygons_of_one_group_are_one_object(write_pair, tmp_path):
    second = [[30, 30], [40, 30], [40, 36]]
    write_pair(
        shapes=[
            shape("dent", TRIANGLE, group_id=1),
            shape("dent", second, group_id=1),
            shape("dent", second, group_id=2),
            shape("rust", second, group_id=1),
        ]
    )
    ground_truth = open_dataset(tmp_path)[0].ground_truth
    assert ground_truth.label_names == ("dent", "dent", "rust")
    assert ground_truth.boxes_xyxy[0].tolist() == [4, 4, 40, 36]
    assert len(outlines_of(ground_truth.masks[0])) == 2


def test_flags_are_a_multilabel_set(write_pair, tmp_path):
    write_pair(flags={"crack": True, "dirt": False})
    write_pair("b.png", flags={"crack": False, "dirt": False})
    dataset = open_dataset(tmp_path)
    assert dataset.task is Task.MULTILABEL
    assert [s.ground_truth.label_names for s in dataset] == [("crack",), ()]


@pytest.mark.parametrize(
    ("images", "image_path"),
    [
        ("images", "..\\images\\a.png"),
        ("images", "../images/a.png"),
        ("images", "C:\\somewhere\\else\\a.png"),
        ("labels", "renamed.png"),
    ],
)
def test_images_are_found_by_path_stem_or_name(write_pair, tmp_path, images, image_path):
    file = write_pair("labels/a.png", [shape("dent", TRIANGLE)], imagePath=image_path)
    if images != "labels":
        (tmp_path / images).mkdir()
        shutil.move(file.with_suffix(".png"), tmp_path / images)
    dataset = open_dataset(tmp_path)
    assert [s.id for s in dataset] == [f"{images}/a.png"]
    assert check(tmp_path).counts == {"few-examples": 1}


def test_folders_of_splits(write_pair, tmp_path):
    write_pair("train/a.png", [shape("dent", TRIANGLE)])
    write_pair("valid/a.png", [shape("dent", TRIANGLE)])
    dataset = open_dataset(tmp_path)
    assert dataset.splits == {"train": 1, "val": 1}
    assert [s.id for s in dataset] == ["train/a.png", "valid/a.png"]


def test_shapes_drawn_at_another_size_are_scaled(write_pair, tmp_path):
    write_pair(shapes=[shape("dent", TRIANGLE)], imageHeight=20, imageWidth=24)
    assert open_dataset(tmp_path)[0].ground_truth.boxes_xyxy.tolist() == [[8, 8, 40, 40]]


@pytest.mark.parametrize(
    ("shapes", "code"),
    [
        ([shape("dent", [[1, 2], [3, 4]])], "empty-polygon"),
        ([shape("dent", "none")], "bad-box"),
        ([shape("dent", [[1, float("nan")], [2, 3], [4, 9]])], "bad-box"),
        ([shape("dent", TRIANGLE, "trapeze")], "bad-box"),
        ([shape("", TRIANGLE)], "empty-label"),
        ([shape("dent", [[1, 1], [4, 4]], "mask", mask="no image")], "bad-run-lengths"),
        ([shape("dent", TRIANGLE), shape("dent", TRIANGLE)], "repeated-object"),
    ],
)
def test_invalid_shape_is_reported_with_its_number(write_pair, tmp_path, shapes, code):
    for i in range(10):  # enough examples that the label is not a finding
        write_pair(f"fine{i}.png", [shape("dent", TRIANGLE)])
    file = write_pair(shapes=shapes)
    found = check(tmp_path, duplicates=False)
    assert [(f.code, f.origin) for f in found] == [(code, f"{file}: shape {len(shapes) - 1}")]


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ('{"shapes": [,]}', "bad-file", "a.json:1"),
        ('{"shapes": 5}', "bad-file", "shapes: expected a list"),
        ('{"shapes": []}', "no-labels", ""),
    ],
)
def test_invalid_file_is_one_sentence(write_pair, tmp_path, text, code, fact):
    write_pair().write_text(text)
    with raises(f"bad-dataset.{code}", tmp_path, fact) as caught:
        open_dataset(tmp_path)
    assert "\n" not in caught.message


def test_missing_image_is_named(write_pair, tmp_path):
    write_pair("b.png", [shape("dent", TRIANGLE)])
    file = write_pair(shapes=[shape("dent", TRIANGLE)])
    file.with_suffix(".png").unlink()
    found = check(tmp_path, duplicates=False)
    assert [f.origin for f in found.of("missing-image")] == [str(file)]
    with raises("bad-dataset.missing-image", "a.png", file):
        open_dataset(tmp_path)


@pytest.mark.parametrize("image_path", ["{outside}", "../../outside/secret.txt", "../../outside/other.png"])
def test_image_path_outside_the_data_set_is_not_followed(write_pair, draw, tmp_path, image_path):
    outside = draw("outside/secret.png").with_suffix(".txt")
    outside.write_bytes(b"no image")
    draw("outside/other.png")
    write_pair("set/in/fine.png", [shape("dent", TRIANGLE)])
    file = write_pair("set/in/a.png", [shape("dent", TRIANGLE)], imagePath=image_path.format(outside=outside))
    file.with_suffix(".png").unlink()
    found = check(tmp_path / "set/in", duplicates=False)
    assert [f.origin for f in found.of("missing-image")] == [str(file)]
    with raises("bad-dataset.missing-image", file):
        open_dataset(tmp_path / "set/in")


def test_symbolic_link_to_an_image_is_an_image(write_pair, draw, tmp_path):
    file = write_pair("set/a.png", [shape("dent", TRIANGLE)])
    target = draw("far/away/b.png", SIZE_WH)
    file.with_suffix(".png").unlink()
    file.with_suffix(".png").symlink_to(target)
    assert open_dataset(tmp_path / "set")[0].path == tmp_path / "set/a.png"


def test_stale_image_path_does_not_take_the_image_of_another_file(write_pair, tmp_path):
    stale = write_pair("a.png", [shape("dent", TRIANGLE)], imagePath="b.png")
    write_pair("b.png", [shape("rust", TRIANGLE)])
    found = check(tmp_path, duplicates=False)
    assert [f.origin for f in found.of("other-filename")] == [str(stale)]
    assert not found.of("repeated-line")
    assert [(s.id, s.ground_truth.label_names) for s in open_dataset(tmp_path)] == [
        ("a.png", ("dent",)),
        ("b.png", ("rust",)),
    ]


@pytest.mark.parametrize(
    ("content", "fact"),
    [(b"", "JSON"), (b"[1, 2]", "object"), (b"[" * 100_000, "nested"),
     (b'{"shapes": [' + b"9" * 5000 + b"]}", "digits")],
)  # fmt: skip
def test_damaged_first_file_does_not_hide_the_others(write_pair, tmp_path, content, fact):
    write_pair("b.png", [shape("dent", TRIANGLE)])
    file = write_pair()
    file.write_bytes(content)
    found = check(tmp_path, duplicates=False)
    assert [f.origin.split(".json")[0] for f in found.of("bad-file")] == [str(tmp_path / "a")]
    assert fact in found.of("bad-file")[0].message


def test_read_utf_16(write_pair, tmp_path):
    file = write_pair(shapes=[shape("dent", TRIANGLE)])
    file.write_text(file.read_text("utf-8"), "utf-16")
    assert open_dataset(tmp_path).format == "labelme"


@pytest.mark.parametrize(
    ("shapes", "changes"),
    [
        ([shape("dent", TRIANGLE, group_id=[1])], {}),
        ([shape("dent", [[10**400, 1], [2, 3], [4, 9]])], {}),
        ([shape("dent", TRIANGLE)], {"imagePath": "a\0.png"}),
        ([shape("dent", TRIANGLE)], {"imagePath": "\ud800.png"}),
    ],
)
def test_unusual_values_lose_at_most_one_shape(write_pair, tmp_path, shapes, changes):
    write_pair("b.png", [shape("dent", TRIANGLE)])
    write_pair(shapes=shapes, **changes)
    found = check(tmp_path, duplicates=False)
    assert not found.of("unreadable-set")
    assert found.images == 2


def test_oriented_rectangle_is_an_outline(write_pair, tmp_path):
    write_pair("a.png", [shape("dent", [[10, 4], [30, 14], [25, 24], [5, 14]], "oriented_rectangle")])
    write_pair("b.png", [shape("dent", TRIANGLE)])
    found = open_dataset(tmp_path)
    assert found.task is Task.SEGMENTATION
    mask = mask_to_array(found.samples[0].ground_truth.masks[0])
    assert mask[14, 17] and not mask[5, 5]
    assert found.samples[0].ground_truth.boxes_xyxy.round().tolist() == [[5, 4, 30, 24]]


def test_image_inside_the_file_is_read(write_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    write_pair("a.png", [shape("dent", TRIANGLE)])
    folder.mkdir()
    image = tmp_path / "a.png"
    content = json.loads(image.with_suffix(".json").read_text())
    content["imageData"] = base64.b64encode(image.read_bytes()).decode()
    (folder / "a.json").write_text(json.dumps(content))
    found = open_dataset(folder)
    assert len(found) == 1 and found.samples[0].path.read_bytes() == image.read_bytes()
    assert any("imageData" in note for note in found.notes)
    content["imageData"] = base64.b64encode(b"no image").decode()
    (folder / "a.json").write_text(json.dumps(content))
    with raises("bad-dataset.missing-image", "a.png"):
        open_dataset(folder)
