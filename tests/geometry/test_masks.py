"""Masks and polygons, held run for run against pycocotools."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from blemish.arrays import Mask
from blemish.errors import BadInput
from blemish.geometry import (
    crop_window,
    mask_box,
    mask_from_array,
    mask_from_polygons,
    mask_iou,
    mask_to_array,
    mask_to_polygons,
    mask_to_rings,
    paste_window,
    polygon_area,
    rle_from_text,
    rle_to_text,
)

ARRAYS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def coco_rle(mask):
    return {"size": list(mask.size_hw), "counts": rle_to_text(mask).encode()}


def coco_encode(array):
    return coco.encode(np.asfortranarray(np.asarray(array, np.uint8)))


def coco_polygons(polygons, size_hw):
    flat = [np.asarray(p, float).ravel().tolist() for p in polygons]
    return coco.merge(coco.frPyObjects(flat, *size_hw))["counts"].decode()


@given(ARRAYS)
def test_masks_equal_cocos_in_every_way(array):
    mask, theirs = mask_from_array(array), coco_encode(array)
    assert rle_to_text(mask) == theirs["counts"].decode()
    assert np.array_equal(mask_to_array(mask), array)
    assert mask.area == coco.area(theirs)
    x, y, w, h = coco.toBbox(theirs)
    assert mask_box(mask).tolist() == ([x, y, x + w, y + h] if array.any() else [0, 0, 0, 0])
    back = rle_from_text(theirs["counts"], mask.size_hw)
    assert np.array_equal(back.counts, mask.counts)
    window, corner = crop_window(mask)
    assert np.array_equal(paste_window(window, corner, mask.size_hw).counts, mask.counts)
    if array.any():
        assert window.any(0).all() or window[:, [0, -1]].any(0).all()
        assert window[[0, -1]].any(1).all()


@given(ARRAYS, st.integers(-15, 15), st.integers(-15, 15))
def test_pasting_equals_drawing_in_a_large_picture_and_cutting_out(window, x, y):
    large = np.zeros((60, 60), bool)
    large[20 + y : 20 + y + window.shape[0], 20 + x : 20 + x + window.shape[1]] = window
    mask = paste_window(window, (x, y), (9, 14))
    assert np.array_equal(mask_to_array(mask), large[20:29, 20:34])
    assert np.array_equal(mask.counts, mask_from_array(large[20:29, 20:34]).counts)


def test_runs_of_no_length_are_read():
    mask = Mask((2, 3), np.array([0, 2, 0, 1, 3, 0]))
    assert mask_box(mask).tolist() == [0, 0, 2, 2]
    assert mask_iou([mask], [mask_from_array(mask_to_array(mask))]).tolist() == [[1.0]]
    assert np.array_equal(crop_window(mask)[0], [[1, 1], [1, 0]])


@given(
    st.lists(hnp.arrays(bool, (7, 9)), max_size=4), st.lists(hnp.arrays(bool, (7, 9)), max_size=4), st.data()
)
def test_overlap_equals_cocos(first, second, data):
    crowd = data.draw(st.lists(st.booleans(), min_size=len(second), max_size=len(second)))
    a, b = [mask_from_array(x) for x in first], [mask_from_array(x) for x in second]
    ours = mask_iou(a, b, crowd)
    assert ours.shape == (len(a), len(b))
    if a and b:
        theirs = coco.iou([coco_rle(m) for m in a], [coco_rle(m) for m in b], [int(c) for c in crowd])
        full = [x.any() or (y.any() and not c) for x in first for y, c in zip(second, crowd, strict=True)]
        mine = np.asarray(ours).ravel()
        assert np.array_equal(mine[full], theirs.ravel()[full])
        assert (mine[~np.array(full)] == 0).all()


def test_overlap_needs_no_full_size_arrays():
    size_hw = (4000, 6000)
    masks = [paste_window(np.ones((50, 50)), (100 * k, 70 * k), size_hw) for k in range(40)]
    tracemalloc.start()
    assert np.array_equal(mask_iou(masks, masks), np.eye(40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 6000 / 8


def test_masks_of_different_images_are_not_compared():
    with pytest.raises(BadInput, match="different sizes"):
        mask_iou([mask_from_array(np.ones((2, 3)))], [mask_from_array(np.ones((3, 2)))])


def test_a_mask_has_two_axes():
    with pytest.raises(BadInput, match=r"\(2, 2, 2\)"):
        mask_from_array(np.ones((2, 2, 2)))


def test_long_runs_survive_as_text():
    mask = Mask((50_000, 60_000), np.array([10, 2_000_000_000, 7, 999_999_983]))
    assert np.array_equal(rle_from_text(rle_to_text(mask), mask.size_hw).counts, mask.counts)


@given(st.one_of(st.binary(max_size=30), st.text(max_size=30)))
def test_text_that_is_no_mask_is_refused_by_name(text):
    try:
        mask = rle_from_text(text, (5, 6))
    except BadInput:
        return
    assert mask.counts.sum() == 30


@pytest.mark.parametrize("text", ["", "1Z", "13\x7f", "ooooooooooooooo0", "99"])
def test_known_bad_texts_are_refused(text):
    with pytest.raises(BadInput):
        rle_from_text(text, (2, 2))


coordinates = st.one_of(
    st.floats(-20, 60, allow_nan=False),
    st.integers(-20, 60).map(float),
    st.integers(-40, 120).map(lambda v: v / 2),
    st.integers(-200, 600).map(lambda v: v / 10),
)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


@settings(max_examples=600, deadline=None)
@given(st.lists(polygons, min_size=1, max_size=3), st.integers(1, 40), st.integers(1, 40))
def test_polygons_are_drawn_as_coco_draws_them(many, height, width):
    assert rle_to_text(mask_from_polygons(many, (height, width))) == coco_polygons(many, (height, width))


def test_many_random_polygons_are_drawn_as_coco_draws_them():
    rng = np.random.default_rng(4)
    for k in range(300):
        size_hw = tuple(int(v) for v in rng.integers(1, 500, 2))
        points = rng.uniform(-50, 550, (int(rng.integers(3, 40)), 2))
        points = np.repeat(points, 2, 0) if k % 5 == 0 else points
        many = [points, np.round(points[::-1] / 3)]
        assert rle_to_text(mask_from_polygons(many, size_hw)) == coco_polygons(many, size_hw)


def test_no_polygon_is_an_empty_mask():
    assert mask_from_polygons([], (3, 4)).counts.tolist() == [12]


@pytest.mark.parametrize(
    ("polygon", "said"),
    [
        ([[0, 0], [1, 1]], "three points"),
        ([0, 0, 1, 1, 2, 0], "three points"),
        ([[0, 0], [1, np.nan], [2, 2]], "impossible point"),
        ([[0, 0], [1, 1], [1e300, 2]], "impossible point"),
    ],
)
def test_an_impossible_polygon_is_named(polygon, said):
    with pytest.raises(BadInput, match=f"polygon 1 .*{said}"):
        mask_from_polygons([[[0, 0], [1, 0], [1, 1]], polygon], (5, 5))


def test_a_polygon_far_outside_takes_no_memory():
    tracemalloc.start()
    mask = mask_from_polygons([[[-9e7, -9e7], [9e7, -9e7], [9e7, 9e7], [-9e7, 9e7]]], (30, 40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.area == 1200
    assert peak < 1_000_000


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))))
def test_outlines_give_back_the_same_pixels_with_holes_filled(array):
    ndimage = pytest.importorskip("scipy.ndimage")
    filled = ndimage.binary_fill_holes(np.pad(array, 1), np.ones((3, 3)))[1:-1, 1:-1]
    mask = mask_from_array(array)
    outer = mask_to_polygons(mask)
    assert np.array_equal(mask_to_array(mask_from_polygons(outer, mask.size_hw)), filled)
    assert len(outer) == ndimage.label(filled)[1]
    holes = [ring for ring in mask_to_rings(mask) if not any(np.array_equal(ring, p) for p in outer)]
    inside = mask_to_array(mask_from_polygons(holes, mask.size_hw)) if holes else np.zeros_like(array)
    assert not (filled & ~array & ~inside).any()
    assert bool(holes) == bool((filled != array).any()) or ndimage.label(array)[1] > len(outer)


def test_rings_say_by_their_turn_what_is_a_hole():
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


def test_an_empty_mask_has_no_outline():
    assert mask_to_polygons(mask_from_array(np.zeros((4, 4)))) == []
    window, corner = crop_window(mask_from_array(np.zeros((4, 4))))
    assert window.shape == (0, 0) and corner == (0, 0)
