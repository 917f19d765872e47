"""blemish.data.formats.via_format: projects and exports of the VGG Image Annotator."""

import json
import math
from typing import Any

import numpy as np
import pytest
from tests.data.outlines import outlines_of

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.structures import Task
from blemish.testing import check_format, raises

POLYGON = {"name": "polygon", "all_points_x": [2, 12, 12], "all_points_y": [3, 3, 9]}


def region(shape=POLYGON, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes or {"damage": "dent"}}


def entry(name, *regions, **file_attributes):
    return {"filename": name, "size": 99, "regions": list(regions), "file_attributes": file_attributes}


@pytest.fixture
def via(draw, tmp_path):
    """A function that writes images and their VIA file, and returns the folder."""

    def one(*entries, folder="", project=False, name="via_region_data.json"):
        content = {f"{e['filename']}99": e for e in entries}
        for e in entries:
            draw(f"{folder}{e['filename']}")
        if project:
            content = {
                "_via_settings": {},
                "_via_img_metadata": content,
                "_via_attributes": {},
            }
        (tmp_path / folder / name).write_text(json.dumps(content))
        return tmp_path

    return one


@pytest.mark.parametrize("project", [False, True])
def test_polygons_and_region_attribute(via, project):
    found = open_dataset(via(entry("a.png", region()), entry("b.png"), project=project))
    assert (found.format, found.task, found.labels.names) == ("via", Task.SEGMENTATION, ("dent",))
    assert outlines_of(found[0].ground_truth.masks[0])[0].tolist() == [[2, 3], [12, 3], [12, 9]]
    assert len(found[1].ground_truth) == 0


def test_split_folders_with_one_file_each(via):
    for split in ("train", "val"):
        root = via(entry("a.png", region()), folder=f"{split}/")
    found = open_dataset(root)
    assert found.splits == {"train": 1, "val": 1}
    assert [s.id for s in found] == ["train/a.png", "val/a.png"]


def test_split_in_the_names_of_files(via):
    via(entry("a.png", region()), name="via_train.json")
    found = open_dataset(via(entry("b.png", region()), name="via_val.json"))
    assert found.splits == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ({"name": "rect", "x": 2, "y": 3, "width": 10, "height": 6}, [2, 3, 12, 9]),
        ({"name": "circle", "cx": 8, "cy": 8, "r": 3}, [5, 5, 11, 11]),
        ({"name": "ellipse", "cx": 8, "cy": 8, "rx": 4, "ry": 2, "theta": math.pi / 2}, [6, 4, 10, 12]),
        ({"name": "ellipse", "cx": 8, "cy": 8, "rx": 4, "ry": 2}, [4, 6, 12, 10]),
        ({"name": "polyline", "all_points_x": [2, 12, 12, 2], "all_points_y": [3, 3, 9, 4]}, [2, 3, 12, 9]),
    ],
)
def test_every_shape_with_an_area(via, shape, box):
    found = open_dataset(via(entry("a.png", region(shape))))
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [box], atol=0.1)


def test_shapes_without_area_are_counted(via):
    line = {"name": "polyline", "all_points_x": [2, 12, 20], "all_points_y": [3, 3, 19]}
    point = {"name": "point", "cx": 3, "cy": 4}
    found = open_dataset(via(entry("a.png", region(), region(line), region(line), region(point))))
    assert len(found[0].ground_truth) == 1
    assert {n for n in found.notes if "no area" in n} == {
        "2 shapes of type polyline have no area and were left out",
        "1 shapes of type point have no area and were left out",
    }


@pytest.mark.parametrize(
    "shape",
    [
        {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]},
        {"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]},
        {"name": "rect", "x": 1, "y": None, "width": 4, "height": 5},
        {"name": "circle", "cx": 1, "cy": 1, "r": -2},
        {"name": "cube"},
    ],
)
def test_invalid_shapes_are_reported_with_their_place(via, shape):
    root = via(entry("a.png", region(shape), region()))
    with raises("bad-dataset.bad-box", "via_region_data.json", "a.png99", "region 0"):
        open_dataset(root)
    assert len(check(root, duplicates=False).of("bad-box")) == 1


