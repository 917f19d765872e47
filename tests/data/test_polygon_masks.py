"""Polygons: clipped to the image, rotated, and made of ellipses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.polygon_masks import clip_polygon, ellipse_outline, rectangle_outline
from blemish.geometry import mask_from_polygons, polygon_area

SIZE_HW = (20, 30)
coordinate = st.integers(-60, 90).map(lambda v: v / 1.5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=7))
def test_clip_polygon_keeps_the_pixels_inside(points):
    outline = np.array(points)
    clipped = clip_polygon(outline, SIZE_HW)
    assert (clipped >= 0).all()
    assert (clipped <= [SIZE_HW[1], SIZE_HW[0]]).all()
    # On a grid 20 times as fine, the error of rounding along the border is small compared with the area.
    fine_hw = (SIZE_HW[0] * 20, SIZE_HW[1] * 20)
    whole = mask_from_polygons([outline * 20], fine_hw).area
    kept = mask_from_polygons([clipped * 20], fine_hw).area if len(clipped) >= 3 else 0
    assert abs(kept - whole) <= 2 * sum(fine_hw)


def test_clip_polygon_returns_a_polygon_inside_unchanged():
    outline = np.array([[1.0, 2], [30, 2], [4, 20]])
    assert clip_polygon(outline, SIZE_HW) is outline


@pytest.mark.parametrize("radii", [(0.4, 0.4), (3, 9), (200, 50), (4000, 4000)])
def test_ellipse_outline_has_area_and_extent_of_the_ellipse(radii):
    outline = ellipse_outline((10, 20), radii)
    assert polygon_area(outline) == pytest.approx(math.pi * radii[0] * radii[1], rel=0.05)
    around = [*(outline.min(0) - [10, 20]), *(outline.max(0) - [10, 20])]
    assert around == pytest.approx([-radii[0], -radii[1], *radii])
    assert len(outline) < 1000


def test_rectangle_outline_quarter_turn_swaps_sides():
    rotated = rectangle_outline((0, 0, 4, 2), 90)
    assert sorted(map(tuple, rotated.round(9).tolist())) == [(1, -1), (1, 3), (3, -1), (3, 3)]
