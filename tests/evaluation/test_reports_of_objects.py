import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from scenes import SIZE_HW, pycocotools_eval, random_scene

from blemish.errors import BadInput, WrongTask
from blemish.evaluation import score
from blemish.evaluation.html_report import render
from blemish.evaluation.matched_objects import compare_objects
from blemish.evaluation.sample_report import compare
from blemish.metrics.average_precision import FIGURES
from blemish.metrics.coco_matching import HIT, match
from blemish.metrics.thresholds import choose_object_thresholds
from blemish.structures import GroundTruth, Labels, Prediction, Task

LABELS = Labels(("dent", "scratch", "chip", "crack"))


def annotations(ground_truths, found, *, task=None, thresholds=0.4):
    """The scene's objects as people and models give them, one image each."""
    task = task or (Task.DETECTION if ground_truths.masks is None else Task.SEGMENTATION)
    shared = {"task": task, "labels": LABELS, "size_hw": SIZE_HW}
    out = ([], [])
    for image in range(ground_truths.images):
        for side, annotated in zip((found, ground_truths), out, strict=True):
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
                annotated.append(
                    GroundTruth(**fields, crowd=side.crowd[rows], difficult=side.difficult[rows])
                )
                continue
            best = np.zeros(len(LABELS))
            np.maximum.at(best, side.label[rows], side.score[rows])
            annotated.append(
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


def coco_figures(report, prefix=""):
    """The twelve figures as COCO's code gives them: -1 for one that is not defined."""
    values = [report.value(prefix + name) for name in FIGURES]
    return [-1 if value is None else value for value in values]


def test_a_report_holds_cocos_figures(boxes):
    predictions, ground_truths = annotations(*boxes)
    report = score(predictions, ground_truths, resamples=100)
    reference = pycocotools_eval(*boxes)
    np.testing.assert_allclose(coco_figures(report), reference.stats, rtol=0, atol=1e-12)
    assert report.headline == "ap"
    for name in ("ap", "ap50", "precision", "recall", "f1", "image_f1"):
        figure = report.figures[name]
        assert figure.low <= figure.value <= figure.high, name
        assert figure.low < figure.high, name
    assert report.of_label("dent").figures["ap"].low is not None
    assert sum(report.settings["mistakes"].values()) > 10
    assert report.confusion.rows[-1] == "false alarm"
    assert report.confusion.columns[-1] == "missed"
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_report_of_masks_holds_the_boxes_too(masks):
    ground_truths, found = masks
    predictions, people = annotations(ground_truths, found)
    report = score(predictions, people, intervals=False)
    np.testing.assert_allclose(
        coco_figures(report), pycocotools_eval(ground_truths, found).stats, rtol=0, atol=1e-12
    )
    sized = replace(ground_truths, masks=None)  # truths keep their outlines' areas where boxes are compared
    box = found.boxes[:, 2:] - found.boxes[:, :2]
    plain = replace(found, masks=None, area=box.prod(1))
    np.testing.assert_allclose(
        coco_figures(report, "box_"),
        pycocotools_eval(sized, plain).stats,
        rtol=0,
        atol=1e-12,
    )


def test_a_label_that_occurs_nowhere_has_no_figures_not_even_in_resamples(boxes):
    ground_truths, found = boxes
    rows = match(found, ground_truths)
    hit = (rows.found.label == 2) & (rows.outcome[:, 0, 0] == HIT)
    one = rows.found.image[hit][0]  # all chips that are left; and cracks are nowhere
    kept = [(side.label < 2) | ((side.label == 2) & (side.image == one)) for side in (ground_truths, found)]
    predictions, people = annotations(ground_truths.take(kept[0]), found.take(kept[1]), thresholds=0.0)
    report = score(predictions, people, resamples=100)
    crack, chip = report.of_label("crack"), report.of_label("chip")
    assert all(figure.value is None and figure.low is None for figure in crack.figures.values())
    # Resamples without that image say nothing of chips, and so cannot pull the interval to 0.
    assert chip.figures["recall"].low == chip.figures["recall"].value > 0
    page = render(report)
    assert page.count('<div class="label-row">') == 3


def test_the_area_that_the_data_state_decides_who_is_small(boxes):
    ground_truths, found = boxes
    predictions, people = annotations(ground_truths, found)
    stated = replace(ground_truths, area=np.where(ground_truths.area > 500, 100.0, ground_truths.area))
    rows = [np.flatnonzero(stated.image == i) for i in range(stated.images)]
    people = [replace(t, areas=stated.area[r]) for t, r in zip(people, rows, strict=True)]
    report = score(predictions, people, intervals=False)
    np.testing.assert_allclose(
        coco_figures(report), pycocotools_eval(stated, found).stats, rtol=0, atol=1e-12
    )
    assert report.value("ap_large") is None
    half = [replace(t, areas=np.full(len(t), np.nan)) for t in people]  # nobody says: the box's own
    plain = score(predictions, half, intervals=False)
    np.testing.assert_allclose(
        coco_figures(plain), pycocotools_eval(ground_truths, found).stats, rtol=0, atol=1e-12
    )


def test_labels_left_out_take_every_flag_along(boxes):
    ground_truths, found = boxes
    predictions, people = annotations(ground_truths, found)
    flagged = [replace(t, truncated=np.ones(len(t), bool), areas=np.ones(len(t))) for t in people]
    report = score(predictions, flagged, intervals=False, map_labels={"chip": ""})
    assert [row.label for row in report.label_rows] == ["dent", "scratch", "crack"]


def test_a_detector_can_be_scored_on_outlines_but_not_the_other_way(masks):
    ground_truths, found = masks
    predictions, _ = annotations(ground_truths, found, task=Task.DETECTION)
    _, outlines = annotations(ground_truths, found)
    assert score(predictions, outlines, intervals=False).value("ap") > 0
    with_masks, plain = (
        annotations(ground_truths, found)[0],
        annotations(ground_truths, found, task=Task.DETECTION)[1],
    )
    with pytest.raises(WrongTask):
        score(with_masks, plain)


def test_precision_and_recall_are_taken_at_the_models_thresholds(boxes):
    ground_truths, found = boxes
    low = score(*annotations(ground_truths, found, thresholds=0.1), intervals=False)
    high = score(*annotations(ground_truths, found, thresholds=0.8), intervals=False)
    assert high.value("precision") > low.value("precision")
    assert high.value("recall") < low.value("recall")
    assert high.value("ap") == low.value("ap")
    assert high.of_label("dent").said < low.of_label("dent").said


def test_thresholds_chosen_on_objects_have_the_best_f1(boxes):
    from blemish.evaluation.matched_objects import match_objects

    ground_truths, found = boxes
    predictions, people = annotations(ground_truths, found)
    chosen = choose_object_thresholds(match_objects(predictions, people))
    at = score([replace(p, thresholds=chosen) for p in predictions], people, intervals=False)
    for i, row in enumerate(at.label_rows):
        for other in np.linspace(0.05, 0.98, 30):
            thresholds = chosen.copy()
            thresholds[i] = other
            moved = score([replace(p, thresholds=thresholds) for p in predictions], people, intervals=False)
            assert moved.label_rows[i].figures["f1"].value <= row.figures["f1"].value + 1e-12


def test_a_label_hardly_learned_lets_no_flood_of_boxes_through(boxes):
    from blemish.evaluation.matched_objects import match_objects

    ground_truths, found = boxes
    predictions, people = annotations(ground_truths, found)
    faint = [replace(p, scores=p.scores * 1e-3) for p in predictions]
    chosen = choose_object_thresholds(match_objects(faint, people))
    assert chosen == pytest.approx(0.5)
    some = [replace(p, scores=np.where(np.arange(len(p)) == 0, p.scores, 1e-3)) for p in predictions]
    assert (choose_object_thresholds(match_objects(some, people)) >= 0.05).all()


def test_labels_the_data_do_not_know_are_neither_right_nor_wrong(boxes):
    ground_truths, found = boxes
    predictions, people = annotations(ground_truths, found)
    fewer = Labels(("scratch", "dent"))
    turned = {0: 1, 1: 0}
    renamed = []
    for ground_truth in people:
        kept = np.flatnonzero(ground_truth.label_index < 2)
        renamed.append(
            GroundTruth(
                task=ground_truth.task,
                labels=fewer,
                label_index=[turned[int(ground_truth.label_index[i])] for i in kept],
                boxes_xyxy=ground_truth.boxes_xyxy[kept],
                crowd=ground_truth.crowd[kept],
                size_hw=SIZE_HW,
            )
        )
    whole, part = score(predictions, people, intervals=False), score(predictions, renamed, intervals=False)
    assert [row.label for row in part.label_rows] == ["dent", "scratch"]
    for name in ("dent", "scratch"):
        assert part.of_label(name) == whole.of_label(name)
    assert "chip, crack" in part.stamps[0].text


def test_worst_images_come_first_and_say_why(boxes):
    report = score(*annotations(*boxes), intervals=False)
    assert report.worst
    assert all(0 < m.severity <= 1 for m in report.worst)
    assert any("missed:" in m.what for m in report.worst)
    assert any("false alarm:" in m.what for m in report.worst)


def test_images_without_objects_and_without_detections():
    shared = {"task": Task.DETECTION, "labels": LABELS, "label_index": [], "boxes_xyxy": np.zeros((0, 4))}
    ground_truth = GroundTruth(**shared)
    prediction = Prediction(**shared, scores=[], label_scores=np.zeros(4), thresholds=np.full(4, 0.5))
    report = score([prediction] * 3, [ground_truth] * 3, resamples=20)
    assert report.value("ap") is None
    assert report.value("f1") == 0
    assert report.worst == ()
    assert "AP" in render(report)


def test_the_page_of_each_task_is_drawn(boxes, masks):
    for scene in (boxes, masks):
        page = render(score(*annotations(*scene), resamples=30))
        assert "What the mistakes cost" in page
        assert "COCO" in page
        assert page.count("<svg") > 10


def test_one_image_is_told_in_numbers():
    shared = {"task": Task.DETECTION, "labels": LABELS, "size_hw": SIZE_HW}
    ground_truth = GroundTruth(
        **shared, label_index=[0, 1, 1], boxes_xyxy=[[0, 0, 10, 10], [50, 50, 60, 60], [0, 90, 9, 99]]
    )
    prediction = Prediction(
        **shared,
        label_index=[0, 2, 1],
        boxes_xyxy=[[0, 0, 10, 8], [100, 100, 110, 110], [50, 50, 60, 60]],
        scores=[0.9, 0.8, 0.3],
        label_scores=[0.9, 0.3, 0.8, 0],
        thresholds=np.full(4, 0.5),
    )
    lines = compare(ground_truth, prediction)
    assert lines == compare_objects(ground_truth, prediction)
    assert lines[0] == "dent at (0, 0, 10, 10): found, score 0.9000, IoU 0.800"
    assert lines[1].endswith("missed; the nearest has IoU 1.000 and score 0.3000, below the threshold")
    assert lines[2] == "scratch at (0, 90, 9, 99): missed"
    assert lines[3] == "chip at (100, 100, 110, 110): false alarm, score 0.8000, best IoU 0.000"


def one_box(box, kind):
    shared = {
        "task": Task.LOCALIZATION,
        "labels": Labels(("raccoon",)),
        "label_index": [0],
        "size_hw": SIZE_HW,
    }
    if kind is GroundTruth:
        return GroundTruth(**shared, boxes_xyxy=[box])
    return Prediction(**shared, boxes_xyxy=[box], scores=[1], label_scores=[1], thresholds=[0.5])


def test_localization_report():
    ground_truths = [one_box(b, GroundTruth) for b in ([0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 10, 10])]
    predictions = [one_box(b, Prediction) for b in ([0, 0, 10, 5], [20, 20, 40, 40], [50, 50, 60, 60])]
    report = score(predictions, ground_truths, ids=["a", "b", "c"], resamples=50)
    assert report.value("mean_iou") == pytest.approx((0.5 + 1 + 0) / 3)
    assert report.value("iou_50") == pytest.approx(2 / 3)
    assert report.value("error_height") == pytest.approx((5 + 0 + 5) / 3)
    assert report.settings["zero_truths"] == 2
    assert "2 true coordinates are 0" in report.stamps[0].text
    assert [m.id for m in report.worst] == ["c", "a", "b"]
    assert "How well boxes fit" in render(report)
    lines = compare(ground_truths[0], predictions[0])
    assert lines[3] == "height: truth 10.0, model 5.0, absolute error 5.0 px"
    assert lines[-1].startswith("IoU 0.500, relative accuracy 75.0 %")
    two = replace(
        ground_truths[0],
        label_index=[0, 0],
        boxes_xyxy=[[0, 0, 1, 1]] * 2,
        crowd=[],
        difficult=[],
        truncated=[],
    )
    with pytest.raises(BadInput, match="a: the truth holds 2 boxes"):
        score(predictions[:1], [two], ids=["a"])


def test_models_of_masks_tell_the_ap_of_their_boxes_by_label_too(masks):
    of_masks = score(*annotations(*masks), intervals=False)
    of_boxes = score(*annotations(*masks, task=Task.DETECTION), intervals=False)
    for masked, boxed in zip(of_masks.label_rows, of_boxes.label_rows, strict=True):
        assert masked.figures["box_ap"].value == boxed.figures["ap"].value
        assert "box_ap" not in boxed.figures


def test_images_of_a_single_group_give_no_interval(boxes):
    """Every resample would be the same, and the interval as narrow as certainty."""
    predictions, people = annotations(*boxes)
    report = score(predictions, people, groups=["one car"] * len(people), resamples=20)
    assert report.figures["ap"].low is None and report.settings["resamples"] == 0
    two = score(predictions, people, groups=["one car"] + ["another"] * (len(people) - 1), resamples=20)
    assert two.figures["ap"].low is not None