def test_one_of_several_attributes_is_the_label(via):
    root = via(entry("a.png", region(part="door", size="big"), region(part="hood", size="small")))
    with raises("bad-dataset.label-attribute", "part, size", "--column label="):
        open_dataset(root)
    assert open_dataset(root, columns={"label": "size"}).labels.names == ("big", "small")
    with raises("bad-dataset.label-attribute", "'color'", "part, size"):
        open_dataset(root, columns={"label": "color"})


def test_attribute_with_a_usual_name_is_the_label(via):
    found = open_dataset(via(entry("a.png", region(label="dent", comment="left"))))
    assert found.labels.names == ("dent",)
    assert any("comment was not read" in n for n in found.notes)


def test_checked_options_are_labels(via):
    root = via(entry("a.png", region(damage={"dent": True, "rust": False}), region(damage={"rust": True})))
    assert open_dataset(root)[0].ground_truth.label_names == ("dent", "rust")
    root = via(entry("a.png", region(damage={"dent": True, "rust": True})))
    with raises("bad-dataset.several-labels", "dent, rust"):
        open_dataset(root)
    assert len(check(root, duplicates=False).of("several-labels")) == 1


def test_regions_without_attributes_are_objects(via):
    bare = {"shape_attributes": POLYGON, "region_attributes": {}}
    found = open_dataset(via(entry("a.png", bare)))
    assert found.labels.names == ("object",)
    assert any("'object'" in n for n in found.notes)


def test_region_without_its_label_is_an_error(via):
    root = via(entry("a.png", region(), region(damage="")))
    with raises("bad-dataset.empty-label", "region 1"):
        open_dataset(root)


def test_file_attributes_of_images_without_regions(via):
    found = open_dataset(via(entry("a.png", state="dent"), entry("b.png", state="ok")))
    assert (found.task, found.labels.names) == (Task.CLASSIFICATION, ("dent", "ok"))
    found = open_dataset(via(entry("a.png", state={"dent": True, "rust": True}), entry("b.png", state={})))
    assert found.task is Task.MULTILABEL
    assert [s.ground_truth.label_names for s in found] == [("dent", "rust"), ()]


def test_regions_of_via_1_are_a_mapping(via):
    first = entry("a.png") | {"regions": {"0": region(), "1": region(damage="rust")}}
    assert open_dataset(via(first))[0].ground_truth.label_names == ("dent", "rust")


def test_via_3_is_refused_by_name(draw, tmp_path):
    draw("a.png")
    content: dict[str, Any] = {"_via_settings": {}, "metadata": {}, "file": {}}
    (tmp_path / "via3.json").write_text(json.dumps(content))
    with raises("bad-dataset.unsupported-version", "VIA 3"):
        open_dataset(tmp_path)


def test_format_suite(via, tmp_path):
    for split in ("train", "val"):
        root = via(entry("a.png", region()), entry("b.png", region(damage="rust")), folder=f"set/{split}/")
    check_format("via", tmp_path / "suite", example=root / "set")


def test_csv_of_via_is_read_as_regions(draw, tmp_path):
    for name in ("a.png", "b.png"):
        draw(name)
    header = (
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    )
    rect = '"{""name"":""rect"",""x"":2,""y"":3,""width"":9,""height"":8}","{""label"":""dent""}"'
    (tmp_path / "via_export.csv").write_text(
        f'{header}\na.png,9,"{{}}",1,0,{rect}\nb.png,9,"{{}}",0,0,"{{}}","{{}}"\n'
    )
    found = open_dataset(tmp_path)
    assert (found.format, found.task, found.labels.names) == ("via", Task.DETECTION, ("dent",))
    assert [s.ground_truth.boxes_xyxy.tolist() for s in found] == [[[2, 3, 11, 11]], []]
    (tmp_path / "via_export.csv").write_text(f"{header}\na.png,9,x,1,0,y,z\n")
    with raises("bad-dataset.invalid-entry", "via_export.csv:2"):
        open_dataset(tmp_path)


def test_project_of_via_3_is_refused_by_name(draw, tmp_path):
    draw("a.png")
    content = {"project": {"pid": "x"}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}
    (tmp_path / "project.json").write_text(json.dumps(content))
    with raises("bad-dataset.unsupported-version", "VIA 3"):
        open_dataset(tmp_path)
