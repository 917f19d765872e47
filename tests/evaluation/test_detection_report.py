import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.metrics.scenes import SIZE_HW, pycocotools_eval, random_scene

from blemish.evaluation import score_predictions
from blemish.evaluation.html_report import render
from blemish.evaluation.matched_objects import compare_objects
from blemish.evaluation.sample_report import compare_sample
from blemish.metrics.average_precision import COCO_METRICS
from blemish.metrics.coco_matches import TRUE_POSITIVE, match_detections
from blemish.metrics.thresholds import choose_object_thresholds
from blemish.structures import GroundTruth, Labels, Prediction, Task
from blemish.testing import raises

LABELS = Labels(("dent", "scratch", "chip", "crack"))


def annotations(ground_truths, found, *, task=None, thresholds=0.4):
    """Return the predictions and ground truths of a scene's objects, one per image."""
    task = task or (Task.DETECTION if ground_truths.masks is None else Task.SEGMENTATION)
    shared: dict[str, Any] = {"task": task, "labels": LABELS, "size_hw": SIZE_HW}
    out: tuple[list[Prediction], list[GroundTruth]] = ([], [])
    for image in range(ground_truths.images):
        for side in (found, ground_truths):
            rows = np.flatnonzero(side.image == image)
            if side is found:
                rows = rows[np.argsort(-side.score[rows], kind="stable")]
            masks = tuple(side.masks[i] for i in rows) if task is Task.SEGMENTATION else None
            fields = {
                "label_index": side.label[rows],
                "boxes_xyxy": side.boxes[rows],
                "masks": masks,
                **shared,
            }
            if side is ground_truths:
                out[1].append(GroundTruth(**fields, crowd=side.crowd[rows], difficult=side.difficult[rows]))
                continue
            best = np.zeros(len(LABELS))
            np.maximum.at(best, side.label[rows], side.score[rows])
            out[0].append(
                Prediction(
                    **fields, scores=side.score[rows], label_scores=best, thresholds=np.full(4, thresholds)
                )
            )
    return out


@pytest.fixture(scope="module")
def boxes():
    return random_scene(0, images=25)


@pytest.fixture(scope="module")
def masks():
    return random_scene(1, images=8, masks=True)


def coco_metrics(report, prefix=""):
    """Return the twelve metrics as COCO's code returns them: -1 for an undefined one."""
    values = [report.value(prefix + name) for name in COCO_METRICS]
    return [-1 if value is None else value for value in values]


def test_score_predictions_of_boxes_equals_pycocotools(boxes):
    predictions, ground_truths = annotations(*boxes)
    report = score_predictions(predictions, ground_truths, resamples=100)
    reference = pycocotools_eval(*boxes)
    np.testing.assert_allclose(coco_metrics(report), reference.stats, rtol=0, atol=1e-12)
    assert report.primary_metric == "ap"
    for name in ("ap", "ap50", "precision", "recall", "f1", "image_f1"):
        metric = report.metrics[name]
        assert metric.low <= metric.value <= metric.high, name
        assert metric.low < metric.high, name
    assert report.of_label("dent").metrics["ap"].low is not None
    assert sum(error.count for error in report.tide.values()) > 10
    assert report.confusion_matrix.rows[-1] == "false positive"
    assert report.confusion_matrix.columns[-1] == "missed"
    json.dumps(report.to_dict(), allow_nan=False)


def test_score_predictions_of_masks_contains_box_metrics(masks):
    ground_truths, found = masks
    predictions, annotated = annotations(ground_truths, found)
    report = score_predictions(predictions, annotated, intervals=False)
    np.testing.assert_allclose(
        coco_metrics(report), pycocotools_eval(ground_truths, found).stats, rtol=0, atol=1e-12
    )
    sized = replace(
        ground_truths, masks=None
    )  # the area of a ground truth is its mask's, even if boxes are compared
    box = found.boxes[:, 2:] - found.boxes[:, :2]
    plain = replace(found, masks=None, area=box.prod(1))
    np.testing.assert_allclose(
        coco_metrics(report, "box_"),
        pycocotools_eval(sized, plain).stats,
        rtol=0,
        atol=1e-12,
    )


