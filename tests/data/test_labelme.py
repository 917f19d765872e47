"""LabelMe's files as it writes them: every shape, flags, images found again."""

import base64
import io
import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.errors import BadDataset
from blemish.geometry import mask_to_array
from blemish.structures import Task

SIZE_WH = (48, 40)


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


TRIANGLE = [[4, 4], [20, 4], [4, 20]]


@pytest.fixture
def page(draw, tmp_path):
    """Writes an image and its JSON file."""

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


def test_every_kind_of_shape(page, tmp_path):
    stencil = np.zeros((6, 9), bool)
    stencil[1:5, 2:8] = True
    packed = io.BytesIO()
    Image.fromarray(stencil).save(packed, "PNG")
    page(
        shapes=[
            shape("dent", TRIANGLE),
            shape("dent", [[30, 22], [10, 12]], "rectangle"),
            shape("rust", [[24, 20], [24, 30]], "circle"),
            shape("rust", [[5, 7], [13, 12]], "mask", mask=base64.b64encode(packed.getvalue()).decode()),
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
    painted = np.zeros(SIZE_WH[::-1], bool)
    painted[7:13, 5:14] = stencil
    assert (mask_to_array(ground_truth.masks[3]) == painted).all()
    assert any("line have no area" in n for n in dataset.notes)
    assert open_dataset(tmp_path, task="detection")[0].ground_truth.masks is None


def test_rectangles_alone_make_a_detection_set(page, tmp_path):
    page(shapes=[shape("dent", [[4, 6], [10, 12]], "rectangle")])
    four = [[4, 6], [10, 6], [10, 12], [4, 12]]
    page("b.png", [shape("dent", four, "rectangle")])
    page("c.png")
    dataset = open_dataset(tmp_path)
    assert dataset.task is Task.DETECTION
    assert [s.ground_truth.boxes_xyxy.tolist() for s in dataset] == [[[4, 6, 10, 12]]] * 2 + [[]]


def test_parts_of_one_group_are_one_object(page, tmp_path):
    second = [[30, 30], [40, 30], [40, 36]]
    page(
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
    assert len(ground_truth.masks[0].polygons) == 2


def test_flags_make_a_multilabel_set(page, tmp_path):
    page(flags={"crack": True, "dirt": False})
    page("b.png", flags={"crack": False, "dirt": False})
    dataset = open_dataset(tmp_path)
    assert dataset.task is Task.MULTILABEL
    assert [s.ground_truth.label_names for s in dataset] == [("crack",), ()]


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ("images", "..\\images\\a.png"),
        ("images", "../images/a.png"),
        ("images", "C:\\somewhere\\else\\a.png"),
        ("labels", "renamed.png"),
    ],
)
def test_images_are_found_again(page, tmp_path, images, says):
    file = page("labels/a.png", [shape("dent", TRIANGLE)], imagePath=says)
    if images != "labels":
        (tmp_path / images).mkdir()
        shutil.move(file.with_suffix(".png"), tmp_path / images)
    dataset = open_dataset(tmp_path)
    assert [s.id for s in dataset] == [f"{images}/a.png"]
    assert check(tmp_path).counts == {"few-examples": 1}


def test_splits_are_folders(page, tmp_path):
    page("train/a.png", [shape("dent", TRIANGLE)])
    page("valid/a.png", [shape("dent", TRIANGLE)])
    dataset = open_dataset(tmp_path)
    assert dataset.splits == {"train": 1, "val": 1}
    assert [s.id for s in dataset] == ["train/a.png", "valid/a.png"]


def test_labels_drawn_at_another_size_are_scaled(page, tmp_path):
    page(shapes=[shape("dent", TRIANGLE)], imageHeight=20, imageWidth=24)
    assert open_dataset(tmp_path)[0].ground_truth.boxes_xyxy.tolist() == [[8, 8, 40, 40]]


@pytest.mark.parametrize(
    ("shapes", "code"),
    [
        ([shape("dent", [[1, 2], [3, 4]])], "empty-polygon"),
        ([shape("dent", "none")], "bad-box"),
        ([shape("dent", [[1, float("nan")], [2, 3], [4, 9]])], "bad-box"),
        ([shape("dent", TRIANGLE, "trapeze")], "bad-box"),
        ([shape("", TRIANGLE)], "empty-label"),
        ([shape("dent", [[1, 1], [4, 4]], "mask", mask="no picture")], "bad-run-lengths"),
        ([shape("dent", TRIANGLE), shape("dent", TRIANGLE)], "repeated-object"),
    ],
)
def test_a_shape_that_cannot_be_is_found_by_its_place(page, tmp_path, shapes, code):
    for i in range(10):  # so that the label itself is no finding
        page(f"fine{i}.png", [shape("dent", TRIANGLE)])
    file = page(shapes=shapes)
    found = check(tmp_path, duplicates=False)
    assert [(f.code, f.origin) for f in found] == [(code, f"{file}: shape {len(shapes) - 1}")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"shapes": [,]}', r"a\.json:1: no valid JSON"),
        ('{"shapes": 5}', "no list of objects"),
        ('{"shapes": []}', "no file holds a shape or a flag"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(page, tmp_path, text, says):
    page().write_text(text)
    with pytest.raises(BadDataset, match=says) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_image_that_is_gone_is_named(page, tmp_path):
    page("b.png", [shape("dent", TRIANGLE)])
    file = page(shapes=[shape("dent", TRIANGLE)])
    file.with_suffix(".png").unlink()
    found = check(tmp_path, duplicates=False)
    assert [f.origin for f in found.of("missing-image")] == [str(file)]
    with pytest.raises(BadDataset, match=r"a\.png"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("says", ["{outside}", "../../outside/secret.txt", "../../outside/other.png"])
def test_a_file_elsewhere_on_the_disk_is_not_taken_in(page, draw, tmp_path, says):
    outside = draw("outside/secret.png").with_suffix(".txt")
    outside.write_bytes(b"no image")
    draw("outside/other.png")
    page("set/in/fine.png", [shape("dent", TRIANGLE)])
    file = page("set/in/a.png", [shape("dent", TRIANGLE)], imagePath=says.format(outside=outside))
    file.with_suffix(".png").unlink()
    found = check(tmp_path / "set/in", duplicates=False)
    assert [f.origin for f in found.of("missing-image")] == [str(file)]
    with pytest.raises(BadDataset, match="an image is not in"):
        open_dataset(tmp_path / "set/in")


def test_links_to_images_elsewhere_are_images(page, draw, tmp_path):
    file = page("set/a.png", [shape("dent", TRIANGLE)])
    there = draw("far/away/b.png", SIZE_WH)
    file.with_suffix(".png").unlink()
    file.with_suffix(".png").symlink_to(there)
    assert open_dataset(tmp_path / "set")[0].path == tmp_path / "set/a.png"


def test_a_stale_image_path_leaves_others_their_image(page, tmp_path):
    stale = page("a.png", [shape("dent", TRIANGLE)], imagePath="b.png")
    page("b.png", [shape("rust", TRIANGLE)])
    found = check(tmp_path, duplicates=False)
    assert [f.origin for f in found.of("other-filename")] == [str(stale)]
    assert not found.of("repeated-line")
    assert [(s.id, s.ground_truth.label_names) for s in open_dataset(tmp_path)] == [
        ("a.png", ("dent",)),
        ("b.png", ("rust",)),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no valid JSON"), (b"[1, 2]", "one JSON object"), (b"[" * 100_000, "nested too deep"),
     (b'{"shapes": [' + b"9" * 5000 + b"]}", "too many digits")],
)  # fmt: skip
def test_a_broken_first_file_hides_no_other(page, tmp_path, content, says):
    page("b.png", [shape("dent", TRIANGLE)])
    file = page()
    file.write_bytes(content)
    found = check(tmp_path, duplicates=False)
    assert [f.origin.split(".json")[0] for f in found.of("bad-file")] == [str(tmp_path / "a")]
    assert says in found.of("bad-file")[0].message


def test_files_in_utf_16_are_read(page, tmp_path):
    file = page(shapes=[shape("dent", TRIANGLE)])
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
def test_odd_values_cost_one_shape_or_nothing(page, tmp_path, shapes, changes):
    page("b.png", [shape("dent", TRIANGLE)])
    page(shapes=shapes, **changes)
    found = check(tmp_path, duplicates=False)
    assert not found.of("unreadable-set")
    assert found.images == 2
