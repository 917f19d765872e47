"""Pairs of overlapping boxes and masks."""

from typing import Any

import numpy as np
import pytest
from tests.metrics.scenes import random_scene

from blemish.metrics.iou import overlapping_pairs


def test_overlapping_pairs_do_not_depend_on_chunks(monkeypatch):
    ground_truths, detections = random_scene(2, masks=True, images=9)
    expected = overlapping_pairs(detections, ground_truths, min_iou=0.1, across_labels=True)
    monkeypatch.setattr("blemish.metrics.iou.CHUNK_PAIRS", 4)
    monkeypatch.setattr("blemish.metrics.iou.CHUNK_RUNS", 40)
    chunked = overlapping_pairs(detections, ground_truths, min_iou=0.1, across_labels=True)
    np.testing.assert_array_equal(chunked.detection, expected.detection)
    np.testing.assert_array_equal(chunked.ground_truth, expected.ground_truth)
    np.testing.assert_array_equal(chunked.iou, expected.iou)


@pytest.mark.parametrize("masks", [False, True])
def test_overlapping_pairs_equal_pycocotools(masks):
    from pycocotools import mask as api
    from tests.metrics.scenes import encoded

    ground_truths, detections = random_scene(4, masks=masks, images=6)
    pairs = overlapping_pairs(detections, ground_truths, min_iou=0.0, across_labels=True)
    table = np.zeros((len(detections), len(ground_truths)))
    table[pairs.detection, pairs.ground_truth] = pairs.iou
    for image in range(6):
        rows, columns = (np.flatnonzero(o.image == image) for o in (detections, ground_truths))
        if not len(rows) or not len(columns):
            continue
        sides: list[Any]
        if masks:
            sides = [
                [encoded(o.masks[i]) for i in r] for o, r in ((detections, rows), (ground_truths, columns))
            ]
        else:
            sides = [
                np.concatenate([o.boxes[r, :2], o.boxes[r, 2:] - o.boxes[r, :2]], 1)
                for o, r in ((detections, rows), (ground_truths, columns))
            ]
        expected = api.iou(sides[0], sides[1], ground_truths.crowd[columns].astype(int).tolist())
        np.testing.assert_allclose(table[np.ix_(rows, columns)], expected, rtol=0, atol=1e-12)
        table[np.ix_(rows, columns)] = 0
    assert not table.any()  # no pairs across images
