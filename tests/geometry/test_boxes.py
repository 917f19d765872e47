"""Boxes, held against torchvision.ops and a slow loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blemish.errors import BadInput
from blemish.geometry import (
    box_area,
    clip_boxes,
    generalized_iou,
    pairwise_iou,
    xywh_to_xyxy,
    xyxy_to_xywh,
)


def random_boxes(rng, n):
    corners = rng.uniform(-20, 120, (n, 2, 2))
    corners[: n // 4] = np.round(corners[: n // 4] / 20) * 20  # boxes that touch, coincide, or have no area
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def test_iou_equals_torchvision_and_a_slow_loop():
    ops, torch = pytest.importorskip("torchvision.ops"), pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 60), random_boxes(rng, 45)
    ours = pairwise_iou(a, b)
    theirs = ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    finite = np.isfinite(theirs)
    assert np.abs(ours - theirs)[finite].max() < 1e-12
    assert (ours[~finite] == 0).all()
    assert np.allclose(ours, [[slow_iou(x, y) for y in b] for x in a], rtol=0, atol=1e-12)
    assert ours.shape == (60, 45) and (ours > 0.3).any()


def test_generalized_iou_equals_torchvision():
    ops, torch = pytest.importorskip("torchvision.ops"), pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 60), random_boxes(rng, 45)
    ours = generalized_iou(a, b)
    theirs = ops.generalized_box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    finite = np.isfinite(theirs)
    assert np.abs(ours - theirs)[finite].max() < 1e-12
    assert ((ours >= -1) & (ours <= 1)).all()


def test_boxes_without_area_overlap_nothing():
    point = [[5, 5, 5, 5]]
    assert pairwise_iou(point, point).tolist() == [[0.0]]
    assert generalized_iou(point, point).tolist() == [[0.0]]
    assert pairwise_iou(point, [[0, 0, 10, 10]]).tolist() == [[0.0]]


def test_no_boxes_are_boxes_too():
    assert pairwise_iou([], np.zeros((3, 4))).shape == (0, 3)
    assert generalized_iou(np.zeros((2, 4)), []).shape == (2, 0)
    assert box_area([]).shape == (0,)
    assert clip_boxes([], (3, 4)).shape == xywh_to_xyxy([]).shape == (0, 4)


@pytest.mark.parametrize("wrong", [[[0, 0, -1, 2]], [[0, 3, 1, 2]], [[0, 0, np.nan, 2]], [[0, 0, np.inf, 2]]])
def test_an_impossible_box_is_named_by_its_row(wrong):
    good = [[0, 0, 1, 1]]
    for call in (
        lambda: pairwise_iou(good + wrong, good),
        lambda: pairwise_iou(good, good + wrong),
        lambda: generalized_iou(good + wrong, good),
        lambda: box_area(good + wrong),
    ):
        with pytest.raises(BadInput, match="box 1 is inside out or not finite"):
            call()
    with pytest.raises(BadInput, match=r"shape \(2, 3\)"):
        box_area(np.zeros((2, 3)))


def test_clipping_keeps_what_is_inside():
    boxes = [[-5, -5, 5, 5], [90, 40, 200, 60], [150, 10, 160, 20], [1, 2, 3, 4]]
    expected = [[0, 0, 5, 5], [90, 40, 100, 50], [100, 10, 100, 20], [1, 2, 3, 4]]
    assert clip_boxes(boxes, (50, 100)).tolist() == expected


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(-1000, 1000)))
def test_conversions_undo_each_other_and_leave_their_input_alone(boxes):
    before = boxes.copy()
    assert np.array_equal(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes)
    assert np.array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    assert np.array_equal(boxes, before)


def test_area_is_width_times_height():
    assert box_area([[1, 2, 4, 8], [0, 0, 0, 9]]).tolist() == [18.0, 0.0]
