import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.decoding.nms import BLOCK, nms


def crowd(count, seed=0, spread=100.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, spread, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], 1).astype(dtype)


def slow(boxes, scores, labels, max_iou):
    """Greedy suppression as one would say it."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in kept:
            if labels[i] != labels[j]:
                continue
            a, b = boxes[i], boxes[j]
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            inside = max(width, 0) * max(height, 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
            if union > 0 and inside / union > max_iou:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("count", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 700])
@pytest.mark.parametrize("max_iou", [0.0, 0.3, 0.5, 1.0])
def test_equals_a_slow_loop(count, max_iou):
    rng = np.random.default_rng(count)
    boxes, scores, labels = crowd(count), rng.uniform(0, 1, count), rng.integers(0, 3, count)
    assert nms(boxes, scores, labels, max_iou).tolist() == slow(boxes, scores, labels, max_iou)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("count", "labels"), [(300, 1), (3000, 5), (6000, 20)])
def test_equals_torchvision(count, labels, dtype):
    torch = pytest.importorskip("torch")
    from torchvision.ops import batched_nms

    rng = np.random.default_rng(count)
    boxes = crowd(count, seed=1, spread=400, dtype=dtype)
    scores = rng.uniform(0, 1, count).astype(dtype)
    label = rng.integers(0, labels, count)
    theirs = batched_nms(*(torch.from_numpy(x) for x in (boxes, scores, label)), 0.45)
    ours = nms(boxes, scores, label, 0.45)
    assert ours.tolist() == theirs.tolist()
    assert 0 < len(ours) < count


def test_ties_stay_in_the_order_given():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]], float)
    assert nms(boxes, np.array([0.5, 0.5, 0.5]), np.zeros(3, int), 0.5).tolist() == [0, 2]


def test_an_overlap_of_exactly_the_limit_stays():
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], float)  # overlap 1/3
    assert nms(boxes, np.array([0.9, 0.8]), np.zeros(2, int), 1 / 3).tolist() == [0, 1]
    assert nms(boxes, np.array([0.9, 0.8]), np.zeros(2, int), 0.333).tolist() == [0]


def test_boxes_without_area_do_not_suppress_each_other():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], float)
    assert nms(boxes, np.array([0.9, 0.8]), np.zeros(2, int), 0.5).tolist() == [0, 1]


def test_the_best_of_all_labels_are_kept():
    rng = np.random.default_rng(0)
    boxes, scores, labels = crowd(2000, spread=2000), rng.uniform(0, 1, 2000), rng.integers(0, 4, 2000)
    everything = nms(boxes, scores, labels, 0.5)
    assert nms(boxes, scores, labels, 0.5, 37).tolist() == everything[:37].tolist()


def test_no_boxes_at_all():
    assert nms(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.5).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), max_iou=st.floats(0, 1))
def test_what_stays_is_far_apart_and_what_goes_was_beaten(seed, count, max_iou):
    rng = np.random.default_rng(seed)
    boxes, scores, labels = crowd(count, seed), rng.integers(0, 5, count) / 5, rng.integers(0, 2, count)
    assert nms(boxes, scores, labels, max_iou).tolist() == slow(boxes, scores, labels, max_iou)


@pytest.mark.parametrize("max_iou", [0.3, 0.45, 0.7])
def test_equals_torchvision_where_boxes_overlap_by_the_very_threshold(max_iou):
    """In single precision .3 is more than .3 in double, and torchvision compares in double."""
    torch = pytest.importorskip("torch")
    from torchvision.ops import nms

    rng = np.random.default_rng(0)
    corner = rng.integers(0, 30, (200, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 30, (200, 2))], 1).astype(np.float32)
    boxes[:2] = [[0, 0, 10, 100 * max_iou], [0, 0, 10, 100]]
    scores = np.linspace(1, 0, 200, dtype=np.float32)
    theirs = nms(torch.from_numpy(boxes), torch.from_numpy(scores), max_iou)
    assert nms(boxes, scores, np.zeros(200, int), max_iou).tolist() == theirs.tolist()
