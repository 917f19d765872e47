"""blemish.geometry.boxes, compared with torchvision.ops and a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blemish.geometry import (
    box_area,
    clip_boxes,
    generalized_iou,
    pairwise_iou,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from blemish.testing import raises


def random_boxes(rng, n):
    corners = rng.uniform(-20, 120, (n, 2, 2))
    corners[: n // 4] = (
        np.round(corners[: n // 4] / 20) * 20
    )  # some boxes touch, are equal, or have zero area
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def loop_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    intersection = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union if union > 0 else 0.0


def test_pairwise_iou_equals_torchvision_and_a_plain_loop():
    ops, torch = pytest.importorskip("torchvision.ops"), pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 60), random_boxes(rng, 45)
    ours = pairwise_iou(a, b)
    theirs = ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    finite = np.isfinite(theirs)
    assert np.abs(ours - theirs)[finite].max() < 1e-12
    assert (ours[~finite] == 0).all()
    assert np.allclose(ours, [[loop_iou(x, y) for y in b] for x in a], rtol=0, atol=1e-12)
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


def test_generalized_iou_of_boxes_smaller_than_a_pixel():
    boxes = [[0, 0, 0.25, 0.25], [0.75, 0.75, 1, 1]]
    assert generalized_iou(boxes, boxes).tolist() == [[1.0, -0.875], [-0.875, 1.0]]


def test_iou_of_boxes_with_zero_area_is_zero():
    point = [[5, 5, 5, 5]]
    assert pairwise_iou(point, point).tolist() == [[0.0]]
    assert generalized_iou(point, point).tolist() == [[0.0]]
    assert pairwise_iou(point, [[0, 0, 10, 10]]).tolist() == [[0.0]]


def test_functions_accept_zero_boxes():
    assert pairwise_iou([], np.zeros((3, 4))).shape == (0, 3)
    assert generalized_iou(np.zeros((2, 4)), []).shape == (2, 0)
    assert box_area([]).shape == (0,)
    assert clip_boxes([], (3, 4)).shape == xywh_to_xyxy([]).shape == (0, 4)


@pytest.mark.parametrize(
    "invalid", [[[0, 0, -1, 2]], [[0, 3, 1, 2]], [[0, 0, np.nan, 2]], [[0, 0, np.inf, 2]]]
)
def test_invalid_box_is_named_by_its_row(invalid):
    valid = [[0, 0, 1, 1]]
    for call, argument in (
        (lambda: pairwise_iou(valid + invalid, valid), "boxes_a"),
        (lambda: pairwise_iou(valid, valid + invalid), "boxes_b"),
        (lambda: generalized_iou(valid + invalid, valid), "boxes_a"),
        (lambda: generalized_iou(valid, valid + invalid), "boxes_b"),
        (lambda: box_area(valid + invalid), ""),
    ):
        with raises("bad-input.invalid-box", argument, "box 1", np.array(invalid[0], float).tolist()):
            call()


@pytest.mark.parametrize("function", [box_area, xywh_to_xyxy, xyxy_to_xywh, lambda b: clip_boxes(b, (2, 2))])
@pytest.mark.parametrize("shape", [(2, 3), (4,), (1, 2, 4)])
def test_wrong_shape_of_boxes_is_named(function, shape):
    with raises("bad-input.box-shape", shape):
        function(np.zeros(shape))


def test_clip_boxes_to_the_image():
    boxes = [[-5, -5, 5, 5], [90, 40, 200, 60], [150, 10, 160, 20], [1, 2, 3, 4]]
    expected = [[0, 0, 5, 5], [90, 40, 100, 50], [100, 10, 100, 20], [1, 2, 3, 4]]
    assert clip_boxes(boxes, (50, 100)).tolist() == expected


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(-1000, 1000)))
def test_conversions_are_inverse_and_do_not_change_their_input(boxes):
    before = boxes.copy()
    assert np.array_equal(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes)
    assert np.array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    assert np.array_equal(boxes, before)


def test_box_area_is_width_times_height():
    assert box_area([[1, 2, 4, 8], [0, 0, 0, 9]]).tolist() == [18.0, 0.0]
