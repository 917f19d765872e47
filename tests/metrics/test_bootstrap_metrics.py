"""Detection metrics counted from stored matches: resamples and confidence thresholds."""

import numpy as np
import pytest
from tests.metrics.scenes import pycocotools_eval, random_scene, row, scene

from blemish.metrics.average_precision import RECALLS, accumulate
from blemish.metrics.bootstrap_metrics import (
    _required_true_positives,
    count_at_thresholds,
    image_presence,
    label_average_precision,
    label_metrics,
)
from blemish.metrics.classification import mean_of_defined
from blemish.metrics.coco_matches import FALSE_POSITIVE, TRUE_POSITIVE, match_detections
from blemish.metrics.tide import object_confusion


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("seed", range(3))
def test_label_metrics_equal_pycocotools_on_repeated_images(seed, levels):
    ground_truths, detections = random_scene(seed, images=20, levels=levels)
    matches = match_detections(detections, ground_truths)
    rng = np.random.default_rng(seed)
    weights = np.stack([np.bincount(rng.integers(0, 20, 20), minlength=20) for _ in range(4)], 1)
    weights[:, 3] = 0
    weights[0, 3] = 5  # some labels disappear
    if levels:  # copies of one detection are adjacent here, but not in repeated images with ties
        weights = np.minimum(weights, 1)
    ours = label_average_precision(matches, weights)
    for column in range(4):
        evaluation = pycocotools_eval(ground_truths, detections, weights[:, column])
        twelve = [mean_of_defined(values)[column] for values in label_metrics(matches, weights).values()]
        np.testing.assert_allclose(np.nan_to_num(twelve, nan=-1), evaluation.stats, rtol=0, atol=1e-12)
        reference = evaluation.eval["precision"][:, :, :, 0, -1]
        expected = np.where(reference[:, 0] < 0, np.nan, reference.mean(1)).T
        np.testing.assert_allclose(ours[:, :, column], expected, rtol=0, atol=1e-12)
    whole = label_average_precision(matches, np.ones((20, 1)))[:, :, 0].mean(1)
    np.testing.assert_allclose(whole, accumulate(matches).per_label("ap"), rtol=0, atol=1e-12)


def test_label_average_precision_does_not_depend_on_chunks(monkeypatch):
    ground_truths, detections = random_scene(1)
    matches, weights = (
        match_detections(detections, ground_truths),
        np.random.default_rng(0).integers(0, 3, (30, 11)),
    )
    expected = label_average_precision(matches, weights)
    monkeypatch.setattr("blemish.metrics.bootstrap_metrics.CHUNK_CELLS", 50)
    np.testing.assert_array_equal(label_average_precision(matches, weights), expected)


def test_count_at_thresholds_equals_counts_of_filtered_detections():
    ground_truths, detections = random_scene(3)
    thresholds = np.array([0.2, 0.5, 0.8, 0.4])
    weights = np.random.default_rng(0).integers(0, 3, (30, 2)).astype(float)
    ours = count_at_thresholds(match_detections(detections, ground_truths), thresholds, weights)
    left = match_detections(detections.take(detections.score >= thresholds[detections.label]), ground_truths)
    for label in range(4):
        for column in range(2):
            w = weights[left.detections.image, column] * (left.detections.label == label)
            assert ours.true_positives[label, column] == w[left.outcome[:, 0, 0] == TRUE_POSITIVE].sum()
            assert ours.false_positives[label, column] == w[left.outcome[:, 0, 0] == FALSE_POSITIVE].sum()
    plain = count_at_thresholds(match_detections(detections, ground_truths), thresholds, np.ones((30, 1)))
    np.testing.assert_array_equal(plain.support[:, 0], left.positives)


def test_image_presence_of_any_detection_and_any_object():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 9, 9))], [row(0, 1, (0, 0, 9, 9), 0.4), row(1, 0, (0, 0, 9, 9), 0.6)]
    )
    predicted, true = image_presence(match_detections(detections, ground_truths), np.array([0.5, 0.3]))
    assert predicted.tolist() == [True, True]
    assert true.tolist() == [True, False]
    assert image_presence(match_detections(detections, ground_truths), np.array([0.9, 0.9]))[0].tolist() == [
        False,
        False,
    ]


def test_required_true_positives_equal_a_search_over_rounded_quotients():
    positives = np.arange(1, 301)
    required = _required_true_positives(positives)
    for column, whole in enumerate(positives):
        reached = np.arange(whole + 1) / whole >= RECALLS[:, None]
        np.testing.assert_array_equal(required[:, column], reached.argmax(1))


def test_count_at_thresholds_and_image_presence_include_a_score_equal_to_the_threshold():
    square = (0, 0, 9, 9)
    ground_truths, found = scene([row(0, 0, square)], [row(0, 0, square, 0.5), row(1, 0, square, 0.5)])
    matches, thresholds = match_detections(found, ground_truths), np.array([0.5, 0.5])
    counts = count_at_thresholds(matches, thresholds, np.ones((2, 1)))
    assert counts.true_positives[0, 0] == 1 and counts.false_positives[0, 0] == 1
    assert image_presence(matches, thresholds)[0].tolist() == [True, True]
    assert object_confusion(matches, thresholds).matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