def test_score_predictions_label_without_objects_is_undefined(boxes):
    ground_truths, found = boxes
    rows = match_detections(found, ground_truths)
    hit = (rows.detections.label == 2) & (rows.outcome[:, 0, 0] == TRUE_POSITIVE)
    one = rows.detections.image[hit][0]  # chips remain in one image only, cracks in none
    kept = [(side.label < 2) | ((side.label == 2) & (side.image == one)) for side in (ground_truths, found)]
    predictions, annotated = annotations(ground_truths.take(kept[0]), found.take(kept[1]), thresholds=0.0)
    report = score_predictions(predictions, annotated, resamples=100)
    crack, chip = report.of_label("crack"), report.of_label("chip")
    assert all(metric.value is None and metric.low is None for metric in crack.metrics.values())
    # Chips are undefined in resamples without that image, so that these do not extend the interval to 0.
    assert chip.metrics["recall"].low == chip.metrics["recall"].value > 0
    page = render(report)
    assert page.count('<div class="label-row">') == 3


def test_score_predictions_uses_the_area_of_the_annotation(boxes):
    ground_truths, found = boxes
    predictions, annotated = annotations(ground_truths, found)
    stated = replace(ground_truths, area=np.where(ground_truths.area > 500, 100.0, ground_truths.area))
    rows = [np.flatnonzero(stated.image == i) for i in range(stated.images)]
    annotated = [replace(t, areas=stated.area[r]) for t, r in zip(annotated, rows, strict=True)]
    report = score_predictions(predictions, annotated, intervals=False)
    np.testing.assert_allclose(
        coco_metrics(report), pycocotools_eval(stated, found).stats, rtol=0, atol=1e-12
    )
    assert report.value("ap_large") is None
    half = [
        replace(t, areas=np.full(len(t), np.nan)) for t in annotated
    ]  # no area is given: the area of the box
    plain = score_predictions(predictions, half, intervals=False)
    np.testing.assert_allclose(
        coco_metrics(plain), pycocotools_eval(ground_truths, found).stats, rtol=0, atol=1e-12
    )


def test_score_predictions_label_map_keeps_flags_aligned(boxes):
    ground_truths, found = boxes
    predictions, annotated = annotations(ground_truths, found)
    flagged = [replace(t, truncated=np.ones(len(t), bool), areas=np.ones(len(t))) for t in annotated]
    report = score_predictions(predictions, flagged, intervals=False, label_map={"chip": ""})
    assert [row.label for row in report.label_rows] == ["dent", "scratch", "crack"]


def test_score_predictions_of_detection_on_masks_but_not_the_reverse(masks):
    ground_truths, found = masks
    predictions, _ = annotations(ground_truths, found, task=Task.DETECTION)
    _, outlines = annotations(ground_truths, found)
    assert score_predictions(predictions, outlines, intervals=False).value("ap") > 0
    with_masks, plain = (
        annotations(ground_truths, found)[0],
        annotations(ground_truths, found, task=Task.DETECTION)[1],
    )
    with raises("wrong-task", "segmentation", "detection"):
        score_predictions(with_masks, plain)


def test_score_predictions_precision_and_recall_use_the_models_thresholds(boxes):
    ground_truths, found = boxes
    low = score_predictions(*annotations(ground_truths, found, thresholds=0.1), intervals=False)
    high = score_predictions(*annotations(ground_truths, found, thresholds=0.8), intervals=False)
    assert high.value("precision") > low.value("precision")
    assert high.value("recall") < low.value("recall")
    assert high.value("ap") == low.value("ap")
    assert high.of_label("dent").predicted < low.of_label("dent").predicted


def test_choose_object_thresholds_have_the_best_f1(boxes):
    from blemish.evaluation.matched_objects import match_objects

    ground_truths, found = boxes
    predictions, annotated = annotations(ground_truths, found)
    chosen = choose_object_thresholds(match_objects(predictions, annotated))
    at = score_predictions([replace(p, thresholds=chosen) for p in predictions], annotated, intervals=False)
    for i, row in enumerate(at.label_rows):
        for other in np.linspace(0.05, 0.98, 30):
            thresholds = chosen.copy()
            thresholds[i] = other
            moved = score_predictions(
                [replace(p, thresholds=thresholds) for p in predictions], annotated, intervals=False
            )
            assert moved.label_rows[i].metrics["f1"].value <= row.metrics["f1"].value + 1e-12


