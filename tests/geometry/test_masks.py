"""blemish.geometry.masks, compared run by run with pycocotools."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from blemish.arrays import Mask
from blemish.errors import BadInput
from blemish.geometry import (
    crop_window,
    mask_box,
    mask_from_array,
    mask_iou,
    mask_to_array,
    mask_to_polygons,
    paste_window,
    rle_from_text,
    rle_to_text,
)
from blemish.testing import raises

ARRAYS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def coco_rle(mask):
    return {"size": list(mask.size_hw), "counts": rle_to_text(mask).encode()}


def coco_encode(array):
    return coco.encode(np.asfortranarray(np.asarray(array, np.uint8)))


@given(ARRAYS)
def test_masks_equal_pycocotools(array):
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
def test_paste_window_equals_drawing_on_a_large_array_and_cropping(window, x, y):
    large = np.zeros((60, 60), bool)
    large[20 + y : 20 + y + window.shape[0], 20 + x : 20 + x + window.shape[1]] = window
    mask = paste_window(window, (x, y), (9, 14))
    assert np.array_equal(mask_to_array(mask), large[20:29, 20:34])
    assert np.array_equal(mask.counts, mask_from_array(large[20:29, 20:34]).counts)


def test_empty_runs_are_accepted():
    mask = Mask((2, 3), np.array([0, 2, 0, 1, 3, 0]))
    assert mask_box(mask).tolist() == [0, 0, 2, 2]
    assert mask_iou([mask], [mask_from_array(mask_to_array(mask))]).tolist() == [[1.0]]
    assert np.array_equal(crop_window(mask)[0], [[1, 1], [1, 0]])


@given(
    st.lists(hnp.arrays(bool, (7, 9)), max_size=4), st.lists(hnp.arrays(bool, (7, 9)), max_size=4), st.data()
)
def test_mask_iou_equals_pycocotools(first, second, data):
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


def test_mask_iou_allocates_no_full_size_arrays():
    size_hw = (4000, 6000)
    masks = [paste_window(np.ones((50, 50)), (100 * k, 70 * k), size_hw) for k in range(40)]
    tracemalloc.start()
    assert np.array_equal(mask_iou(masks, masks), np.eye(40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 6000 / 8


def test_mask_iou_rejects_different_image_sizes():
    with raises("bad-input.mask-size", (2, 3), (3, 2)):
        mask_iou([mask_from_array(np.ones((2, 3)))], [mask_from_array(np.ones((3, 2)))])


def test_mask_from_array_rejects_three_dimensions():
    with raises("bad-input.mask-shape", (2, 2, 2)):
        mask_from_array(np.ones((2, 2, 2)))


def test_rle_text_round_trip_of_long_runs():
    mask = Mask((50_000, 60_000), np.array([10, 2_000_000_000, 7, 999_999_983]))
    assert np.array_equal(rle_from_text(rle_to_text(mask), mask.size_hw).counts, mask.counts)


def test_rle_from_text_accepts_numbers_of_12_digits_and_no_more():
    zero = "P" * 11 + "0"  # 11 digits 0 that continue, and a last one
    assert rle_from_text(zero + "4", (2, 2)).area == 4
    with raises("bad-input.run-lengths", "13"):
        rle_from_text("P" + zero + "4", (2, 2))


@given(st.one_of(st.binary(max_size=30), st.text(max_size=30)))
def test_rle_from_text_rejects_arbitrary_text(text):
    try:
        mask = rle_from_text(text, (5, 6))
    except BadInput as error:
        assert error.code == "bad-input.run-lengths"
        return
    assert mask.counts.sum() == 30


def test_rle_from_text_rejects_characters_next_to_the_valid_range():
    for text, size_hw in (("/0", (31, 1)), ("p4", (2, 2))):  # valid masks, if "/" were -1 and "p" were 64
        with raises("bad-input.run-lengths"):
            rle_from_text(text, size_hw)


def test_mask_rejects_runs_of_negative_length_or_wrong_sum():
    with raises("bad-input.run-lengths", "-1"):
        Mask((2, 2), np.array([5, -1]))
    with raises("bad-input.run-lengths", "2 x 2", "5"):
        Mask((2, 2), np.array([5]))


@pytest.mark.parametrize("text", ["", "1Z", "13\x7f", "ooooooooooooooo0", "99"])
def test_rle_from_text_rejects_known_bad_texts(text):
    with raises("bad-input.run-lengths"):
        rle_from_text(text, (2, 2))


def test_empty_mask_has_no_polygon_and_no_window():
    assert mask_to_polygons(mask_from_array(np.zeros((4, 4)))) == []
    window, corner = crop_window(mask_from_array(np.zeros((4, 4))))
    assert window.shape == (0, 0) and corner == (0, 0)
