"""The automatic annotation function of CVAT, without the package `cvat-sdk`."""

import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.contrib.cvat_function import create, encode_mask
from blemish.geometry import mask_from_array
from blemish.inference import load
from tests.service.conftest import write_classifier, write_detector

RECORDINGS = Path(__file__).parent / "recordings"
PHOTO = Image.new("RGB", (40, 30), (250, 0, 0))


@pytest.fixture(autouse=True)
def cvat(monkeypatch):
    """The functions of `cvat_sdk.auto_annotation` that are used; each returns its name and arguments."""
    module: Any = ModuleType("cvat_sdk.auto_annotation")
    module.DetectionFunctionSpec = SimpleNamespace
    module.label_spec = lambda name, number, **options: (name, number, options["type"])
    for name in ("tag", "rectangle", "mask", "polygon"):
        setattr(module, name, lambda label, points=None, name=name: (name, label, points))
    monkeypatch.setitem(sys.modules, "cvat_sdk", ModuleType("cvat_sdk"))
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", module)


def context(threshold=None, polygons=False):
    return SimpleNamespace(conf_threshold=threshold, conv_mask_to_poly=polygons, frame_name="a.png")


def decode(points, size_hw):
    *runs, x1, y1, x2, y2 = points
    window = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(y2 - y1 + 1, x2 - x1 + 1)
    array = np.zeros(size_hw, bool)
    array[y1 : y2 + 1, x1 : x2 + 1] = window
    return array


def test_detect_rectangles_from_a_threshold(tmp_path):
    model = str(tmp_path / "model.onnx")
    write_detector(tmp_path / "model.onnx")
    function = create(model)
    assert function.spec.labels == [("dent", 0, "rectangle"), ("lamp_broken", 1, "rectangle")]
    boxes = load(model).predict(PHOTO).boxes_xyxy.tolist()
    found = function.detect(context(), PHOTO)
    assert found == [("rectangle", 0, boxes[0]), ("rectangle", 1, boxes[1])]
    assert len(function.detect(context(0.1), PHOTO)) == 3
    assert len(function.detect(context(0.5), PHOTO)) == 1


def test_detect_masks_or_polygons(tmp_path):
    write_detector(tmp_path / "model.onnx", task="segmentation")
    function = create(str(tmp_path / "model.onnx"))
    expected = load(tmp_path / "model.onnx").predict(PHOTO).filter_scores()
    found = function.detect(context(), PHOTO)
    assert [kind for kind, _, _ in found] == ["mask", "mask"]
    for (_, _, points), mask in zip(found, expected.masks, strict=True):
        assert mask_from_array(decode(points, (30, 40))).counts.tolist() == mask.counts.tolist()
    assert {kind for kind, _, _ in function.detect(context(polygons=True), PHOTO)} == {"polygon"}


def test_detect_labels_of_the_image(tmp_path):
    write_classifier(tmp_path / "one.onnx")
    assert create(str(tmp_path / "one.onnx")).detect(context(), PHOTO) == [("tag", 0, None)]
    write_classifier(tmp_path / "several.onnx", task="multilabel")
    function = create(str(tmp_path / "several.onnx"))
    assert function.detect(context(), PHOTO) == [("tag", 0, None)]
    assert function.detect(context(0.0), PHOTO) == [("tag", i, None) for i in range(3)]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("det", write_detector),
        ("seg", partial(write_detector, task="segmentation")),
        ("multi", partial(write_classifier, task="multilabel")),
    ],
)
def test_annotations_are_those_that_cvat_sdk_uploaded(tmp_path, name, write):
    """cvat-sdk 2.80.0 uploaded the recorded document for the same model and image; see bench/."""
    write(tmp_path / "model.onnx")
    recorded = json.loads((RECORDINGS / f"cvat_sdk_2_80_0_{name}.json").read_text())
    uploaded = [
        (row.get("type", "tag"), row["label_id"] - 10, row.get("points"))
        for row in (*recorded["tags"], *recorded["shapes"])
        if row["frame"] == 0
    ]
    assert uploaded
    for found, sent in zip(
        create(str(tmp_path / "model.onnx")).detect(context(), PHOTO), uploaded, strict=True
    ):
        assert found[:2] == sent[:2]
        assert found[2] == pytest.approx(sent[2])


def test_encode_mask_begins_with_background():
    array = np.zeros((4, 5), bool)
    array[1:3, 2:4] = [[False, True], [True, True]]
    assert encode_mask(mask_from_array(array)) == [1, 3, 2, 1, 3, 2]