def test_report_names_labels_that_are_not_reliable(boxes, tmp_path):
    ground_truths, found = boxes
    predictions, annotated = annotations(ground_truths, found)
    marked = [replace(p, unreliable=("dent",)) for p in predictions]
    report = score_predictions(marked, annotated, intervals=False)
    assert [row.label for row in report.label_rows if not row.reliable] == ["dent"]
    assert [row["label"] for row in report.to_dict()["labels"] if not row["reliable"]] == ["dent"]


def test_choose_object_thresholds_of_a_barely_learned_label(boxes):
    from blemish.evaluation.matched_objects import match_objects

    ground_truths, found = boxes
    predictions, annotated = annotations(ground_truths, found)
    faint = [replace(p, scores=p.scores * 1e-3) for p in predictions]
    chosen = choose_object_thresholds(match_objects(faint, annotated))
    assert chosen == pytest.approx(0.5)
    some = [replace(p, scores=np.where(np.arange(len(p)) == 0, p.scores, 1e-3)) for p in predictions]
    assert (choose_object_thresholds(match_objects(some, annotated)) >= 0.05).all()


def test_score_predictions_ignores_detections_of_labels_missing_from_the_data_set(boxes):
    ground_truths, found = boxes
    predictions, annotated = annotations(ground_truths, found)
    fewer = Labels(("scratch", "dent"))
    turned = {0: 1, 1: 0}
    renamed = []
    for ground_truth in annotated:
        kept = np.flatnonzero(ground_truth.label_index < 2)
        renamed.append(
            GroundTruth(
                task=ground_truth.task,
                labels=fewer,
                label_index=np.array([turned[int(ground_truth.label_index[i])] for i in kept]),
                boxes_xyxy=ground_truth.boxes_xyxy[kept],
                crowd=ground_truth.crowd[kept],
                size_hw=SIZE_HW,
            )
        )
    whole, part = (
        score_predictions(predictions, annotated, intervals=False),
        score_predictions(predictions, renamed, intervals=False),
    )
    assert [row.label for row in part.label_rows] == ["dent", "scratch"]
    for name in ("dent", "scratch"):
        assert part.of_label(name) == whole.of_label(name)
    assert "chip, crack" in part.warnings[0].text


def test_top_errors_of_objects_are_described(boxes):
    report = score_predictions(*annotations(*boxes), intervals=False)
    assert report.top_errors
    assert all(0 < m.severity <= 1 for m in report.top_errors)
    assert any("missed:" in m.description for m in report.top_errors)
    assert any("false positive:" in m.description for m in report.top_errors)


def test_score_predictions_without_objects_and_without_detections():
    shared: dict[str, Any] = {
        "task": Task.DETECTION,
        "labels": LABELS,
        "label_index": [],
        "boxes_xyxy": np.zeros((0, 4)),
    }
    ground_truth = GroundTruth(**shared)
    prediction = Prediction(
        **shared, scores=np.array([]), label_scores=np.zeros(4), thresholds=np.full(4, 0.5)
    )
    report = score_predictions([prediction] * 3, [ground_truth] * 3, resamples=20)
    assert report.value("ap") is None
    assert report.value("f1") == 0
    assert report.top_errors == ()
    assert "AP" in render(report)


def test_render_detection_and_segmentation(boxes, masks):
    for scene in (boxes, masks):
        page = render(score_predictions(*annotations(*scene), resamples=30))
        for heading in ("Confusion matrix", "Cost of each type of error", "COCO metrics"):
            assert f">{heading}</h" in page
        assert page.count("<svg") > 10


