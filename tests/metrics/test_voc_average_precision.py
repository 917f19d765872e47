"""Pascal VOC's average precision."""

from dataclasses import replace

import numpy as np
import pytest
from tests.metrics.scenes import random_scene, row, scene

from blemish.metrics.voc_average_precision import VocMatches


def slow_voc(detections, ground_truths, label):
    """Compute VOCevaldet.m, one detection after the other."""
    order = [i for i in np.argsort(-detections.score, kind="stable") if detections.label[i] == label]
    matched, true_positives, alarms = set(), [], []
    for i in order:
        best, best_j = -np.inf, None
        for j in range(len(ground_truths)):
            if ground_truths.label[j] != label or ground_truths.image[j] != detections.image[i]:
                continue
            a, b = detections.boxes[i], ground_truths.boxes[j]
            w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            if w > 0 and h > 0:
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
                if w * h / union > best:
                    best, best_j = w * h / union, j
        right = best >= 0.5
        if right and ground_truths.difficult[best_j]:
            continue
        true_positives.append(int(right and best_j not in matched))
        alarms.append(1 - true_positives[-1])
        if right:
            matched.add(best_j)
    positives = ((ground_truths.label == label) & ~ground_truths.difficult).sum()
    tp, fp = np.cumsum(true_positives), np.cumsum(alarms)
    rec, prec = tp / positives, tp / (tp + fp)
    eleven = sum(max(prec[rec >= t], default=0) for t in np.arange(11) / 10) / 11
    mrec, mpre = np.concatenate([[0], rec, [1]]), np.concatenate([[0], prec, [0]])
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    steps = np.flatnonzero(mrec[1:] != mrec[:-1]) + 1
    return ((mrec[steps] - mrec[steps - 1]) * mpre[steps]).sum(), eleven


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("seed", range(4))
def test_voc_average_precisions_equal_a_slow_loop(seed, levels):
    ground_truths, detections = random_scene(seed, crowds=0, levels=levels)
    matches, once = VocMatches.of(detections, ground_truths), np.ones((ground_truths.images, 1))
    area, eleven = (metric[:, 0] for metric in matches.average_precisions(once))
    for label in range(4):
        expected = slow_voc(detections, ground_truths, label)
        np.testing.assert_allclose([area[label], eleven[label]], expected, rtol=0, atol=1e-12)


def test_voc_average_precisions_of_resamples_equal_repeated_images(monkeypatch):
    ground_truths, detections = random_scene(2, images=12)
    weights = np.random.default_rng(1).integers(0, 3, (12, 3))
    ours = np.stack(VocMatches.of(detections, ground_truths).average_precisions(weights))
    for column in range(3):
        images = np.repeat(np.arange(12), weights[:, column])
        rows = [[np.flatnonzero(side.image == p) for p in images] for side in (detections, ground_truths)]
        many = [
            replace(
                side.take(np.concatenate(parts)),
                image=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
                images=len(parts),
            )
            for side, parts in zip((detections, ground_truths), rows, strict=True)
        ]
        whole = np.stack(VocMatches.of(*many).average_precisions(np.ones((len(images), 1))))
        np.testing.assert_allclose(ours[:, :, column], whole[:, :, 0], rtol=0, atol=1e-12)
    monkeypatch.setattr("blemish.metrics.voc_average_precision.CHUNK_CELLS", 1)
    np.testing.assert_array_equal(
        np.stack(VocMatches.of(detections, ground_truths).average_precisions(weights)), ours
    )


def test_voc_matches_ignore_difficult_objects_and_count_duplicates_as_false_positives():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 10, 10)), row(0, 0, (50, 0, 60, 10), difficult=1)],
        [row(0, 0, (50, 0, 60, 10), 0.9), row(0, 0, (0, 0, 10, 10), 0.8), row(0, 0, (0, 0, 10, 9), 0.95)],
    )
    area, eleven = VocMatches.of(detections, ground_truths).average_precisions(
        np.ones((ground_truths.images, 1))
    )
    assert (
        area[0] == 1 and eleven[0] == 1
    )  # the best detection comes first, its duplicate after all objects are detected
    assert np.isnan(area[1])


def test_voc_matches_take_the_first_of_two_objects_with_equal_iou():
    ground_truths, found = scene(
        [row(0, 0, (0, 0, 20, 20)), row(0, 0, (10, 0, 30, 20), difficult=1)],
        [row(0, 0, (5, 0, 25, 20), 0.9)],
    )
    area, eleven = VocMatches.of(found, ground_truths).average_precisions(np.ones((2, 1)))
    assert area[0] == 1 and eleven[0] == 1


def test_voc_matches_ignore_crowds():
    square = (0, 0, 10, 10)
    ground_truths, found = scene(
        [row(0, 0, square), row(0, 0, (50, 50, 90, 90), crowd=1)], [row(0, 0, square, 0.9)]
    )
    assert VocMatches.of(found, ground_truths).average_precisions(np.ones((2, 1)))[0][0] == 1
