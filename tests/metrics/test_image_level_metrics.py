"""Every image-level metric against scikit-learn, to 1e-12, with and without weights."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from blemish.metrics import calibration, classification, rank_metrics
from blemish.testing import raises

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(params=range(4))
def rng(request):
    return np.random.default_rng(request.param)


def without_warnings(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
def test_count_outcomes_of_single_label_data_equals_scikit_learn(rng, average):
    ground_truth, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    ground_truth[ground_truth == 3] = 0  # label 3 is predicted and never true
    predicted[predicted == 4] = 1  # label 4 is true and never predicted
    weights = rng.integers(0, 4, 200).astype(float)
    ours = classification.count_outcomes(
        classification.one_hot(predicted, 6), classification.one_hot(ground_truth, 6), weights
    )  # label 5: neither
    p, r, f, s = without_warnings(
        reference.precision_recall_fscore_support,
        ground_truth, predicted, labels=range(6), sample_weight=weights, zero_division=0,
    )  # fmt: skip
    np.testing.assert_allclose(ours.precision, p, **EXACT)
    np.testing.assert_allclose(ours.recall, r, **EXACT)
    np.testing.assert_allclose(ours.f1, f, **EXACT)
    np.testing.assert_allclose(ours.support, s, **EXACT)
    kept = weights > 0
    expected = reference.precision_recall_fscore_support(
        ground_truth[kept], predicted[kept], sample_weight=weights[kept], average=average, zero_division=0
    )
    got = ours.average(average)
    np.testing.assert_allclose([got["precision"], got["recall"], got["f1"]], expected[:3], **EXACT)


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
def test_count_outcomes_of_multilabel_data_equals_scikit_learn(rng, average):
    ground_truth, predicted = rng.random((100, 4)) < 0.3, rng.random((100, 4)) < 0.4
    ground_truth[:, 2] = False
    predicted[:, 3] = False
    ours = classification.count_outcomes(predicted, ground_truth).average(average)
    expected = reference.precision_recall_fscore_support(
        ground_truth, predicted, average=average, zero_division=0
    )
    np.testing.assert_allclose([ours["precision"], ours["recall"], ours["f1"]], expected[:3], **EXACT)
    np.testing.assert_allclose(
        classification.exact_match(predicted, ground_truth),
        reference.accuracy_score(ground_truth, predicted),
        **EXACT,
    )


def test_average_macro_leaves_out_labels_that_do_not_occur():
    ground_truth = np.array([[True, False], [False, False]])
    assert classification.count_outcomes(ground_truth, ground_truth).average("macro")["f1"] == 1
    nothing = np.zeros((3, 2), bool)
    assert classification.count_outcomes(nothing, nothing).average("macro")["f1"] == 0
    assert classification.exact_match(nothing[:0], nothing[:0]) == 0


def test_confusion_matrix_equals_scikit_learn(rng):
    ground_truth, predicted = rng.integers(0, 4, 99), rng.integers(0, 4, 99)
    weights = rng.integers(0, 3, (99, 2)).astype(float)
    expected = reference.confusion_matrix(ground_truth, predicted, labels=range(5))
    np.testing.assert_array_equal(classification.confusion_matrix(predicted, ground_truth, 5), expected)
    both = classification.confusion_matrix(predicted, ground_truth, 5, weights)
    for column in range(2):
        expected = reference.confusion_matrix(
            ground_truth, predicted, labels=range(5), sample_weight=weights[:, column]
        )
        np.testing.assert_array_equal(both[:, :, column], expected)


def test_macro_f1_at(rng):
    probabilities = rng.dirichlet(np.ones(3), 50)
    ground_truth = rng.integers(0, 3, 50)
    expected = reference.f1_score(ground_truth, probabilities.argmax(1), average="macro")
    assert classification.macro_f1_at(probabilities, ground_truth) == pytest.approx(expected, abs=1e-12)
    many = rng.random((50, 3)) < 0.5
    expected = reference.f1_score(many, probabilities >= 0.25, average="macro")
    assert classification.macro_f1_at(probabilities, many, 0.25) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [3, 10, None], ids=["many ties", "ties", "no ties"])
def test_ranking_equals_scikit_learn(rng, levels):
    scores = rng.random(150)
    if levels:
        scores = np.round(scores * levels) / levels
    ground_truth = rng.random(150) < 0.3
    weights = rng.integers(0, 4, (150, 5)).astype(float)
    ap, roc = rank_metrics.Ranking.of(scores, ground_truth).ap_and_auroc(weights)
    for column in range(5):
        w = weights[:, column]
        expected = reference.average_precision_score(ground_truth, scores, sample_weight=w)
        np.testing.assert_allclose(ap[column], expected, **EXACT)
        np.testing.assert_allclose(
            roc[column], reference.roc_auc_score(ground_truth, scores, sample_weight=w), **EXACT
        )
    np.testing.assert_allclose(
        rank_metrics.average_precision(scores, ground_truth),
        reference.average_precision_score(ground_truth, scores),
        **EXACT,
    )
    np.testing.assert_allclose(
        rank_metrics.auroc(scores, ground_truth), reference.roc_auc_score(ground_truth, scores), **EXACT
    )


def test_precision_recall_curve_and_roc_curve_equal_scikit_learn(rng):
    scores, ground_truth = np.round(rng.random(80), 1), rng.random(80) < 0.4
    curve = rank_metrics.precision_recall_curve(scores, ground_truth)
    precision, recall, thresholds = reference.precision_recall_curve(ground_truth, scores)
    np.testing.assert_allclose(curve.y, precision[:-1][::-1], **EXACT)
    np.testing.assert_allclose(curve.x, recall[:-1][::-1], **EXACT)
    np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])
    curve = rank_metrics.roc_curve(scores, ground_truth)
    x, y, thresholds = reference.roc_curve(ground_truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.x, x[1:], **EXACT)
    np.testing.assert_allclose(curve.y, y[1:], **EXACT)
    np.testing.assert_array_equal(curve.thresholds, thresholds[1:])


def test_ranking_without_positives_or_negatives():
    scores = np.array([0.1, 0.5])
    assert np.isnan(rank_metrics.average_precision(scores, np.array([False, False])))
    assert rank_metrics.average_precision(scores, np.array([True, True])) == 1
    assert np.isnan(rank_metrics.auroc(scores, np.array([True, True])))
    assert np.isnan(rank_metrics.auroc(scores[:0], np.zeros(0, bool)))
    assert len(rank_metrics.roc_curve(scores, np.array([True, True])).x) == 0
    assert len(rank_metrics.precision_recall_curve(scores, np.array([False, False])).x) == 0
    # Without positives in a resample the metric is NaN; in the other resample it is defined.
    ap, _ = rank_metrics.Ranking.of(scores, np.array([False, True])).ap_and_auroc(
        np.array([[1.0, 1.0], [0.0, 1.0]])
    )
    assert np.isnan(ap[0]) and ap[1] == 1
    with raises("bad-input.not-finite", "score 1", "nan"):
        rank_metrics.auroc(np.array([0.1, np.nan]), np.array([True, False]))


def test_log_losses_and_brier_scores_equal_scikit_learn(rng):
    probabilities = rng.dirichlet(np.ones(4), 60)
    probabilities[0] = [1, 0, 0, 0]
    ground_truth = rng.integers(0, 4, 60)
    ground_truth[0] = 1  # certain and wrong
    np.testing.assert_allclose(
        calibration.log_losses(probabilities, ground_truth).mean(),
        reference.log_loss(ground_truth, probabilities, labels=range(4)),
        **EXACT,
    )
    np.testing.assert_allclose(
        calibration.brier_scores(probabilities, ground_truth).mean(),
        reference.brier_score_loss(ground_truth, probabilities, labels=range(4), scale_by_half=False),
        **EXACT,
    )
    many = rng.random((60, 4)) < 0.5
    expected = [reference.log_loss(many[:, i], probabilities[:, i], labels=[0, 1]) for i in range(4)]
    np.testing.assert_allclose(calibration.log_losses(probabilities, many).mean(), np.mean(expected), **EXACT)
    expected = [reference.brier_score_loss(many[:, i], probabilities[:, i]) for i in range(4)]
    np.testing.assert_allclose(
        calibration.brier_scores(probabilities, many).mean(), np.mean(expected), **EXACT
    )


def test_reliability_equals_a_slow_loop_and_scikit_learn(rng):
    from sklearn.calibration import calibration_curve

    scores = np.append(rng.random(300), [0, 1, 0.2, 1 / 3])
    right = rng.random(304) < scores
    ours = calibration.reliability(scores, right, bins=10)
    accuracy, confidence = calibration_curve(right, scores, n_bins=10)
    filled = ours.counts > 0
    np.testing.assert_allclose(ours.accuracy[filled], accuracy, **EXACT)
    np.testing.assert_allclose(ours.confidence[filled], confidence, **EXACT)
    edges, slow = np.linspace(0, 1, 11), 0.0
    for i in range(10):
        inside = (scores > edges[i]) & (scores <= edges[i + 1]) | ((i == 0) & (scores == 0))
        if inside.any():
            slow += inside.sum() * abs(scores[inside].mean() - right[inside].mean())
    assert calibration.expected_calibration_error(scores, right, bins=10) == pytest.approx(
        slow / 304, abs=1e-12
    )
    weights = rng.integers(0, 3, 304)
    repeated = calibration.expected_calibration_error(np.repeat(scores, weights), np.repeat(right, weights))
    weighted = calibration.reliability(scores, right, weights.astype(float)[:, None]).error
    np.testing.assert_allclose(weighted, [repeated], **EXACT)


@pytest.mark.parametrize("many", [False, True], ids=["softmax", "sigmoid"])
def test_fit_temperature_minimizes_the_log_loss(rng, many):
    from scipy.optimize import minimize_scalar
    from scipy.special import expit, softmax

    logits = rng.normal(size=(400, 3))
    if many:
        ground_truth = rng.random((400, 3)) < expit(logits)
    else:
        ground_truth = np.array([rng.choice(3, p=p) for p in softmax(logits, 1)])
    logits *= 3.0  # three times too confident

    def loss(temperature):
        p = expit(logits / temperature) if many else softmax(logits / temperature, 1)
        return calibration.log_losses(p, ground_truth).mean()

    best = calibration.fit_temperature(logits, ground_truth)
    assert best == pytest.approx(3, rel=0.25)
    reference_best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-10})
    assert best == pytest.approx(reference_best.x, rel=1e-6)
    assert loss(best) <= reference_best.fun + 1e-12


def test_fit_temperature_of_separable_constant_and_empty_data():
    low, high = calibration.TEMPERATURE_LIMITS
    separated = np.array([[3.0, -3.0], [-3.0, 3.0]])
    assert calibration.fit_temperature(separated, np.array([0, 1])) == low
    assert calibration.fit_temperature(separated, np.array([1, 0])) == high
    assert calibration.fit_temperature(separated, separated > 0) == low
    assert calibration.fit_temperature(np.zeros((3, 2)), np.array([0, 1, 1])) == 1
    assert calibration.fit_temperature(np.zeros((0, 2)), np.zeros(0, int)) == 1
    with raises("bad-input.not-finite", "row 0", "inf"):
        calibration.fit_temperature(np.array([[np.inf, 0.0]]), np.array([0]))


def test_apply_thresholds_includes_a_probability_equal_to_the_threshold():
    decided = classification.apply_thresholds(np.array([[0.5, 0.5, 0.4]]), np.array([0.5, 0.6, 0.3]))
    assert decided.tolist() == [[True, False, True]]


def test_fit_temperature_of_a_single_sigmoid_label():
    logits = np.array([[4.0], [4.0], [4.0], [-4.0], [-4.0], [-4.0]])
    ground_truth = np.array([[True], [True], [False], [False], [False], [True]])
    # Each decision is correct 2 times in 3, so that sigmoid(4 / temperature) is 2/3.
    assert calibration.fit_temperature(logits, ground_truth) == pytest.approx(4 / np.log(2))


def test_reliability_has_fifteen_bins_by_default():
    """As in Guo et al. 2017."""
    scores, correct = np.array([1 / 15 - 1e-9, 1 / 15 + 1e-9, 2 / 15 + 1e-9]), np.array([True, False, False])
    counts = calibration.reliability(scores, correct).counts
    assert len(counts) == 15 and counts[:3].tolist() == [1, 1, 1]


def test_fit_temperature_of_wrong_certain_labels_is_the_largest():
    logits = np.array([[9.0, 0.0], [0.0, 9.0]])
    assert calibration.fit_temperature(logits, np.array([1, 0])) == 20
    assert calibration.fit_temperature(logits, np.array([0, 1])) == 0.05


def test_fit_temperature_of_zero_logits_is_one():
    assert calibration.fit_temperature(np.zeros((3, 2)), np.eye(3, 2, dtype=bool)) == 1
    assert calibration.fit_temperature(np.full((3, 2), 4.0), np.array([0, 1, 0])) == 1
