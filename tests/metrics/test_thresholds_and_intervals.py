import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from tests.metrics.scenes import row, scene

from blemish.metrics.calibration import fit_offset, log_losses, shift_logits
from blemish.metrics.classification import count_outcomes, weighted_mean
from blemish.metrics.coco_matches import match_detections
from blemish.metrics.intervals import bootstrap, percentile_interval, resample
from blemish.metrics.rank_metrics import Ranking
from blemish.metrics.thresholds import (
    MIN_COUNTED,
    choose_expected_threshold,
    choose_object_thresholds,
    choose_threshold,
    choose_thresholds,
)
from blemish.testing import raises

cells = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40)


@given(cells)
def test_choose_threshold_has_the_best_f1_and_keeps_its_distance_from_scores(rows):
    scores = np.array([r[0] / 20 for r in rows])
    ground_truth = np.array([r[1] for r in rows])
    chosen = choose_threshold(scores, ground_truth)
    assert 0 <= chosen <= 1
    predicted = scores >= chosen
    if ground_truth.any() and scores.any():
        positive = np.unique(scores[scores > 0])
        best = max(f1_score(ground_truth, scores >= t, zero_division=0) for t in positive)
        assert f1_score(ground_truth, predicted, zero_division=0) == pytest.approx(best, abs=1e-12)
    if scores.any():
        assert np.abs(scores - chosen).min() >= 0.0125  # half a step: as far as possible from every score


def test_choose_threshold_takes_the_widest_of_equally_good_gaps():
    scores = np.array([0.9, 0.8, 0.3, 0.25])
    # one positive decision or four: F1 is 2/3 in both cases
    ground_truth = np.array([True, False, False, True])
    assert choose_threshold(scores, ground_truth) == pytest.approx(0.125)
    assert choose_thresholds(np.zeros((0, 2)), np.zeros((0, 2), bool)).tolist() == [0.5, 0.5]


def test_choose_threshold_without_positives_is_in_a_gap():
    assert choose_threshold(np.array([0.5, 0.1]), np.array([False, False])) == pytest.approx(0.3)
    assert choose_threshold(np.array([0.7, 0.1]), np.array([False, False])) == 0.5


def test_choose_threshold_does_not_separate_nearly_equal_scores():
    scores = np.array([0.9, 0.5 + 1e-7, 0.5, 0.1])
    ground_truth = np.array([True, True, False, False])
    chosen = choose_threshold(scores, ground_truth)
    assert np.abs(scores - chosen).min() > 1e-4
    assert choose_threshold(np.array([0.5, 0.5]), np.array([True, False])) == 0.25


def test_choose_threshold_is_lower_with_missed_objects():
    scores = np.array([0.9, 0.6, 0.4])
    ground_truth = np.array([True, False, True])
    assert choose_threshold(scores, ground_truth) == pytest.approx(0.2)
    assert choose_threshold(scores, ground_truth, false_negatives=0) <= choose_threshold(
        scores, ground_truth, false_negatives=50
    )


def test_resample_is_seeded_draws_whole_groups_and_does_not_depend_on_chunks(monkeypatch):
    groups = ["a", "a", "b", "c", "c", "c"]
    drawn = np.concatenate(list(resample(6, groups=groups, resamples=50, seed=3)), axis=1)
    assert drawn.shape == (6, 50)
    assert (drawn[0] == drawn[1]).all() and (drawn[3] == drawn[5]).all()
    assert (drawn[0] + drawn[2] + drawn[3] == 3).all()
    again = np.concatenate(list(resample(6, groups=groups, resamples=50, seed=3)), axis=1)
    assert (drawn == again).all()
    monkeypatch.setattr("blemish.metrics.intervals.CHUNK_CELLS", 6 * 7)
    chunked = list(resample(6, groups=groups, resamples=50, seed=3))
    assert len(chunked) == 8
    assert (np.concatenate(chunked, axis=1) == drawn).all()
    assert (np.concatenate(list(resample(6, resamples=9)), axis=1).sum(0) == 6).all()
    with raises("bad-input.shape", 2, 6):
        list(resample(6, groups=["a", "b"]))


def test_percentile_interval_leaves_out_undefined_values():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    bounds = percentile_interval(values, level=1.0)
    assert bounds[0].tolist() == [1, 3]
    assert np.isnan(bounds[1]).all()


