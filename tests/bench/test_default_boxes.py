"""Clustered default boxes, which are compared with SSD's own."""

import itertools

import numpy as np
import pytest
import torch
from bench.default_boxes import boxes_of, cluster_shapes, coverage, shape_iou, spread_by_scale

from blemish.models._anchors import default_boxes, to_corners


def test_shape_iou_equals_boxes_with_one_center():
    random = np.random.default_rng(0)
    shapes, others = random.uniform(0.1, 1, (5, 2)), random.uniform(0.1, 1, (3, 2))
    for i, j in itertools.product(range(5), range(3)):
        common = min(shapes[i, 0], others[j, 0]) * min(shapes[i, 1], others[j, 1])
        union = shapes[i].prod() + others[j].prod() - common
        assert shape_iou(shapes, others)[i, j] == pytest.approx(common / union)


def test_cluster_shapes_finds_the_best_partition_of_separate_groups():
    random = np.random.default_rng(1)
    kinds = np.array([[0.1, 0.1], [0.6, 0.2], [0.2, 0.8]])
    shapes = np.concatenate([kind * random.uniform(0.95, 1.05, (3, 2)) for kind in kinds])
    centers = cluster_shapes(shapes, 3)
    best, best_centers = -1.0, None
    for parts in itertools.product(range(3), repeat=len(shapes)):
        if parts[0] or len(set(parts)) < 3:
            continue
        means = np.array([shapes[np.array(parts) == k].mean(0) for k in range(3)])
        total = shape_iou(shapes, means)[range(len(shapes)), parts].sum()
        if total > best:
            best, best_centers = total, means[np.argsort(means.prod(1))]
    assert centers == pytest.approx(best_centers)
    assert cluster_shapes(shapes, 3) == pytest.approx(centers)


def test_cluster_shapes_of_few_different_shapes():
    shapes = np.array([[0.5, 0.5]] * 4 + [[0.2, 0.3]])
    assert cluster_shapes(shapes, 6) == pytest.approx(np.array([[0.2, 0.3], [0.5, 0.5]]))


def test_boxes_of_default_shapes_are_the_default_boxes():
    maps, scales, ratios = [(3, 2), (1, 1)], (0.2, 0.5, 0.9), ((2,), ())
    expected = default_boxes(maps, (1, 1), scales, ratios)
    first = expected[:4, 2:].numpy()
    last = expected[-2:, 2:].numpy()
    torch.testing.assert_close(boxes_of([first, last], maps).float(), to_corners(expected))


def test_spread_by_scale_keeps_a_square_where_no_object_is():
    shapes = np.array([[0.1, 0.1], [0.1, 0.2]])
    small, large = spread_by_scale(shapes, [2, 2], (0.1, 0.9, 1.0), 0)
    assert len(small) == 2 and large == pytest.approx(np.array([[0.9, 0.9]]))


def test_coverage_counts_positive_boxes():
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 0.6]], dtype=torch.float64)
    best, share, count = coverage(boxes, np.array([[0.0, 0, 1, 1], [0.0, 0, 0.1, 0.1]]))
    assert best == pytest.approx((1 + 0.01 / 0.6) / 2) and share == 0.5 and count == 1
