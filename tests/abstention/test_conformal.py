"""Conformal prediction against closed forms, scipy, and simulated exchangeable draws."""

import itertools

import numpy as np
import pytest

from blemish.abstention import coverage_interval, excluded_count, observed_band, possible_sides
from blemish.abstention.conformal import fit_logistic, probability, proportion_interval
from blemish.model_file import LabelScores

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("count, risk", [(0, 0.1), (5, 0.1), (9, 0.1), (19, 0.05), (106, 0.05), (500, 0.29)])
def test_coverage_interval_equals_the_beta_distribution(count, risk):
    low, high = coverage_interval(count, risk)
    excluded = excluded_count(count, risk)
    if excluded == 0:
        assert (low, high) == (1, 1)
        return
    beta = stats.beta(count + 1 - excluded, excluded)
    assert low == pytest.approx(beta.ppf(0.025), abs=1e-9)
    assert high == pytest.approx(beta.ppf(0.975), abs=1e-9)


@pytest.mark.parametrize("count, risk, images", [(106, 0.05, 300), (19, 0.05, 40), (60, 0.1, 7)])
def test_observed_band_equals_the_beta_binomial_distribution(count, risk, images):
    excluded = excluded_count(count, risk)
    law = stats.betabinom(images, count + 1 - excluded, excluded)
    low, high = observed_band(count, risk, images)
    assert (
        law.cdf(round(low * images) - 1) <= 0.005 + 1e-9 and 1 - law.cdf(round(high * images)) <= 0.005 + 1e-9
    )
    assert law.cdf(round(low * images)) > 0.005 - 1e-9


@pytest.mark.parametrize("hits, count", [(0, 10), (8, 10), (10, 10), (3, 41)])
def test_proportion_interval_equals_scipy(hits, count):
    expected = stats.binomtest(hits, count).proportion_ci(0.95, "exact")
    assert proportion_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_possible_sides_has_the_closed_form_of_ranks():
    """With n scores, a new one of the same side is excluded exactly on the lowest l of its n + 1 ranks."""
    values = np.linspace(0.1, 0.9, 20)
    for risk in (0.04, 0.05, 0.1, 0.25):
        lost = [
            not possible_sides(LabelScores(present=np.delete(values, i)), values[i], risk)[0]
            for i in range(20)
        ]
        assert sum(lost) == excluded_count(19, risk) and lost == sorted(lost, reverse=True)
        mirrored = [
            not possible_sides(LabelScores(absent=np.delete(values, i)), values[i], risk)[1]
            for i in range(20)
        ]
        assert mirrored == lost[::-1]


def test_possible_sides_of_equal_scores_are_never_excluded():
    equal = LabelScores(present=(0.5,) * 50, absent=(0.5,) * 50)
    assert possible_sides(equal, 0.5, 0.3) == (True, True)


def test_possible_sides_without_calibration_images_excludes_nothing():
    assert possible_sides(LabelScores(), 0.99, 0.5) == (True, True)


def test_possible_sides_coverage_over_500_exchangeable_draws():
    """A rare label whose scores are far below 0.5, as those that made thresholds near 0.5 useless."""
    rng = np.random.default_rng(0)
    risk, count, fresh, draws = 0.1, 59, 400, 500
    coverages: dict[str, list[float]] = {"present": [], "absent": []}
    for _ in range(draws):
        present, absent = rng.beta(2, 6, count + fresh), rng.beta(1, 20, count + fresh)
        known = LabelScores(present=np.sort(present[:count]), absent=np.sort(absent[:count]))
        for name, scores, side in (("present", present, 0), ("absent", absent, 1)):
            kept = [possible_sides(known, s, risk)[side] for s in scores[count : count + 40]]
            coverages[name].append(float(np.mean(kept)))
    excluded = excluded_count(count, risk)
    law = stats.betabinom(40, count + 1 - excluded, excluded)
    for values in coverages.values():
        mean, error = np.mean(values), law.std() / 40 / np.sqrt(draws)
        assert abs(mean - law.mean() / 40) < 4 * error  # 1 - 6 / 60 exactly, on average
        low, high = observed_band(count, risk, 40, level=0.95)
        inside = np.mean([(low <= v <= high) for v in values])
        assert inside >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / draws)


def test_fit_logistic_recovers_the_probabilities_of_a_logistic_law():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.01, 0.99, 4000)
    actual = 1 / (1 + np.exp(-(1.7 * np.log(scores / (1 - scores)) - 1.2)))
    slope, intercept = fit_logistic(scores, rng.uniform(size=4000) < actual, np.ones(4000))
    assert slope == pytest.approx(1.7, abs=0.2) and intercept == pytest.approx(-1.2, abs=0.15)
    assert probability(LabelScores(logistic=(slope, intercept)), 0.5) == pytest.approx(0.231, abs=0.03)


def test_fit_logistic_of_separated_and_of_constant_scores_is_finite():
    assert fit_logistic([0.1, 0.2], [True, True], [1, 1]) is None
    for scores in ([0.0, 0.1, 0.9, 1.0], [0.5] * 4):
        fit = fit_logistic(scores, [False, False, True, True], [1.0] * 4)
        assert np.isfinite(fit).all()


def test_possible_sides_are_nested_in_the_risk():
    rng = np.random.default_rng(2)
    known = LabelScores(present=np.sort(rng.beta(5, 2, 80)), absent=np.sort(rng.beta(2, 5, 80)))
    for score in rng.uniform(size=50):
        sides = [possible_sides(known, score, risk) for risk in (0.02, 0.05, 0.1, 0.3)]
        for wide, narrow in itertools.pairwise(sides):
            assert all(w or not n for w, n in zip(wide, narrow, strict=True))