def test_bootstrap_interval_of_a_mean_equals_theory():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    low, high = bootstrap(lambda w: {"m": weighted_mean(values, w)}, 400)["m"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high
    # Ten copies of forty values are forty values, not four hundred.
    copies = np.repeat(values[:40], 10)
    wide = bootstrap(lambda w: {"m": weighted_mean(copies, w)}, 400, groups=np.repeat(np.arange(40), 10))["m"]
    narrow = bootstrap(lambda w: {"m": weighted_mean(copies, w)}, 400)["m"]
    assert np.ptp(wide) > 2.5 * np.ptp(narrow)


def test_weights_equal_repeated_images():
    rng = np.random.default_rng(1)
    scores, ground_truth = rng.random((30, 2)).round(1), rng.random((30, 2)) < 0.4
    weights = next(iter(resample(30, resamples=3)))
    for column in range(3):
        times = weights[:, column].astype(int)
        again = Ranking.of(
            np.repeat(scores[:, 0], times), np.repeat(ground_truth[:, 0], times)
        ).ap_and_auroc()
        ours = Ranking.of(scores[:, 0], ground_truth[:, 0]).ap_and_auroc(weights)
        np.testing.assert_allclose([o[column] for o in ours], again, atol=1e-12)
        predicted = scores > 0.5
        f1 = count_outcomes(np.repeat(predicted, times, 0), np.repeat(ground_truth, times, 0)).f1
        np.testing.assert_allclose(
            count_outcomes(predicted, ground_truth, weights).f1[:, column], f1, atol=1e-12
        )


@pytest.mark.slow
def test_bootstrap_of_ten_thousand_images_takes_seconds():
    rng = np.random.default_rng(0)
    scores, ground_truth = rng.random((10_000, 10)), rng.random((10_000, 10)) < 0.2
    rankings = [Ranking.of(scores[:, i], ground_truth[:, i]) for i in range(10)]
    losses, predicted = log_losses(scores, ground_truth), scores > 0.5

    def everything(weights):
        both = [r.ap_and_auroc(weights) for r in rankings]
        return {
            "f1": count_outcomes(predicted, ground_truth, weights).f1,
            "ap": np.array([b[0] for b in both]),
            "auroc": np.array([b[1] for b in both]),
            "loss": weighted_mean(losses, weights),
        }

    start = time.process_time()
    bootstrap(everything, 10_000)
    assert time.process_time() - start < 30


def test_resample_draws_every_image_and_every_group_equally_often():
    drawn = np.concatenate(list(resample(7, resamples=4000, seed=1)), axis=1)
    np.testing.assert_allclose(drawn.mean(1), 1, atol=0.08)
    np.testing.assert_allclose(drawn.var(1), 6 / 7, atol=0.1)
    groups = np.concatenate(list(resample(3, groups=["c", "a", "b"], resamples=4000, seed=1)), axis=1)
    np.testing.assert_allclose(groups.mean(1), 1, atol=0.08)


def test_choose_object_thresholds_puts_the_smallest_threshold_in_a_gap():
    """At exactly 0.05, rounding in another runtime would change decisions."""
    square, other = (0, 0, 40, 40), (100, 0, 140, 40)
    ground_truths, detections = scene(
        [row(0, 0, square)], [row(0, 0, square, 0.06), row(0, 0, other, 0.0499)]
    )
    assert choose_object_thresholds(match_detections(detections, ground_truths))[0] == pytest.approx(
        (0.06 + 0.0499) / 2
    )
    both = [row(0, 0, square), row(0, 0, other)]
    ground_truths, detections = scene(both, [row(0, 0, other, 0.05 + 1e-7), row(0, 0, square, 0.2)])
    assert choose_object_thresholds(match_detections(detections, ground_truths))[0] == pytest.approx(
        (0.2 + 0.05) / 2, abs=1e-4
    )


def test_choose_object_thresholds_includes_a_score_equal_to_the_smallest_threshold():
    square = (0, 0, 40, 40)
    ground_truths, found = scene([row(0, 0, square)], [row(0, 0, square, 0.05)])
    assert choose_object_thresholds(match_detections(found, ground_truths)).tolist() == [0.05, 0.5]


def test_choose_threshold_takes_the_higher_of_equally_good_and_equally_wide_gaps():
    scores, ground_truth = np.array([1, 0.75, 0.5, 0.25]), np.array([True, False, False, True])
    assert choose_threshold(scores, ground_truth) == 0.875  # F1 is 2/3 for one positive decision and for four


def test_choose_threshold_accepts_a_gap_equal_to_the_smallest_gap():
    scores, ground_truth = np.array([0.75, 0.5]), np.array([True, False])
    assert choose_threshold(scores, ground_truth, min_gap=0.25) == 0.625


def test_choose_threshold_counts_missed_objects_as_false_negatives():
    scores, ground_truth = np.array([0.9, 0.8, 0.7, 0.6, 0.4]), np.array([True, False, False, False, True])
    assert choose_threshold(scores, ground_truth) == pytest.approx(0.85)
    assert choose_threshold(scores, ground_truth, false_negatives=2) == pytest.approx(0.2)


def test_choose_threshold_without_positives_keeps_its_distance_from_scores():
    assert choose_threshold(np.array([0.50005, 0.1]), np.zeros(2, bool)) == pytest.approx(0.300025)


def test_choose_object_thresholds_leaves_out_ignored_detections():
    square, crowd = (0, 0, 40, 40), (100, 0, 140, 40)
    ground_truths, found = scene(
        [row(0, 0, square), row(0, 0, crowd, crowd=1)], [row(0, 0, square, 0.3), row(0, 0, crowd, 0.1)]
    )
    assert choose_object_thresholds(match_detections(found, ground_truths))[0] == pytest.approx(0.15)


def test_choose_expected_threshold_of_calibrated_scores_is_half_of_the_best_f1():
    scores = np.random.default_rng(0).beta(0.5, 2.0, 40_000)
    ground_truth = np.random.default_rng(1).random(len(scores)) < scores
    candidates = np.linspace(0.05, 0.95, 181)
    best = max(f1_score(ground_truth, scores >= c) for c in candidates)
    assert choose_expected_threshold(scores, ground_truth) == pytest.approx(best / 2, abs=0.01)


def test_choose_expected_threshold_varies_less_than_that_of_counted_images():
    random = np.random.default_rng(2)
    counted, expected = [], []
    for _ in range(50):
        scores = random.beta(0.4, 4.0, 150)
        ground_truth = random.random(150) < scores
        counted.append(choose_threshold(scores, ground_truth))
        expected.append(choose_expected_threshold(scores, ground_truth))
    assert np.std(expected) < np.std(counted) / 2


def test_choose_expected_threshold_follows_scores_of_weighted_labels():
    random = np.random.default_rng(3)
    probability = random.beta(0.4, 4.0, 20_000)
    ground_truth = random.random(len(probability)) < probability
    weighted = shift_logits(probability, 2.0)  # as after training with a label weight of e^2
    same = shift_logits(np.array(choose_expected_threshold(probability, ground_truth)), 2.0)
    assert choose_expected_threshold(weighted, ground_truth) == pytest.approx(float(same), abs=0.02)


@given(cells)
def test_choose_expected_threshold_is_in_the_widest_possible_gap(rows):
    scores = np.array([r[0] / 20 for r in rows])
    chosen = choose_expected_threshold(scores, np.array([r[1] for r in rows]))
    assert 0 <= chosen <= 1
    if scores.any():
        assert np.abs(scores - chosen).min() >= 0.0125


def test_choose_expected_threshold_without_positives_and_outside_of_probabilities():
    assert choose_expected_threshold(np.array([0.5, 0.1]), np.zeros(2, bool)) == pytest.approx(0.3)
    with raises("bad-input.scores"):
        choose_expected_threshold(np.array([1.5, 0.1]), np.array([True, False]))


@pytest.mark.parametrize("positives", [MIN_COUNTED - 1, MIN_COUNTED])
def test_choose_thresholds_counts_images_if_there_are_enough(positives):
    scores = np.random.default_rng(4).random((300, 1))
    ground_truth = np.zeros((300, 1), bool)
    ground_truth[np.argsort(-scores[:, 0] + 0.3 * np.random.default_rng(5).random(300))[:positives]] = True
    rule = choose_threshold if positives >= MIN_COUNTED else choose_expected_threshold
    other = choose_expected_threshold if positives >= MIN_COUNTED else choose_threshold
    assert choose_thresholds(scores, ground_truth)[0] == rule(scores[:, 0], ground_truth[:, 0])
    assert choose_thresholds(scores, ground_truth)[0] != other(scores[:, 0], ground_truth[:, 0])


def test_fit_offset_moves_the_mean_score_to_the_frequency():
    scores = np.random.default_rng(6).random(5000)
    ground_truth = np.arange(5000) < 500
    offset = fit_offset(scores, ground_truth)
    assert shift_logits(scores, offset).mean() == pytest.approx(0.1, abs=0.005)
    few = fit_offset(scores[:4], np.zeros(4, bool))
    assert offset < few < 0  # four images move it less
    assert fit_offset(np.zeros(0), np.zeros(0, bool)) == 0


def test_fit_offset_with_weights_equals_repeated_images():
    scores, ground_truth = np.array([0.2, 0.6, 0.9]), np.array([False, True, False])
    weights = np.array([[1.0, 3], [2, 0], [0, 5]])
    repeated = [
        float(fit_offset(np.repeat(scores, n), np.repeat(ground_truth, n))) for n in weights.T.astype(int)
    ]
    assert fit_offset(scores, ground_truth, weights).tolist() == pytest.approx(repeated, abs=1e-9)
