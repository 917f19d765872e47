from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.decoding.nms import BLOCK, FIRST_PART, highest, nms


def random_boxes(count, seed=0, spread=100.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, spread, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], 1).astype(dtype)


def nms_loop(boxes, scores, labels, nms_iou):
    """Return the kept rows of greedy NMS, written as a plain loop."""
    kept: list[Any] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in kept:
            if labels[i] != labels[j]:
                continue
            a, b = boxes[i], boxes[j]
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            inside = max(width, 0) * max(height, 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
            if union > 0 and inside / union > nms_iou:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("count", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 700])
@pytest.mark.parametrize("nms_iou", [0.0, 0.3, 0.5, 1.0])
def test_nms_equals_plain_loop(count, nms_iou):
    rng = np.random.default_rng(count)
    boxes, scores, labels = random_boxes(count), rng.uniform(0, 1, count), rng.integers(0, 3, count)
    assert nms(boxes, scores, labels, nms_iou).tolist() == nms_loop(boxes, scores, labels, nms_iou)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("count", "labels"), [(300, 1), (3000, 5), (6000, 20)])
def test_nms_equals_torchvision(count, labels, dtype):
    torch = pytest.importorskip("torch")
    from torchvision.ops import batched_nms

    rng = np.random.default_rng(count)
    boxes = random_boxes(count, seed=1, spread=400, dtype=dtype)
    scores = rng.uniform(0, 1, count).astype(dtype)
    label = rng.integers(0, labels, count)
    theirs = batched_nms(*(torch.from_numpy(x) for x in (boxes, scores, label)), 0.45)
    ours = nms(boxes, scores, label, 0.45)
    assert ours.tolist() == theirs.tolist()
    assert 0 < len(ours) < count


def test_nms_ties_keep_their_order():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]], float)
    assert nms(boxes, np.array([0.5, 0.5, 0.5]), np.zeros(3, int), 0.5).tolist() == [0, 2]


def test_nms_keeps_box_with_iou_equal_to_threshold():
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], float)  # overlap 1/3
    assert nms(boxes, np.array([0.9, 0.8]), np.zeros(2, int), 1 / 3).tolist() == [0, 1]
    assert nms(boxes, np.array([0.9, 0.8]), np.zeros(2, int), 0.333).tolist() == [0]


def test_nms_keeps_boxes_without_area():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], float)
    assert nms(boxes, np.array([0.9, 0.8]), np.zeros(2, int), 0.5).tolist() == [0, 1]


def test_nms_max_kept_counts_all_labels_together():
    rng = np.random.default_rng(0)
    boxes, scores, labels = random_boxes(2000, spread=2000), rng.uniform(0, 1, 2000), rng.integers(0, 4, 2000)
    all_kept = nms(boxes, scores, labels, 0.5)
    assert nms(boxes, scores, labels, 0.5, 37).tolist() == all_kept[:37].tolist()


@pytest.mark.parametrize("max_kept", [1, 5, 40, 200])
def test_nms_with_a_limit_equals_the_start_of_nms_without(max_kept):
    rng = np.random.default_rng(max_kept)
    boxes, scores, labels = random_boxes(3000, spread=60), rng.integers(0, 99, 3000), rng.integers(0, 3, 3000)
    all_kept = nms(boxes, scores, labels, 0.3)
    assert len(all_kept) < FIRST_PART * 200 < len(boxes)  # the first part holds too few for the larger limits
    assert nms(boxes, scores, labels, 0.3, max_kept).tolist() == all_kept[:max_kept].tolist()


@pytest.mark.parametrize("count", [0, 1, 3, 5, 9])
def test_highest_takes_the_first_of_equal_scores(count):
    scores = np.array([0.5, 0.2, 0.5, 0.9, 0.2])
    best_first = [3, 0, 2, 1, 4]
    assert highest(scores, count).tolist() == sorted(best_first[:count])


def test_nms_no_boxes():
    assert nms(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.5).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), nms_iou=st.floats(0, 1))
def test_nms_equals_plain_loop_on_any_boxes(seed, count, nms_iou):
    rng = np.random.default_rng(seed)
    boxes, scores, labels = (
        random_boxes(count, seed),
        rng.integers(0, 5, count) / 5,
        rng.integers(0, 2, count),
    )
    assert nms(boxes, scores, labels, nms_iou).tolist() == nms_loop(boxes, scores, labels, nms_iou)


@pytest.mark.parametrize("nms_iou", [0.3, 0.45, 0.7])
def test_nms_equals_torchvision_at_threshold(nms_iou):
    """0.3 in single precision exceeds 0.3 in double precision, in which torchvision compares."""
    torch = pytest.importorskip("torch")
    from torchvision.ops import nms as torchvision_nms

    rng = np.random.default_rng(0)
    corner = rng.integers(0, 30, (200, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 30, (200, 2))], 1).astype(np.float32)
    boxes[:2] = [[0, 0, 10, 100 * nms_iou], [0, 0, 10, 100]]
    scores = np.linspace(1, 0, 200, dtype=np.float32)
    theirs = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), nms_iou)
    assert nms(boxes, scores, np.zeros(200, int), nms_iou).tolist() == theirs.tolist()
