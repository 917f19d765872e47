"""Distances from training images: the projection against closed forms, conformal rates, and drift tests."""

import numpy as np
import pytest

from blemish.familiarity import compare_features, energy_distance, fit_projection, judge, make_spec
from blemish.familiarity.drift import compare_numbers
from blemish.model_file import FamiliaritySpec

stats = pytest.importorskip("scipy.stats")


def gaussian(rng, count, shift=0.0):
    """Return features of 30 numbers with 3 strong directions, one constant and different scales."""
    hidden = rng.normal(size=(count, 3)) @ np.arange(1, 88).reshape(3, 29) / 20
    values = hidden + rng.normal(size=(count, 29)) + shift
    return np.concatenate([values * np.logspace(-1, 1, 29), np.full((count, 1), 7.0)], 1)


def test_projection_is_a_mahalanobis_distance_whatever_the_units_of_the_features():
    rng = np.random.default_rng(0)
    train, new = gaussian(rng, 400), gaussian(rng, 50)
    projection = fit_projection(train)
    assert projection.dimensions == 16  # half of the 30 directions, and the rest
    distance = (projection.project(new) ** 2).sum(1)
    units = np.logspace(1, -1, 30)
    other = (fit_projection(train * units).project(new * units) ** 2).sum(1)
    assert distance == pytest.approx(other, rel=1e-6)
    covariance = np.cov(train[:, :29].T, bias=True)
    centered = new[:, :29] - train[:, :29].mean(0)
    expected = (centered @ np.linalg.inv(covariance) * centered).sum(1)
    assert np.corrcoef(distance, expected)[0, 1] > 0.7


def test_projection_of_few_images_shrinks_the_covariance():
    rng = np.random.default_rng(1)
    projection = fit_projection(gaussian(rng, 20))
    assert projection.dimensions == 3
    same = (projection.project(gaussian(rng, 200)) ** 2).sum(1)
    shifted = (projection.project(gaussian(rng, 200, shift=5)) ** 2).sum(1)
    assert np.isfinite(same).all() and np.median(shifted) > 2 * np.median(same)
    assert fit_projection(np.ones((4, 5))).project(np.ones((1, 5))).max() == 0  # no feature varies


def test_judge_calls_the_stated_share_of_familiar_images_unfamiliar():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(200):
        distances = np.sort(rng.chisquare(4, 99)).round(5)
        spec = FamiliaritySpec(output="f", dimensions=1, train_images=9, distances=tuple(distances))
        found = judge(spec, np.sqrt(rng.chisquare(4, 100))[:, None], rate=0.05)
        rates.append(np.mean([f.unfamiliar for f in found]))
    assert np.mean(rates) == pytest.approx(0.05, abs=4 * np.std(rates) / np.sqrt(200))


def test_judge_with_few_held_out_images_states_the_rate_that_it_reaches():
    spec = FamiliaritySpec(output="f", dimensions=1, train_images=9, distances=(1.0, 2.0, 3.0))
    near, far = judge(spec, np.array([[1.7], [1.8]]))
    assert (near.rate, near.unfamiliar, near.p_value) == (0.25, False, 0.5)
    assert far.unfamiliar and far.p_value == 0.25 and far.distance == pytest.approx(1.8**2)
    empty = FamiliaritySpec(output="f", dimensions=1, train_images=9)
    assert not judge(empty, np.array([[1e6]]))[0].unfamiliar


def test_make_spec_uses_one_image_of_each_group_and_keeps_float16():
    rng = np.random.default_rng(3)
    train = gaussian(rng, 100)
    projection = fit_projection(train)
    held_out = gaussian(rng, 30)
    groups = [str(i // 3) for i in range(30)]
    spec = make_spec(projection, held_out, rng.uniform(size=(30, 2)), groups)
    assert len(spec.distances) == 10 and spec.reference_features().shape == (10, projection.dimensions)
    assert spec.reference_label_scores(2).shape == (10, 2)
    rebuilt = np.sort((spec.reference_features() ** 2).sum(1))
    assert rebuilt == pytest.approx(np.array(spec.distances), rel=0.01)


@pytest.mark.parametrize(
    "fields",
    [{"distances": (2.0, 1.0)}, {"reference": "AAA="}, {"reference": "no base64!"}, {"dimensions": 0}],
)
def test_familiarity_spec_refuses_damage(fields):
    with pytest.raises(ValueError, match="1 validation error"):
        FamiliaritySpec.model_validate({"output": "f", "dimensions": 3, "train_images": 9} | fields)


def test_energy_distance_of_two_points_in_closed_form():
    distances = np.array([[0, 3.0], [3.0, 0]])
    assert energy_distance(distances, np.array([True, False])) == 6.0


def test_compare_features_finds_a_shift_and_no_difference():
    rng = np.random.default_rng(4)
    reference = rng.normal(size=(80, 5))
    same = compare_features(reference, rng.normal(size=(70, 5)), permutations=199)
    shifted = compare_features(reference, rng.normal(size=(70, 5)) + 1, permutations=199)
    assert same.p_value > 0.05 and shifted.p_value == 1 / 200
    assert shifted.effect > 5 * same.effect and shifted.effect <= 1
    assert (same.reference_images, same.images) == (80, 70)


def test_compare_features_p_values_are_valid_without_a_difference():
    rng = np.random.default_rng(5)
    found = [
        compare_features(rng.normal(size=(15, 2)), rng.normal(size=(12, 2)), permutations=99, seed=i).p_value
        for i in range(200)
    ]
    assert np.mean(np.array(found) <= 0.1) <= 0.1 + 4 * np.sqrt(0.09 / 200)


def test_compare_numbers_equals_the_kolmogorov_smirnov_statistic():
    rng = np.random.default_rng(6)
    first, second = rng.normal(size=60).round(1), (rng.normal(size=45) + 1.5).round(1)  # with ties
    drift = compare_numbers("crack", first, second)
    assert drift.statistic == pytest.approx(stats.ks_2samp(first, second).statistic)
    assert drift.p_value < 0.01 and 0.8 < drift.effect < 1.8
    assert compare_numbers("crack", np.zeros(5), np.zeros(5)).effect == 0
