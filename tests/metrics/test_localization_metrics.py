import numpy as np
import pytest

from blemish.metrics.localization import BoxErrors, paired_iou
from blemish.testing import raises


def boxes(rng, n):
    corner = rng.uniform(0, 50, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 50, (n, 2))], 1)


def test_paired_iou_equals_torchvision():
    torch = pytest.importorskip("torch")
    from torchvision.ops import box_iou

    rng = np.random.default_rng(0)
    first, second = boxes(rng, 50), boxes(rng, 50)
    expected = box_iou(torch.tensor(first), torch.tensor(second)).diagonal().numpy()
    np.testing.assert_allclose(paired_iou(first, second), expected, atol=1e-12)
    point = np.array([[1.0, 1, 1, 1]])
    assert paired_iou(point, point).tolist() == [0]


def test_box_errors_metrics_equal_a_slow_loop():
    rng = np.random.default_rng(1)
    predicted, ground_truth = boxes(rng, 20), boxes(rng, 20)
    ground_truth[3, 0] = 0
    ground_truth[4, :2] = 0
    weights = rng.integers(0, 3, 20)
    absolute, relative = [], []
    for p, t, times in zip(predicted, ground_truth, weights, strict=True):
        for _ in range(times):
            pw = [p[0], p[1], p[2] - p[0], p[3] - p[1]]
            tw = [t[0], t[1], t[2] - t[0], t[3] - t[1]]
            absolute.append([abs(a - b) for a, b in zip(pw, tw, strict=True)])
            relative += [abs(a - b) / b for a, b in zip(pw, tw, strict=True) if b]
    errors = BoxErrors.of(predicted, ground_truth)
    metrics = errors.metrics(weights.astype(float))
    assert errors.zero_ground_truths == 3
    got = [metrics[f"error_{n}"] for n in ("x", "y", "width", "height")]
    np.testing.assert_allclose(got, np.mean(absolute, axis=0), atol=1e-12)
    np.testing.assert_allclose(metrics["relative_accuracy"], 1 - np.mean(relative), atol=1e-12)
    iou = np.repeat(errors.iou, weights)
    np.testing.assert_allclose(metrics["mean_iou"], iou.mean(), atol=1e-12)
    np.testing.assert_allclose(metrics["iou_50"], (iou >= 0.5).mean(), atol=1e-12)


def test_box_errors_metrics_count_an_iou_equal_to_the_limit():
    metrics = BoxErrors.of(np.array([[0, 0, 10, 10]]), np.array([[0, 5, 10, 10]])).metrics()
    assert metrics["iou_50"] == 1
    assert metrics["iou_75"] == 0
    metrics = BoxErrors.of(np.array([[0, 0, 8, 6]]), np.array([[0, 0, 8, 8]])).metrics()
    assert metrics["iou_75"] == 1
    with raises("bad-input.shape", "(2, 4)", "(1, 4)"):
        BoxErrors.of(np.zeros((2, 4)), np.zeros((1, 4)))
