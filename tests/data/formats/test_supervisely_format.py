"""blemish.data.formats.supervisely_format: projects of Supervisely."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.data.outlines import outlines_of

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.geometry import mask_to_array
from blemish.structures import Task
from blemish.testing import check_format, raises


def shape(kind="rectangle", exterior=((2, 3), (12, 9)), label="dent", interior=(), **more):
    points = {"exterior": [list(p) for p in exterior], "interior": [[list(p) for p in h] for h in interior]}
    return {"classTitle": label, "geometryType": kind, "points": points, "tags": []} | more


@pytest.fixture
def project(draw, tmp_path):
    """A function that writes one image of a data set of the project, and returns the project."""

    def one(*objects, dataset="ds0", name="a.png", tags=(), classes=("rust", "dent")):
        draw(f"set/{dataset}/img/{name}")
        folder = tmp_path / "set" / dataset / "ann"
        folder.mkdir(exist_ok=True)
        content = {"size": {"height": 20, "width": 24}, "objects": list(objects), "tags": list(tags)}
        (folder / f"{name}.json").write_text(json.dumps(content))
        meta = {"classes": [{"title": c, "shape": "any"} for c in classes], "tags": []}
        (tmp_path / "set/meta.json").write_text(json.dumps(meta))
        return tmp_path / "set"

    return one


def bitmap(mask, origin):
    buffer = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).convert("1").save(buffer, "PNG")
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return {"classTitle": "dent", "geometryType": "bitmap", "bitmap": {"data": data, "origin": origin}}


def test_rectangles_and_the_order_of_classes(project):
    project(shape(), dataset="train")
    found = open_dataset(project(shape(label="rust"), dataset="val"))
    assert (found.format, found.task, found.labels.names) == ("supervisely", Task.DETECTION, ("rust", "dent"))
    assert found.splits == {"train": 1, "val": 1}
    assert found[0].ground_truth.boxes_xyxy.tolist() == [[2, 3, 12, 9]]
    assert [s.id for s in found] == ["train/img/a.png", "val/img/a.png"]


def test_data_sets_that_are_no_splits(project):
    project(shape(), dataset="ds0")
    found = open_dataset(project(shape(), dataset="ds1"))
    assert (len(found), found.splits) == (2, {})


def test_one_data_set_of_a_project(project):
    root = project(shape(label="dent"))
    assert open_dataset(root / "ds0").labels.names == ("rust", "dent")


def test_polygons_and_holes(project):
    square, hole = [(2, 2), (12, 2), (12, 12), (2, 12)], [(5, 5), (8, 5), (8, 8), (5, 8)]
    found = open_dataset(project(shape("polygon", square), shape("polygon", square, interior=[hole])))
    whole, holed = found[0].ground_truth.masks
    assert outlines_of(whole)[0].tolist() == [[2, 2], [12, 2], [12, 12], [2, 12]]
    assert (whole.area, holed.area) == (100, 91)


def test_bitmaps(project):
    mask = np.zeros((4, 6), bool)
    mask[1:, 2:] = True
    found = open_dataset(project(bitmap(mask, [3, 5])))
    expected = np.zeros((20, 24), bool)
    expected[5:9, 3:9] = mask
    assert (mask_to_array(found[0].ground_truth.masks[0]) == expected).all()


@pytest.mark.parametrize(
    "entry",
    [
        shape(exterior=[(1, 1)]),
        shape("polygon", [(1, 1), (2, 2)]),
        shape(exterior=[("a", 1), (2, 2)]),
        shape("sphere"),
        {"classTitle": "dent", "geometryType": "bitmap", "bitmap": {"data": "eJw=", "origin": [0, 0]}},
        bitmap(np.ones((30, 30), bool), [0, 0]),
        bitmap(np.zeros((3, 3), bool), [0, 0]),
    ],
)
def test_invalid_geometry_is_reported_with_its_place(project, entry):
    root = project(shape(), entry)
    with raises("bad-dataset.bad-box", "a.png.json: object 1"):
        open_dataset(root)
    assert len(check(root, duplicates=False).of("bad-box")) == 1


def test_lines_and_points_are_counted(project):
    found = open_dataset(project(shape(), shape("line"), shape("point")))
    assert len(found[0].ground_truth) == 1
    assert sum("no area" in n for n in found.notes) == 2


def test_tags_of_images_without_objects(project):
    tags = [{"name": "wet", "value": None}, {"name": "side", "value": "left"}]
    project(tags=tags, classes=())
    found = open_dataset(project(name="b.png", classes=()))
    assert found.task is Task.MULTILABEL
    assert [s.ground_truth.label_names for s in found] == [("wet", "side: left"), ()]


def test_annotation_named_after_the_stem(project):
    root = project(shape())
    (root / "ds0/ann/a.png.json").rename(root / "ds0/ann/a.json")
    assert open_dataset(root)[0].path.name == "a.png"


def test_format_suite(project, tmp_path):
    project(shape(), name="b.png")
    check_format(
        "supervisely", tmp_path / "suite", example=project(shape("polygon", [(1, 1), (9, 1), (9, 9)]))
    )
