"""blemish.drawing.object_overlay: labels never overlap and are placed next to their objects."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.drawing import place_labels

boxes_strategy = st.lists(
    st.tuples(st.floats(0, 600), st.floats(0, 440), st.floats(0, 300), st.floats(0, 300)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(boxes_strategy, st.lists(st.integers(20, 160), min_size=30, max_size=30))
def test_place_labels_never_overlap_and_never_leave_the_canvas(boxes, widths):
    array = np.array([[x, y, min(x + w, 640), min(y + h, 480)] for x, y, w, h in boxes])
    places = place_labels(array, [(w, 20) for w in widths[: len(array)]], (640, 480), 2)
    placed = [p for p in places if p is not None]
    assert placed and places[0] is not None
    for x1, y1, x2, y2 in placed:
        assert 0 <= x1 < x2 <= 640 and 0 <= y1 < y2 <= 480
    for a, b in itertools.combinations(placed, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_place_labels_avoids_other_objects():
    boxes = np.array([[100, 100, 300, 200], [100, 40, 300, 98]])  # the second is above the first
    first, _ = place_labels(boxes, [(80, 20), (80, 20)], (640, 480), 2)
    assert first[1] >= 200


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([100, 100, 300, 200], (100, 73)),  # above its box
        ([100, 5, 300, 200], (100, 207)),  # below, because there is no space above
        ([600, 100, 640, 150], (560, 73)),  # shifted to the left, into the canvas
        ([0, 0, 640, 480], (7, 7)),  # inside
    ],
)
def test_place_labels_prefers_above_then_below_then_inside(box, expected):
    ((x, y, x2, y2),) = place_labels(np.array([box]), [(80, 20)], (640, 480), 7)
    assert ((x, y), (x2, y2)) == (expected, (x + 80, y + 20))


def test_place_labels_next_to_a_tall_box_if_another_object_covers_it():
    for box, expected in (([100, 0, 200, 480], (207, 0)), ([540, 0, 640, 480], (453, 0))):
        place = place_labels(np.array([box, box]), [(80, 20), (80, 20)], (640, 480), 7)[0]
        assert place[:2] == expected


def test_place_labels_follows_the_tips_of_the_object():
    tips = np.array([[150.0, 250.0]])
    assert place_labels(np.array([[100, 100, 300, 200]]), [(80, 20)], (640, 480), 2, tips)[0][:2] == (150, 78)
    assert place_labels(np.array([[100, 5, 300, 200]]), [(80, 20)], (640, 480), 2, tips)[0][:2] == (250, 202)


def test_place_labels_prefers_a_near_place_to_a_small_free_one():
    boxes = np.array([[100, 100, 300, 200], [100, 60, 108, 98]])  # the second covers a tenth of the label
    assert place_labels(boxes, [(80, 20), (80, 20)], (640, 480), 2)[0] == (100, 78, 180, 98)


def test_place_labels_uses_free_space_on_both_sides_of_a_label():
    boxes = np.array([[300, 100, 400, 200], [100, 100, 200, 200], [500, 100, 600, 200]])
    places = place_labels(boxes, [(80, 20)] * 3, (640, 480), 2)
    assert [place[:2] for place in places] == [(300, 78), (100, 78), (500, 78)]
