"""Homographies against their definition, and gray levels between pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.geometry import homography_from_points, invert_homography, map_box, map_points, sample_levels
from blemish.testing import raises

SQUARE = np.array([[0, 0], [100, 0], [100, 100], [0, 100]], float)
moves = st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=4, max_size=4)


@given(moves)
def test_homography_from_points_maps_four_points_and_back(shifts):
    target = SQUARE + np.array(shifts, np.float64)
    matrix = homography_from_points(SQUARE, target)
    assert map_points(matrix, SQUARE) == pytest.approx(target, abs=1e-6)
    assert map_points(invert_homography(matrix), target) == pytest.approx(SQUARE, abs=1e-6)


def test_homography_from_points_averages_errors_of_more_points():
    rng = np.random.default_rng(0)
    true = np.array([[1.1, 0.2, 5], [-0.1, 0.9, 3], [1e-3, -5e-4, 1]])
    points = rng.uniform(0, 100, (400, 2))
    noisy = map_points(true, points) + rng.normal(0, 0.5, points.shape)
    matrix = homography_from_points(points, noisy)
    assert np.abs(map_points(matrix, SQUARE) - map_points(true, SQUARE)).max() < 0.5


@pytest.mark.parametrize(
    "points", [SQUARE[:3], np.array([[0, 0], [1, 1], [2, 2], [0, 5]], float), np.zeros((4, 2))]
)
def test_homography_from_points_refuses_what_determines_none(points):
    with raises("bad-input.homography"):
        homography_from_points(points, SQUARE[: len(points)])


def test_map_points_gives_none_behind_the_horizon():
    matrix = np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]])
    assert map_points(matrix, SQUARE) is None and map_box(matrix, np.array([0.0, 0, 100, 10])) is None


def test_sample_levels_interpolates_between_centers():
    gray = np.array([[0, 10], [20, 30]], np.float32)
    points = np.array([[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [-5.0, 0.5], [9.0, 9.0]])
    assert sample_levels(gray, points).tolist() == [0, 5, 15, 0, 30]
    assert sample_levels(gray[:1, :1], points).tolist() == [0] * 5
