"""COCO files with the slips that people make: ids given twice, shares for pixels, numbers out of bounds."""

import json

import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.errors import BadDataset
from blemish.testing import raises

DENT = {"id": 1, "name": "dent"}
RUST = {"id": 2, "name": "rust"}


def entry(number=1, **changes):
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 6], "area": 60} | changes


@pytest.fixture
def coco(draw, tmp_path):
    """Writes one image and its COCO file."""

    def one(annotations=(), categories=(DENT, RUST), **image):
        draw("a.png")
        image = {"id": 1, "file_name": "a.png", "width": 24, "height": 20} | image
        content = {"images": [image], "categories": categories, "annotations": [entry(0), *annotations]}
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        return tmp_path

    return one


def test_two_categories_of_one_id_are_an_error(coco):
    root = coco(categories=[DENT, {"id": 1, "name": "scratch"}])
    assert len(check(root, duplicates=False).of("repeated-label")) == 1
    with pytest.raises(BadDataset, match="two categories have the id 1, 'dent' and 'scratch'"):
        open_dataset(root)


def test_a_category_0_above_no_other_stays(coco):
    root = coco(categories=[{"id": 0, "name": "rust", "supercategory": "none"}, DENT])
    assert open_dataset(root).labels.names == ("rust", "dent")


def test_shares_where_pixels_belong_are_an_error(coco, draw, table, tmp_path):
    root = coco([entry(bbox=[0.1, 0.1, 0.3, 0.4])], width=64, height=48)
    draw("a.png", (64, 48))
    assert not check(root, duplicates=False).of("labels-in-another-scale")  # the other box is in pixels
    content = json.loads((root / "annotations.json").read_text())
    del content["annotations"][0]
    (root / "annotations.json").write_text(json.dumps(content))
    assert len(check(root, duplicates=False).of("labels-in-another-scale")) == 1
    with raises("bad-dataset.labels-in-another-scale", "annotations.json", "64 and 48"):
        open_dataset(root)
    (root / "annotations.json").unlink()
    table("filename,xmin,ymin,xmax,ymax,label\na.png,.1,.1,.5,1,dent\n")
    with raises("bad-dataset.labels-in-another-scale", "labels.csv:2"):
        open_dataset(root)


@pytest.mark.parametrize(("width", "wrong"), [(1e30, 1), (-64, 1), ("64", 1), ([], 1), (None, 0), (0, 0)])
def test_a_stated_size_that_is_none_is_told(coco, width, wrong):
    found = check(coco(width=width, height=20 if wrong else None), duplicates=False)
    assert len(found.of("wrong-stated-size")) == wrong


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bbox": [2**64, 0, 5, 5]}, "bad-box"),
        ({"bbox": [1e308, 0, 1e308, 5]}, "bad-box"),
        ({"area": 2**2000}, None),
        ({"segmentation": [[2**64, 0, 1, 1, 5, 5]]}, "empty-polygon"),
        ({"segmentation": {"size": [20, 24], "counts": [[1], [479]]}}, "bad-run-lengths"),
        ({"segmentation": {"size": [20, 24], "counts": [1.5, 478.5]}}, "bad-run-lengths"),
        ({"segmentation": {"size": [20, 24], "counts": [2**80, 1]}}, "bad-run-lengths"),
    ],
)
def test_numbers_out_of_bounds_cost_one_object(coco, changes, code):
    found = check(coco([entry(5, **{"bbox": [4, 4, 6, 6], **changes})]), duplicates=False)
    codes = {f.code: f.origin for f in found if f.code not in ("few-examples", "unused-label")}
    assert set(codes) == ({code} if code else set())
    assert all(origin.endswith("annotation 5") for origin in codes.values())


@pytest.mark.parametrize(
    ("text", "says"),
    [("9" * 5000, "too many digits"), ("[" * 100_000, "nested too deep"), ("1\xff", "UTF-8")],
)
def test_json_that_cannot_be_read_says_why(coco, text, says):
    root = coco()
    (root / "annotations.json").write_bytes(f'{{"images": {text}'.encode("latin-1"))
    with pytest.raises(BadDataset, match=says):
        open_dataset(root)
