"""COCO metrics against pycocotools, on scenes that test each rule."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.scenes import objects, pycocotools_eval, random_scene, row, scene

from blemish.geometry import rle_from_text
from blemish.metrics.average_precision import COCO_METRICS, accumulate
from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE, match_detections

NAMES = list(COCO_METRICS)


def assert_equal_to_pycocotools(ground_truths, detections):
    """Compare every cell of precision and recall, and the twelve metrics, to 1e-12."""
    reference = pycocotools_eval(ground_truths, detections)
    ours = accumulate(match_detections(detections, ground_truths))
    precision = reference.eval["precision"]  # (t, 101, L, a, m)
    expected = np.where(precision[..., -1] < 0, np.nan, precision[..., -1]).transpose(2, 3, 0, 1)
    np.testing.assert_allclose(ours.precision, expected, rtol=0, atol=1e-12)
    recall = reference.eval["recall"]  # (t, L, a, m)
    expected = np.where(recall < 0, np.nan, recall).transpose(1, 2, 0, 3)
    np.testing.assert_allclose(ours.recall, expected, rtol=0, atol=1e-12)
    stats = np.where(reference.stats < 0, np.nan, reference.stats)
    np.testing.assert_allclose([ours.metric(n) for n in NAMES], stats, rtol=0, atol=1e-12)
    return ours


@pytest.mark.parametrize("levels", [None, 5], ids=["scores differ", "scores tie"])
@pytest.mark.parametrize("seed", range(6))
def test_accumulate_boxes(seed, levels):
    ground_truths, detections = random_scene(seed, levels=levels, whole=seed % 2 == 0)
    ours = assert_equal_to_pycocotools(ground_truths, detections)
    assert 0.05 < ours.metric("ap") < 0.95  # neither trivial nor hopeless


@pytest.mark.parametrize("seed", range(3))
def test_accumulate_masks(seed):
    ground_truths, detections = random_scene(seed, masks=True, images=12, levels=20)
    ours = assert_equal_to_pycocotools(ground_truths, detections)
    assert 0.05 < ours.metric("ap") < 0.95


def test_match_detections_a_crowd_is_matched_by_many_and_counts_for_none():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 100, 100), crowd=1), row(0, 0, (10, 10, 50, 50))],
        [row(0, 0, (10, 10, 50, 50), 0.9), row(0, 0, (0, 0, 40, 40), 0.8), row(0, 0, (60, 60, 90, 90), 0.7)],
    )
    assert_equal_to_pycocotools(ground_truths, detections)
    assert match_detections(detections, ground_truths).outcome[:, 0, 0].tolist() == [
        TRUE_POSITIVE,
        IGNORED,
        IGNORED,
    ]


def test_match_detections_prefers_a_free_object_to_a_crowd_with_a_larger_iou():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 40, 40), crowd=1), row(0, 0, (0, 0, 40, 60))], [row(0, 0, (0, 0, 40, 40), 0.9)]
    )
    assert_equal_to_pycocotools(ground_truths, detections)
    assert match_detections(detections, ground_truths).outcome[0, 0, 0] == TRUE_POSITIVE


def test_match_detections_counts_an_iou_equal_to_the_threshold():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 20, 10)), row(1, 0, (0, 0, 40, 10))],
        [row(0, 0, (0, 0, 10, 10), 0.9), row(1, 0, (0, 0, 30, 10), 0.8)],  # .5 and .75
    )
    assert_equal_to_pycocotools(ground_truths, detections)
    outcome = match_detections(detections, ground_truths).outcome[:, 0]
    assert outcome[0, 0] == TRUE_POSITIVE and outcome[0, 1] != TRUE_POSITIVE
    assert outcome[1, 5] == TRUE_POSITIVE and outcome[1, 6] != TRUE_POSITIVE
    same = scene([row(0, 0, (0, 0, 20, 10))], [row(0, 0, (0, 0, 20, 10), 0.9)])
    assert_equal_to_pycocotools(*same)


def test_match_detections_takes_the_later_of_two_objects_with_equal_iou():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 20, 20)), row(0, 0, (10, 0, 30, 20))],
        [row(0, 0, (5, 0, 25, 20), 0.9), row(0, 0, (0, 0, 20, 20), 0.8)],
    )
    assert_equal_to_pycocotools(ground_truths, detections)
    assert match_detections(detections, ground_truths).matched.tolist() == [1, 0]


def test_match_detections_keeps_the_best_hundred_per_image_and_label():
    rng = np.random.default_rng(0)
    far = [
        row(0, 0, (i % 12 * 16, i // 12 * 16, i % 12 * 16 + 15, i // 12 * 16 + 15), rng.random())
        for i in range(140)
    ]
    ground_truths, detections = scene([row(0, 0, r[2:6]) for r in far[::3]] + [row(1, 1, (0, 0, 9, 9))], far)
    assert_equal_to_pycocotools(ground_truths, detections)
    assert len(match_detections(detections, ground_truths).detections) == 100


def test_accumulate_labels_without_ground_truth_or_without_detections():
    ground_truths, detections = scene([row(0, 0, (0, 0, 50, 50))], [row(0, 1, (0, 0, 50, 50), 0.9)], labels=3)
    ours = assert_equal_to_pycocotools(ground_truths, detections)
    assert ours.per_label("ap50")[0] == 0
    assert np.isnan(ours.per_label("ap50")[1:]).all()


def test_match_detections_areas_on_a_border_belong_to_both_ranges():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 32, 32)), row(1, 0, (0, 0, 96, 96))],
        [
            row(0, 0, (0, 0, 32, 32), 0.9),
            row(1, 0, (0, 0, 96, 96), 0.8),
            row(1, 0, (100, 100, 133, 133), 0.95),
        ],
    )
    assert_equal_to_pycocotools(ground_truths, detections)


def test_match_detections_uses_the_area_of_the_annotation():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 100, 100)), row(1, 0, (0, 0, 100, 100))],
        [row(0, 0, (0, 0, 100, 90), 0.9), row(1, 0, (0, 0, 90, 100), 0.8)],
        areas=[900.0, 5000.0],
    )
    ours = assert_equal_to_pycocotools(ground_truths, detections)
    assert np.isnan(ours.metric("ap_large"))


def test_overlapping_pairs_of_points_and_lines():
    ground_truths, detections = scene(
        [row(0, 0, (5, 5, 5, 5)), row(0, 0, (0, 0, 30, 30))],
        [row(0, 0, (5, 5, 5, 5), 0.9), row(0, 0, (0, 0, 30, 30), 0.5), row(0, 0, (3, 3, 3, 20), 0.8)],
    )
    assert_equal_to_pycocotools(ground_truths, detections)


def test_accumulate_without_objects_and_without_detections():
    ours = accumulate(match_detections(*reversed(scene([], []))))
    assert np.isnan(ours.metric("ap"))
    ground_truths, detections = scene([row(0, 0, (0, 0, 9, 9))], [])
    assert accumulate(match_detections(detections, ground_truths)).metric("ap") == 0
    ground_truths, detections = scene([], [row(0, 0, (0, 0, 9, 9), 0.5)])
    assert np.isnan(accumulate(match_detections(detections, ground_truths)).metric("ar_100"))


corner = st.integers(0, 4)
box = st.tuples(corner, corner, st.integers(0, 3), st.integers(0, 3)).map(
    lambda b: (20 * b[0], 20 * b[1], 20 * (b[0] + b[2]), 20 * (b[1] + b[3]))
)
place = st.tuples(st.integers(0, 1), st.integers(0, 1), box)
ground_truth_rows = st.lists(
    st.builds(lambda p, crowd: row(p[0], p[1], p[2], 1.0, crowd), place, st.booleans()), max_size=6
)
found_rows = st.lists(
    st.builds(lambda p, s: row(p[0], p[1], p[2], s), place, st.sampled_from([0.25, 0.5, 0.75])), max_size=8
)


@settings(max_examples=150, deadline=None)
@given(ground_truth_rows, found_rows)
def test_accumulate_any_scene_on_a_coarse_grid(ground_truth_rows, found_rows):
    """Boxes that coincide, touch, contain each other or have no area, with tied scores."""
    if found_rows:  # pycocotools cannot load an empty list
        assert_equal_to_pycocotools(*scene(ground_truth_rows, found_rows))


def test_accumulate_comparison_fails_with_a_broken_rule(monkeypatch):
    """The scenes distinguish the rules: with a rule broken on purpose, the comparison fails."""
    ground_truths, detections = random_scene(0)
    monkeypatch.setattr("blemish.metrics.average_precision.RECALLS", np.linspace(0, 1, 101)[::-1])
    with pytest.raises(AssertionError):
        assert_equal_to_pycocotools(ground_truths, detections)
    monkeypatch.undo()
    without_crowds = random_scene(0)[0]
    without_crowds.crowd[:] = False
    expected = accumulate(match_detections(detections, ground_truths)).metric("ap")
    assert accumulate(match_detections(detections, without_crowds)).metric("ap") != pytest.approx(
        expected, abs=1e-6
    )


COCO_EVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_eval"


@pytest.mark.skipif(not COCO_EVAL.exists(), reason="COCO's fake results are not next to the checkout")
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_accumulate_coco_fake_results(kind):
    """All 24 metrics equal those of COCO's code for its own fake detections, to 1e-12."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(COCO_EVAL / "instances_val2014_100.json"))
        name = f"instances_val2014_fake{'bbox' if kind == 'bbox' else 'segm'}100_results.json"
        results = ground_truth.loadRes(json.loads((COCO_EVAL / name).read_text()))
        reference = COCOeval(ground_truth, results, kind)
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    images = {image: i for i, image in enumerate(sorted(ground_truth.getImgIds()))}
    categories = {category: i for i, category in enumerate(sorted(ground_truth.getCatIds()))}

    def side(api):
        rows, areas, masks = [], [], []
        for annotation in api.dataset["annotations"]:
            x, y, w, h = annotation["bbox"]
            place = (images[annotation["image_id"]], categories[annotation["category_id"]])
            scored = (annotation.get("score", 1), annotation.get("iscrowd", 0), 0)
            rows.append([*place, x, y, x + w, y + h, *scored])
            areas.append(annotation["area"])
            if kind == "segm":
                rle = api.annToRLE(annotation)
                masks.append(rle_from_text(rle["counts"], tuple(rle["size"])))
        return objects(rows, len(images), len(categories), areas=areas, masks=masks or None)

    ours = accumulate(match_detections(side(results), side(ground_truth)))
    np.testing.assert_allclose([ours.metric(n) for n in NAMES], reference.stats, rtol=0, atol=1e-12)
    assert ours.metric("ap") == pytest.approx({"bbox": 0.505, "segm": 0.320}[kind], abs=5e-4)


