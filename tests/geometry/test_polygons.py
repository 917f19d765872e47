"""blemish.geometry.polygons, compared run by run with pycocotools."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from blemish.geometry import (
    mask_from_array,
    mask_from_polygons,
    mask_to_array,
    mask_to_polygons,
    mask_to_rings,
    polygon_area,
    rle_to_text,
)
from blemish.testing import raises


def coco_polygons(polygons, size_hw):
    flat = [np.asarray(p, float).ravel().tolist() for p in polygons]
    return coco.merge(coco.frPyObjects(flat, *size_hw))["counts"].decode()


coordinates = st.one_of(
    st.floats(-20, 60, allow_nan=False),
    st.integers(-20, 60).map(float),
    st.integers(-40, 120).map(lambda v: v / 2),
    st.integers(-200, 600).map(lambda v: v / 10),
)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


@settings(max_examples=600, deadline=None)
@given(st.lists(polygons, min_size=1, max_size=3), st.integers(1, 40), st.integers(1, 40))
def test_mask_from_polygons_equals_pycocotools(many, height, width):
    assert rle_to_text(mask_from_polygons(many, (height, width))) == coco_polygons(many, (height, width))


def test_mask_from_polygons_equals_pycocotools_on_large_random_polygons():
    rng = np.random.default_rng(4)
    for k in range(300):
        size_hw = (int(rng.integers(1, 500)), int(rng.integers(1, 500)))
        points = rng.uniform(-50, 550, (int(rng.integers(3, 40)), 2))
        points = np.repeat(points, 2, 0) if k % 5 == 0 else points
        many = [points, np.round(points[::-1] / 3)]
        assert rle_to_text(mask_from_polygons(many, size_hw)) == coco_polygons(many, size_hw)


def test_mask_from_zero_polygons_is_empty():
    assert mask_from_polygons([], (3, 4)).counts.tolist() == [12]


@pytest.mark.parametrize(
    ("polygon", "code", "fact"),
    [
        ([[0, 0], [1, 1]], "polygon-shape", "(2, 2)"),
        ([0, 0, 1, 1, 2, 0], "polygon-shape", "(6,)"),
        ([[0, 0], [1, np.nan], [2, 2]], "polygon-point", "point 1"),
        ([[0, 0], [1, 1], [1e300, 2]], "polygon-point", "point 2"),
    ],
)
def test_invalid_polygon_is_named(polygon, code, fact):
    with raises(f"bad-input.{code}", "polygon 1", fact):
        mask_from_polygons([[[0, 0], [1, 0], [1, 1]], polygon], (5, 5))


def test_polygon_far_outside_the_image_allocates_no_memory():
    tracemalloc.start()
    mask = mask_from_polygons([[[-9e7, -9e7], [9e7, -9e7], [9e7, 9e7], [-9e7, 9e7]]], (30, 40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.area == 1200
    assert peak < 1_000_000


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))))
@example(np.pad(np.pad(np.ones((1, 1), bool), 1), 1, constant_values=True))  # an island in a hole
def test_mask_to_polygons_round_trip_fills_holes(array):
    ndimage = pytest.importorskip("scipy.ndimage")
    filled = ndimage.binary_fill_holes(np.pad(array, 1), np.ones((3, 3)))[1:-1, 1:-1]
    mask = mask_from_array(array)
    outer = mask_to_polygons(mask)
    assert np.array_equal(mask_to_array(mask_from_polygons(outer, mask.size_hw)), filled)
    assert len(outer) == ndimage.label(array)[1]  # also of what lies inside a hole of another component
    holes = [ring for ring in mask_to_rings(mask) if not any(np.array_equal(ring, p) for p in outer)]
    inside = mask_to_array(mask_from_polygons(holes, mask.size_hw)) if holes else np.zeros_like(array)
    assert not (filled & ~array & ~inside).any()
    assert bool(holes) == bool((filled != array).any())


def test_mask_to_polygons_removes_collinear_points():
    array = np.zeros((12, 14), bool)
    array[2:10, 3:11] = True
    (polygon,) = mask_to_polygons(mask_from_array(array))
    assert len(polygon) == 8  # a rectangle whose corners are cut by half a pixel


def test_mask_to_rings_direction_marks_holes():
    array = np.zeros((12, 14), bool)
    array[2:10, 3:11] = True
    array[4:7, 5:8] = False
    outer, hole = mask_to_rings(mask_from_array(array))

    def turn(ring):
        x, y = ring.T
        return np.sign((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())

    assert (turn(outer), turn(hole)) == (1, -1)
    assert (outer.min(0).tolist(), outer.max(0).tolist()) == ([3, 2], [11, 10])
    assert (hole.min(0).tolist(), hole.max(0).tolist()) == ([5, 4], [8, 7])
    assert len(mask_to_polygons(mask_from_array(array))) == 1
    assert polygon_area(outer) == 64 - 4 * 0.125
