"""Data sets in the formats of labeling tools: what each can hold survives, and the rest is named."""

import json
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.formats.test_round_trips import (
    FLAGS,
    QUICK,
    assert_same_objects,
    images,
    on_disk,
    segmentation_set,
    sets,
    write_and_read,
)

from blemish.data import as_task, open_dataset
from blemish.data.formats.labelstudio_brush import decode_brush, encode_brush
from blemish.data.polygon_masks import PolygonMask
from blemish.data.write_dataset import write_dataset
from blemish.geometry import mask_from_array, mask_iou
from blemish.structures import Task
from blemish.testing import raises

__all__ = ["images"]  # a fixture
TOOLS = ("labelme", "cvat", "via", "labelstudio", "supervisely", "ndjson")
OUTLINES = (*TOOLS, "geojson")
KEEP_MASKS = ("labelme", "cvat", "labelstudio", "supervisely", "geojson")
KEEP_ORDER = ("cvat", "supervisely", "ndjson")
FEW = settings(QUICK, max_examples=5)


@FEW
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
@pytest.mark.parametrize("kind", OUTLINES)
def test_tool_round_trip_keeps_boxes_polygons_and_splits(images, kind, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    written, after, found = write_and_read(dataset, kind)
    for sample in dataset:
        actual = after[sample.path.name]
        assert actual.split == sample.split
        assert_same_objects(sample.ground_truth, actual.ground_truth, atol=1e-6)
    losses = {x.what: set(x.samples) for x in written.losses}
    for flag in FLAGS:
        lost = {s.id for s in dataset if getattr(s.ground_truth, flag).any()}
        assert losses.get(f"which objects are {flag} is not kept", set()) == lost
    codes = {x.code for x in written.losses} - {"flag"}
    assert codes <= {"label-order", "label-without-image"}
    if kind in KEEP_ORDER or not codes:
        assert found.labels.names == dataset.labels.names


@FEW
@given(data=st.data())
@pytest.mark.parametrize("kind", KEEP_MASKS)
def test_tool_round_trip_keeps_pixels_and_holes(images, kind, data):
    dataset = on_disk(data.draw(sets(Task.SEGMENTATION, "pixels")), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    written, after, _ = write_and_read(dataset, kind)
    moved = {i for x in written.losses if x.code == "outline" for i in x.samples}
    assert kind == "geojson" or not moved
    for sample in dataset:
        if sample.id not in moved:
            assert_same_objects(sample.ground_truth, after[sample.path.name].ground_truth, exact_masks=True)


@FEW
@given(data=st.data())
@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.MULTILABEL])
@pytest.mark.parametrize("kind", TOOLS)
def test_tool_round_trip_keeps_labels_of_images(images, kind, task, data):
    dataset = on_disk(data.draw(sets(task)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    written, after, _ = write_and_read(dataset, kind)
    lost = {x.code for x in written.losses}
    assert lost <= {"label-order", "label-without-image", "single-label"}
    assert len(after) == len(dataset)
    for sample in dataset:
        read = after[sample.path.name]
        assert read.split == sample.split
        assert set(read.ground_truth.label_names) == set(sample.ground_truth.label_names)


@FEW
@given(data=st.data())
@pytest.mark.parametrize("second", (*OUTLINES, "yolo", "voc"))
@pytest.mark.parametrize("first", ["coco", "labelme"])
def test_conversion_there_and_back_keeps_what_the_second_format_holds(images, first, second, data):
    masks = "pixels" if second == "voc" else "outlines"
    dataset = on_disk(data.draw(sets(Task.SEGMENTATION, masks)), images)
    if not any(len(s.ground_truth) for s in dataset):
        return
    with tempfile.TemporaryDirectory() as folder:
        here, there, back = (Path(folder) / name for name in ("here", "there", "back"))
        write_dataset(dataset, here, first)
        kept: Any = {"task": Task.SEGMENTATION, "minimum_labels": 1}
        write_dataset(open_dataset(here, **kept), there, second)
        write_dataset(open_dataset(there, **kept), back, first)
        found = {s.path.name: s for s in open_dataset(back, **kept)}
        for sample in dataset:
            read = found[sample.path.name]
            assert read.split == sample.split
            exact = masks == "pixels"
            assert_same_objects(sample.ground_truth, read.ground_truth, exact_masks=exact, atol=1e-6)


def two_parts(size_hw):
    square = np.array([[1.0, 1.0], [5.0, 1.0], [5.0, 5.0], [1.0, 5.0]])
    return PolygonMask(size_hw, (square, square + 8))


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("labelme", None),
        ("geojson", None),
        ("cvat", "parts-as-mask"),
        ("labelstudio", "parts-as-mask"),
        ("supervisely", "parts-as-mask"),
        ("via", "parts"),
        ("ndjson", "parts"),
    ],
)
def test_several_polygons_of_one_object_stay_one_object(images, kind, code):
    dataset = segmentation_set(images, two_parts(images[0][1]))
    written, after, _ = write_and_read(dataset, kind)
    assert [x.code for x in written.losses if x.samples] == ([code] if code else [])
    (mask,) = after["photo0.png"].ground_truth.masks
    assert mask_iou([mask], [two_parts(images[0][1])])[0, 0] > 0.8
    if code is None:
        assert len(mask.polygons) == 2


