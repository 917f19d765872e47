"""Widths of drawn cracks."""

import numpy as np
import pytest

pytest.importorskip("skimage")

from scipy.ndimage import gaussian_filter

from blemish.inspections.measurement import ImageScale, darkness_to_coverage, measure_crack
from blemish.testing import raises

FACTOR = 5  # a drawn pixel is the mean of 5 x 5 points


def drawn_crack(width, angle, *, sigma=0.0, size=120, length=80.0):
    """Return the coverage of a straight crack of a known width, (size, size) in [0, 1]."""
    grid = (np.arange(size * FACTOR) + 0.5) / FACTOR - size / 2 - 0.3
    y, x = np.meshgrid(grid, grid, indexing="ij")
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    fine = ((np.abs(across) <= width / 2) & (np.abs(along) <= length / 2)).astype(float)
    coverage = fine.reshape(size, FACTOR, size, FACTOR).mean((1, 3))
    return gaussian_filter(coverage, sigma) if sigma else coverage


@pytest.mark.parametrize("sigma", [0.0, 0.8])
def test_measure_crack_of_drawn_cracks_to_a_sixth_of_a_pixel(sigma):
    errors, plain = [], []
    for width in (2, 3, 5, 8, 12, 20):
        for angle in (0.0, 0.3, 0.7854, 1.2):
            coverage = drawn_crack(width, angle, sigma=sigma)
            errors.append(abs(np.median(measure_crack(coverage).widths) - width))
            plain.append(abs((coverage >= 0.5).sum() / 80.0 - width))  # threshold and count
    assert np.mean(errors) <= 0.15, np.mean(errors)
    print(
        f"sigma {sigma}: mean absolute error {np.mean(errors):.3f}, threshold and count {np.mean(plain):.3f}"
    )


def test_measure_crack_length_and_millimeters():
    found = measure_crack(drawn_crack(4, 0.0))
    assert found.length == pytest.approx(80, abs=5)
    measures = found.to_measures(ImageScale(0.1, 0.02))
    assert measures["width_mm"] == pytest.approx(0.4, abs=0.02)
    assert measures["width_mm_error"] == pytest.approx(measures["width_mm"] * 0.02, abs=1e-3)
    assert measures["length_mm"] == pytest.approx(8, abs=0.5)


def test_measure_crack_from_gray_levels():
    gray = 200 - 160 * drawn_crack(6, 0.5, sigma=1.0)
    found = measure_crack(darkness_to_coverage(gray, background=200, crack=40))
    assert np.median(found.widths) == pytest.approx(6, abs=0.15)


def test_measure_crack_without_a_crack():
    found = measure_crack(np.zeros((20, 20)))
    assert len(found.widths) == 0 and found.length == 0 and found.to_measures() == {}


def test_scales():
    assert ImageScale.from_length(400, 100).mm_per_pixel == 0.25
    camera = ImageScale.from_camera(2000, 50, 0.005, error_distance_mm=20)
    assert camera.mm_per_pixel == pytest.approx(0.2) and camera.relative_error == pytest.approx(0.01)
    for scale in (lambda: ImageScale(0, 0.1), lambda: ImageScale.from_length(0, 1), lambda: ImageScale(1, 1)):
        with raises("bad-input.scale"):
            scale()
