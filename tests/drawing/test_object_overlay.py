"""blemish.drawing.object_overlay: labels never overlap."""

import itertools

import numpy as np
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