@pytest.mark.skipif(not COCO_EVAL.exists(), reason="COCO's fake results are not next to the checkout")
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_score_predictions_coco_fake_results_of_open_dataset(kind):
    """The same 24 figures with the ground truth read by `open_dataset` and scored by `score_predictions`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from blemish.data import open_dataset
    from blemish.geometry import mask_box
    from blemish.structures import Prediction, Task

    file = COCO_EVAL / "instances_val2014_100.json"
    results = json.loads((COCO_EVAL / f"instances_val2014_fake{kind}100_results.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(file))
        reference = COCOeval(ground_truth, ground_truth.loadRes(results), kind)
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    dataset = open_dataset(file, missing="keep")
    names = {c["id"]: c["name"] for c in ground_truth.dataset["categories"]}
    sample_of = {sample.path.name: sample for sample in dataset}
    predictions, ground_truths = [], []
    for image in sorted(ground_truth.imgs.values(), key=lambda image: image["id"]):
        rows = [r for r in results if r["image_id"] == image["id"]]
        rows.sort(key=lambda r: -r["score"])
        index = np.array([dataset.labels.index(names[r["category_id"]]) for r in rows], int)
        scores = np.array([r["score"] for r in rows], float)
        masks = None
        if kind == "segm":
            masks = [rle_from_text(r["segmentation"]["counts"], r["segmentation"]["size"]) for r in rows]
            boxes = np.array([mask_box(m) for m in masks]).reshape(-1, 4)
        else:
            boxes = np.array([r["bbox"] for r in rows], float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
        best = np.zeros(len(dataset.labels))
        np.maximum.at(best, index, scores)
        predictions.append(
            Prediction(
                task=Task.DETECTION if masks is None else Task.SEGMENTATION,
                labels=dataset.labels,
                label_index=index,
                scores=scores,
                boxes_xyxy=boxes,
                masks=None if masks is None else tuple(masks),
                size_hw=(image["height"], image["width"]),
                label_scores=best,
                thresholds=np.full(len(dataset.labels), 0.5),
            )
        )
        ground_truths.append(sample_of[image["file_name"]].ground_truth)
    from blemish.evaluation import score_predictions

    report = score_predictions(predictions, ground_truths, intervals=False)
    np.testing.assert_allclose([report.value(n) for n in NAMES], reference.stats, rtol=0, atol=1e-12)


def test_match_detections_at_an_iou_threshold_of_one_tolerates_rounding():
    ground_truths, found = scene([row(0, 0, (0, 0, 20, 10))], [row(0, 0, (0, 0, 20 - 1e-9, 10), 0.9)])
    matches = match_detections(found, ground_truths, ious=np.array([1.0]))
    assert matches.outcome[0, 0, 0] == TRUE_POSITIVE
    ground_truths, found = scene([row(0, 0, (0, 0, 20, 10))], [row(0, 0, (0, 0, 20 - 1e-7, 10), 0.9)])
    assert match_detections(found, ground_truths, ious=np.array([1.0])).outcome[0, 0, 0] != TRUE_POSITIVE


def test_accumulate_precision_equals_pycocotools_bit_for_bit():
    ground_truths, found = random_scene(0)
    precision = pycocotools_eval(ground_truths, found).eval["precision"][..., -1]
    expected = np.where(precision < 0, np.nan, precision).transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(accumulate(match_detections(found, ground_truths)).precision, expected)
