import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from blemish.metrics.threshold_evidence import label_evidence, wilson_interval
from blemish.metrics.thresholds import choose_thresholds

# 50 images of each score, so that F1 is counted and not expected
SCORES = np.repeat([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4], [0.3]], 50, 0)
POSITIVE = np.repeat([[True], [False], [True], [True], [False], [True], [False]], 50, 0)


@pytest.mark.parametrize(
    ("min_precision", "expected"),
    [(None, 0.35), (0.6, 0.35), (0.7, 0.55), (0.75, 0.55), (0.8, 0.85), (0.99, 0.85)],
)
def test_the_best_f1_is_sought_among_thresholds_that_are_precise_enough(min_precision, expected):
    chosen = choose_thresholds(SCORES, POSITIVE, min_precision=min_precision)
    assert chosen.tolist() == [pytest.approx(expected)]


def test_a_label_that_cannot_be_precise_enough_gets_its_most_precise_threshold():
    positive = np.repeat([[False], [True], [False], [True], [True], [False], [False]], 50, 0)
    chosen = choose_thresholds(SCORES, positive, min_precision=0.9)
    (evidence,) = label_evidence(SCORES, positive, chosen, min_precision=0.9)
    assert chosen.tolist() == [pytest.approx(0.45)]
    assert (evidence.correct, evidence.predicted, evidence.positives) == (150, 250, 150)
    assert not evidence.reliable


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_evidence_counts_what_the_threshold_decides(rows, min_precision):
    scores = np.array([[score] for score, _ in rows])
    positive = np.array([[positive] for _, positive in rows])
    chosen = choose_thresholds(scores, positive, min_precision=min_precision)
    (evidence,) = label_evidence(scores, positive, chosen, min_precision=min_precision)
    decided = scores[:, 0] >= chosen[0]
    assert evidence.predicted == decided.sum()
    assert evidence.correct == (decided & positive[:, 0]).sum()
    assert evidence.threshold_low <= chosen[0] <= evidence.threshold_high
    assert evidence.precision_low <= evidence.correct / max(evidence.predicted, 1) <= evidence.precision_high
    assert evidence.reliable == bool(decided.any() and positive[decided].mean() >= min_precision)


def test_few_positives_leave_the_threshold_uncertain():
    rng = np.random.default_rng(0)

    def width(n):
        positive = rng.random((n, 1)) < 0.2
        scores = np.clip(rng.normal(0.35 + 0.25 * positive, 0.15), 0, 1)
        (evidence,) = label_evidence(scores, positive, choose_thresholds(scores, positive))
        return evidence.threshold_high - evidence.threshold_low

    assert width(40) > 2 * width(4000)


def test_images_of_one_group_are_resampled_together():
    rng = np.random.default_rng(1)
    positive = np.repeat(rng.random((12, 1)) < 0.4, 20, 0)
    scores = np.clip(np.repeat(rng.normal(0.4, 0.2, (12, 1)) + 0.1 * positive[::20], 20, 0), 0, 1)
    scores += rng.uniform(0, 1e-3, scores.shape)
    chosen = choose_thresholds(scores, positive)
    alone, grouped = (
        label_evidence(scores, positive, chosen, groups=g)[0] for g in (None, np.repeat(np.arange(12), 20))
    )
    assert grouped.threshold_high - grouped.threshold_low > alone.threshold_high - alone.threshold_low


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (3, 17), (250, 1000)])
def test_wilson_interval_equals_scipys(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_rare_labels_have_an_interval_of_thresholds_by_expected_f1():
    rng = np.random.default_rng(7)
    scores = rng.beta(0.4, 4.0, (150, 1))
    positive = rng.random((150, 1)) < scores
    (evidence,) = label_evidence(scores, positive, choose_thresholds(scores, positive))
    (counted,) = label_evidence(
        np.repeat(scores, 30, 0),
        np.repeat(positive, 30, 0),
        np.array([0.5]),
        groups=np.repeat(np.arange(150), 30),
    )
    rare, common = (e.threshold_high - e.threshold_low for e in (evidence, counted))
    assert 0 < rare < common
