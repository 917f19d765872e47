"""A model runs over the images of an inspection."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageFilter
from tests.inspections.conftest import image_bytes
from tests.inspections.test_finding_groups import make_image, textured

from blemish.geometry import mask_from_array
from blemish.imaging import LoadedImage
from blemish.inference import load
from blemish.inspections.image_records import image_quality
from blemish.inspections.inspector import assign_part, findings_of, inspect_images, inspection_summary
from blemish.inspections.measurement import ImageScale
from blemish.inspections.severity import load_rules
from blemish.inspections.summary import image_problems
from blemish.structures import Labels, Prediction, Task
from blemish.testing import raises


@pytest.fixture
def scores_model(tmp_path, tiny):
    path = tmp_path / "model.onnx"
    tiny.write_scores_model(path, labels=("dented", "fine"))
    return load(path, backend="onnxruntime")


def make_inspection(store, images=2, **options):
    asset = store.assets.create("vehicle", "B-XY 12")
    inspection = store.inspections.create(asset.id, **options)
    for k in range(images):
        store.images.add(inspection.id, image_bytes(k))
    return inspection


def test_inspect_images_stores_what_the_model_finds(sqlite_store, scores_model):
    inspection = make_inspection(sqlite_store, required_views=["front"])
    assert inspection_summary(sqlite_store, inspection.id)["decision"] == "not-inspected"
    run = inspect_images(sqlite_store, inspection.id, scores_model, model_name="model.onnx")
    assert run.model_digest == scores_model.digest and len(run.images) == 2
    findings = sqlite_store.findings.of_inspection(inspection.id)
    assert len(findings) == 2 and all(f.box_xyxy is None and f.group_id == f.id for f in findings)
    summary = inspection_summary(sqlite_store, inspection.id)
    assert summary["decision"] == "incomplete" and summary["coverage"]["missing"] == ["front"]
    with raises("bad-input.nothing-to-inspect"):
        inspect_images(sqlite_store, inspection.id, scores_model)
    sqlite_store.images.add(inspection.id, image_bytes(9), view="front")
    assert len(inspect_images(sqlite_store, inspection.id, scores_model).images) == 1
    assert inspection_summary(sqlite_store, inspection.id)["decision"] == "needs-review"


def test_inspect_images_leaves_out_normal_labels(sqlite_store, scores_model):
    inspection = make_inspection(sqlite_store)
    with raises("unknown-name.label"):
        inspect_images(sqlite_store, inspection.id, scores_model, normal_labels=["okay"])
    inspect_images(sqlite_store, inspection.id, scores_model, normal_labels=["fine", "dented"])
    assert sqlite_store.findings.of_inspection(inspection.id) == ()
    assert inspection_summary(sqlite_store, inspection.id)["decision"] == "no-findings"


def detections(labels, boxes):
    names = Labels(tuple(dict.fromkeys(labels)))
    count = len(labels)
    return Prediction(
        task=Task("detection"),
        labels=names,
        size_hw=(100, 100),
        label_index=np.array([names.index(label) for label in labels]),
        boxes_xyxy=np.array(boxes, float),
        scores=np.full(count, 0.9),
        label_scores=np.full(len(names), 0.9),
        thresholds=np.full(len(names), 0.5),
    )


def test_assign_part_takes_the_largest_overlap():
    damage = detections(["dent", "dent"], [[10, 10, 30, 30], [90, 90, 99, 99]])
    parts = detections(["door", "hood"], [[0, 0, 24, 100], [24, 0, 80, 80]])
    assert assign_part(damage, 0, parts) == "door"
    assert assign_part(damage, 1, parts) == ""
    assert assign_part(damage, 0, None) == ""


def test_summary_takes_the_worst_level(case):
    summary = inspection_summary(case.store, case.inspection.id)
    assert summary["worst_severity"] == "2" and summary["severity_scale"] == load_rules("vehicle").scale
    assert summary["reviews_agree"] == {"accepted": 0, "edited": 0, "rejected": 0, "open": 2, "added": 0}
    for finding in case.findings:
        case.store.reviews.decide(finding.id, "reject")
    summary = inspection_summary(case.store, case.inspection.id)
    assert summary["worst_severity"] == "" and summary["decision"] == "no-findings"


def test_findings_of_measures_outlines_with_a_scale():
    pytest.importorskip("skimage")
    crack = np.zeros((60, 100), bool)
    crack[20:24, 10:90] = True
    prediction = Prediction(
        task=Task("segmentation"),
        labels=Labels(("crack",)),
        size_hw=(60, 100),
        label_index=np.zeros(1, np.int64),
        boxes_xyxy=np.array([[10, 20, 90, 24.0]]),
        masks=(mask_from_array(crack),),
        scores=np.array([0.9]),
        label_scores=np.array([0.9]),
        thresholds=np.array([0.5]),
    )
    image = make_image(size_hw=(60, 100))
    (finding,) = findings_of(image, prediction, None, None, (), ImageScale(0.1, 0.05))
    assert finding.measures["width_mm"] == pytest.approx(0.4, abs=0.02)
    assert load_rules("structure").decide("crack", "", finding.measures)[0] == "CS2"
    assert findings_of(image, prediction, None, None, ())[0].measures == {}


def test_image_quality_finds_blur_and_darkness():
    sharp = textured()
    blurred = LoadedImage(sharp.filter(ImageFilter.GaussianBlur(2.5)))
    dark = LoadedImage(sharp.point(lambda value: value // 12))
    problems = [
        image_problems(replace(make_image(), quality=image_quality(image)))
        for image in (LoadedImage(sharp), blurred, dark)
    ]
    assert problems == [[], ["blurred"], ["dark"]]