@pytest.mark.parametrize("kind", ["via", "ndjson"])
def test_outlines_of_masks_with_holes_are_named(images, kind):
    ring = np.zeros(images[0][1], bool)
    ring[2:12, 3:20] = True
    ring[5:8, 8:12] = False
    written, after, _ = write_and_read(segmentation_set(images, mask_from_array(ring)), kind)
    assert [x.samples for x in written.losses if x.code == "holes"] == [("a.png",)]
    assert after["photo0.png"].ground_truth.masks[0].area == 10 * 17


def test_a_box_that_is_not_that_of_its_mask_is_named(images):
    dataset = segmentation_set(images, two_parts(images[0][1]))
    object.__setattr__(dataset[0].ground_truth, "boxes_xyxy", np.array([[0.0, 0.0, 20.0, 15.0]]))
    for kind in TOOLS:
        written, _, _ = write_and_read(dataset, kind)
        assert "box-of-outline" in {x.code for x in written.losses}, kind


def test_masks_round_trip_keeps_separate_regions_and_names_the_others(images):
    apart, touching = np.zeros(images[0][1], bool), np.zeros(images[0][1], bool)
    apart[1:4, 1:4], touching[4:8, 4:8] = True, True
    dataset = segmentation_set(images, mask_from_array(apart))
    written, after, _ = write_and_read(dataset, "masks")
    assert not written.losses
    assert after["photo0.png"].ground_truth.masks[0].area == apart.sum()
    dataset = segmentation_set(images, mask_from_array(apart), mask_from_array(touching))
    written, after, _ = write_and_read(dataset, "masks")
    assert [x.samples for x in written.losses if x.code == "regions"] == [("a.png",)]
    assert len(after["photo0.png"].ground_truth) == 1


@settings(QUICK, max_examples=30)
@given(
    size_hw=st.sampled_from([(1, 1), (5, 7), (300, 90)]), bits=st.integers(0, 2**64), step=st.integers(1, 63)
)
def test_encode_brush_is_the_inverse_of_decode_brush(size_hw, bits, step):
    array = (bits >> (np.arange(size_hw[0] * size_hw[1], dtype=np.uint64) // step % 60).astype(object)) & 1
    mask = mask_from_array(array.astype(bool).reshape(size_hw))
    assert decode_brush(encode_brush(mask), size_hw).counts.tolist() == mask.counts.tolist()


def test_scores_are_kept_where_the_format_has_a_place(images, tmp_path):
    dataset = segmentation_set(images, two_parts(images[0][1]))
    scores = {"a.png": np.array([0.625])}
    for kind in ("coco", "yolo", "voc", "csv", *OUTLINES):
        written = write_dataset(dataset, tmp_path / kind, kind, scores=scores, model="car.onnx")
        kept = kind in ("coco", "labelme", "via", "labelstudio", "geojson")
        assert ("scores" in {x.code for x in written.losses}) is not kept, kind
    coco = json.loads((tmp_path / "coco/annotations.json").read_text())
    assert [a["score"] for a in coco["annotations"]] == [0.625]
    shapes = json.loads((tmp_path / "labelme/photo0.json").read_text())["shapes"]
    assert [s["score"] for s in shapes] == [0.625, 0.625]
    assert ET.parse(tmp_path / "cvat/annotations.xml").find("image/mask").get("source") == "auto"


def test_labelstudio_reads_predictions_only_if_no_task_has_an_annotation(images, tmp_path):
    dataset = segmentation_set(images, two_parts(images[0][1]))
    write_dataset(dataset, tmp_path / "set", "labelstudio", scores={"a.png": np.array([0.5])}, model="m")
    found = open_dataset(tmp_path / "set", minimum_labels=1)
    assert len(found[0].ground_truth) == 1
    assert any("predictions" in note for note in found.notes)
    file = tmp_path / "set/tasks.json"
    (task,) = json.loads(file.read_text())
    assert (task["predictions"][0]["model_version"], task["predictions"][0]["score"]) == ("m", 0.5)
    file.write_text(json.dumps([task, {**task, "annotations": [{"result": []}]}]))
    with raises("bad-dataset.no-labels"):
        open_dataset(tmp_path / "set", minimum_labels=1)


@pytest.mark.parametrize("kind", ["cvat", "labelstudio"])
def test_labels_that_xml_cannot_contain_are_refused(images, tmp_path, kind):
    dataset = segmentation_set(images, two_parts(images[0][1]))
    object.__setattr__(dataset.labels, "names", ("a\x01b", "c"))
    with raises("bad-input.label-name"):
        write_dataset(dataset, tmp_path / "out", kind)


def test_classification_becomes_multilabel_by_name(draw, tmp_path):
    for name in ("a/1.png", "b/2.png"):
        draw(f"set/{name}")
    dataset = open_dataset(tmp_path / "set")
    written = write_dataset(dataset, tmp_path / "out", "labelme")
    assert {x.code for x in written.losses} == {"single-label"}
    again = as_task(open_dataset(tmp_path / "out"), Task.CLASSIFICATION)
    assert [s.ground_truth.label_names for s in again] == [s.ground_truth.label_names for s in dataset]