def test_compare_sample_of_objects():
    shared: dict[str, Any] = {"task": Task.DETECTION, "labels": LABELS, "size_hw": SIZE_HW}
    ground_truth = GroundTruth(
        **shared,
        label_index=np.array([0, 1, 1]),
        boxes_xyxy=np.array([[0, 0, 10, 10], [50, 50, 60, 60], [0, 90, 9, 99]]),
    )
    prediction = Prediction(
        **shared,
        label_index=np.array([0, 2, 1]),
        boxes_xyxy=np.array([[0, 0, 10, 8], [100, 100, 110, 110], [50, 50, 60, 60]]),
        scores=np.array([0.9, 0.8, 0.3]),
        label_scores=np.array([0.9, 0.3, 0.8, 0]),
        thresholds=np.full(4, 0.5),
    )
    lines = compare_sample(ground_truth, prediction)
    assert lines == compare_objects(ground_truth, prediction)
    assert lines[0] == "dent at (0, 0, 10, 10): detected, score 0.9000, IoU 0.800"
    assert lines[1].endswith(
        "missed; the closest detection has IoU 1.000 and score 0.3000, below the threshold"
    )
    assert lines[2] == "scratch at (0, 90, 9, 99): missed"
    assert lines[3] == "chip at (100, 100, 110, 110): false positive, score 0.8000, best IoU 0.000"


def one_box(box, kind):
    shared: dict[str, Any] = {
        "task": Task.LOCALIZATION,
        "labels": Labels(("raccoon",)),
        "label_index": [0],
        "size_hw": SIZE_HW,
    }
    if kind is GroundTruth:
        return GroundTruth(**shared, boxes_xyxy=np.array([box]))
    return Prediction(
        **shared,
        boxes_xyxy=np.array([box]),
        scores=np.array([1]),
        label_scores=np.array([1]),
        thresholds=np.array([0.5]),
    )


def test_score_predictions_of_localization():
    ground_truths = [one_box(b, GroundTruth) for b in ([0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 10, 10])]
    predictions = [one_box(b, Prediction) for b in ([0, 0, 10, 5], [20, 20, 40, 40], [50, 50, 60, 60])]
    report = score_predictions(predictions, ground_truths, ids=["a", "b", "c"], resamples=50)
    assert report.value("mean_iou") == pytest.approx((0.5 + 1 + 0) / 3)
    assert report.value("iou_50") == pytest.approx(2 / 3)
    assert report.value("error_height") == pytest.approx((5 + 0 + 5) / 3)
    assert report.settings["zero_ground_truths"] == 2
    assert report.warnings[0].kind == "note" and report.warnings[0].text.startswith("2 ")
    assert [m.id for m in report.top_errors] == ["c", "a", "b"]
    assert "<h2>Overlap of the boxes</h2>" in render(report)
    lines = compare_sample(ground_truths[0], predictions[0])
    assert lines[3] == "height: ground truth 10.0, prediction 5.0, absolute error 5.0 px"
    assert lines[-1].startswith("IoU 0.500, relative accuracy 75.0 %")
    two = replace(
        ground_truths[0],
        label_index=[0, 0],
        boxes_xyxy=[[0, 0, 1, 1]] * 2,
        crowd=[],
        difficult=[],
        truncated=[],
    )
    with raises("bad-input.number-of-boxes", "a: ", 2):
        score_predictions(predictions[:1], [two], ids=["a"])


def test_label_rows_of_segmentation_contain_box_ap(masks):
    of_masks = score_predictions(*annotations(*masks), intervals=False)
    by_boxes = score_predictions(*annotations(*masks, task=Task.DETECTION), intervals=False)
    for masked, boxed in zip(of_masks.label_rows, by_boxes.label_rows, strict=True):
        assert masked.metrics["box_ap"].value == boxed.metrics["ap"].value
        assert "box_ap" not in boxed.metrics


def test_score_predictions_of_a_single_group_has_no_interval(boxes):
    """All resamples would be equal, and the interval would have the width 0."""
    predictions, annotated = annotations(*boxes)
    report = score_predictions(predictions, annotated, groups=["one car"] * len(annotated), resamples=20)
    assert report.metrics["ap"].low is None and report.settings["resamples"] == 0
    two = score_predictions(
        predictions, annotated, groups=["one car"] + ["another"] * (len(annotated) - 1), resamples=20
    )
    assert two.metrics["ap"].low is not None
