"""Metrics counted from stored matches: resamples, thresholds, VOC metrics, confusion matrix, TIDE errors."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenes import objects, pycocotools_eval, random_scene

from blemish.metrics.average_precision import RECALLS, accumulate
from blemish.metrics.bootstrap_metrics import (
    _required_true_positives,
    count_at_thresholds,
    image_presence,
    label_average_precision,
    label_metrics,
)
from blemish.metrics.classification import mean_of_defined
from blemish.metrics.coco_matching import FALSE_POSITIVE, TRUE_POSITIVE, match_detections
from blemish.metrics.iou import overlapping_pairs
from blemish.metrics.thresholds import choose_object_thresholds
from blemish.metrics.tide import ERROR_TYPES, object_confusion, tide_breakdown
from blemish.metrics.voc_average_precision import VocMatches


def row(image, label, box, score=1.0, crowd=0, difficult=0):
    return [image, label, *box, score, crowd, difficult]


def scene(ground_truth_rows, found_rows, images=2, labels=2):
    return objects(ground_truth_rows, images, labels), objects(found_rows, images, labels)


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("seed", range(3))
def test_label_metrics_equal_pycocotools_on_repeated_images(seed, levels):
    ground_truths, detections = random_scene(seed, images=20, levels=levels)
    matches = match_detections(detections, ground_truths)
    rng = np.random.default_rng(seed)
    weights = np.stack([np.bincount(rng.integers(0, 20, 20), minlength=20) for _ in range(4)], 1)
    weights[:, 3] = 0
    weights[0, 3] = 5  # some labels disappear
    if levels:  # copies of one detection are adjacent here, but not in repeated images with ties
        weights = np.minimum(weights, 1)
    ours = label_average_precision(matches, weights)
    for column in range(4):
        evaluation = pycocotools_eval(ground_truths, detections, weights[:, column])
        twelve = [mean_of_defined(values)[column] for values in label_metrics(matches, weights).values()]
        np.testing.assert_allclose(np.nan_to_num(twelve, nan=-1), evaluation.stats, rtol=0, atol=1e-12)
        reference = evaluation.eval["precision"][:, :, :, 0, -1]
        expected = np.where(reference[:, 0] < 0, np.nan, reference.mean(1)).T
        np.testing.assert_allclose(ours[:, :, column], expected, rtol=0, atol=1e-12)
    whole = label_average_precision(matches, np.ones((20, 1)))[:, :, 0].mean(1)
    np.testing.assert_allclose(whole, accumulate(matches).per_label("ap"), rtol=0, atol=1e-12)


def test_label_average_precision_does_not_depend_on_chunks(monkeypatch):
    ground_truths, detections = random_scene(1)
    matches, weights = (
        match_detections(detections, ground_truths),
        np.random.default_rng(0).integers(0, 3, (30, 11)),
    )
    expected = label_average_precision(matches, weights)
    monkeypatch.setattr("blemish.metrics.bootstrap_metrics.CHUNK_CELLS", 50)
    np.testing.assert_array_equal(label_average_precision(matches, weights), expected)


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
    from scenes import encoded

    ground_truths, detections = random_scene(4, masks=masks, images=6)
    pairs = overlapping_pairs(detections, ground_truths, min_iou=0.0, across_labels=True)
    table = np.zeros((len(detections), len(ground_truths)))
    table[pairs.detection, pairs.ground_truth] = pairs.iou
    for image in range(6):
        rows, columns = (np.flatnonzero(o.image == image) for o in (detections, ground_truths))
        if not len(rows) or not len(columns):
            continue
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


def test_count_at_thresholds_equals_counts_of_filtered_detections():
    ground_truths, detections = random_scene(3)
    thresholds = np.array([0.2, 0.5, 0.8, 0.4])
    weights = np.random.default_rng(0).integers(0, 3, (30, 2)).astype(float)
    ours = count_at_thresholds(match_detections(detections, ground_truths), thresholds, weights)
    left = match_detections(detections.take(detections.score >= thresholds[detections.label]), ground_truths)
    for label in range(4):
        for column in range(2):
            w = weights[left.detections.image, column] * (left.detections.label == label)
            assert ours.true_positives[label, column] == w[left.outcome[:, 0, 0] == TRUE_POSITIVE].sum()
            assert ours.false_positives[label, column] == w[left.outcome[:, 0, 0] == FALSE_POSITIVE].sum()
    plain = count_at_thresholds(match_detections(detections, ground_truths), thresholds, np.ones((30, 1)))
    np.testing.assert_array_equal(plain.support[:, 0], left.positives)


def test_image_presence_of_any_detection_and_any_object():
    ground_truths, detections = scene(
        [row(0, 0, (0, 0, 9, 9))], [row(0, 1, (0, 0, 9, 9), 0.4), row(1, 0, (0, 0, 9, 9), 0.6)]
    )
    predicted, true = image_presence(match_detections(detections, ground_truths), np.array([0.5, 0.3]))
    assert predicted.tolist() == [True, True]
    assert true.tolist() == [True, False]
    assert image_presence(match_detections(detections, ground_truths), np.array([0.9, 0.9]))[0].tolist() == [
        False,
        False,
    ]


def test_object_confusion_counts_missed_objects_and_false_positives():
    ground_truths, detections = scene(
        [
            row(0, 0, (0, 0, 10, 10)),
            row(0, 0, (20, 0, 30, 10)),
            row(1, 1, (0, 0, 10, 10)),
            row(1, 1, (0, 50, 90, 90), crowd=1),
        ],
        [
            row(0, 0, (0, 0, 10, 10), 0.9),  # true positive
            row(0, 1, (20, 0, 30, 10), 0.8),  # wrong label
            row(0, 0, (0, 0, 10, 9), 0.7),  # a duplicate
            row(1, 1, (0, 50, 40, 90), 0.9),  # in a crowd
            row(1, 1, (0, 0, 10, 10), 0.2),  # below the threshold
        ],
    )
    confusion = object_confusion(match_detections(detections, ground_truths), np.array([0.5, 0.5]))
    assert confusion.matrix.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert len(confusion.missed) == 2
    assert len(confusion.false_positives) == 2


@pytest.mark.parametrize("seed", range(3))
def test_object_confusion_adds_up(seed):
    ground_truths, detections = random_scene(seed)
    thresholds = np.full(4, 0.3)
    matches = match_detections(detections, ground_truths)
    counts = object_confusion(matches, thresholds).matrix
    support = matches.positives
    np.testing.assert_array_equal(counts[:4].sum(1), support)
    predicted = (matches.detections.score >= 0.3) & (matches.outcome[:, 0, 0] != 2)
    np.testing.assert_array_equal(
        counts[:, :4].sum(0), np.bincount(matches.detections.label[predicted], minlength=4)
    )
    np.testing.assert_array_equal(
        np.diag(counts)[:4], count_at_thresholds(matches, thresholds, np.ones((30, 1))).true_positives[:, 0]
    )


def one_of_each_kind():
    ground_truths = [row(0, 0, (100 * i, 0, 100 * i + 40, 40)) for i in range(2)] + [
        row(1, 0, (0, 0, 40, 40))
    ]
    ground_truths += [row(0, 1, (0, 100, 40, 140)), row(1, 1, (100, 100, 140, 140))]
    detections = [
        row(0, 0, (0, 0, 40, 40), 0.9),  # true positive
        row(0, 0, (0, 0, 40, 36), 0.8),  # duplicate
        row(0, 0, (100, 0, 116, 40), 0.85),  # localization error: IoU 0.4
        row(0, 0, (0, 100, 40, 140), 0.95),  # wrong label
        row(1, 0, (100, 100, 116, 140), 0.6),  # both
        row(1, 0, (0, 190, 9, 199), 0.7),  # background
    ]
    return scene(ground_truths, detections)


def test_tide_breakdown_separates_the_error_types():
    ground_truths, detections = one_of_each_kind()
    result = tide_breakdown(match_detections(detections, ground_truths))
    assert result.count == {
        "classification": 1, "localization": 1, "both": 1, "duplicate": 1, "background": 1, "missed": 2,
    }  # fmt: skip
    assert result.ap50 == pytest.approx(
        accumulate(match_detections(detections, ground_truths)).metric("ap50"), abs=1e-12
    )
    assert all(cost >= 0 for cost in result.ap50_cost.values())
    assert result.ap50_cost["classification"] > 0
    assert result.ap50_cost["missed"] > 0


def slow_kinds(detections, ground_truths, matches):
    """Classify the errors by TIDE's rules, one false positive after the other."""

    def iou(a, b):
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        shared = max(w, 0) * max(h, 0)
        return shared / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared, 1e-9)

    used = {matches.matched[i] for i in np.flatnonzero(matches.outcome[:, 0, 0] == TRUE_POSITIVE)}
    counts, usable = dict.fromkeys(ERROR_TYPES, 0), set()
    for i in np.flatnonzero(matches.outcome[:, 0, 0] == FALSE_POSITIVE):
        near = [
            (iou(detections.boxes[i], ground_truths.boxes[j]), j)
            for j in range(len(ground_truths))
            if ground_truths.image[j] == detections.image[i] and not ground_truths.crowd[j]
        ]
        same = [(o, j) for o, j in near if ground_truths.label[j] == detections.label[i]]
        other = [(o, j) for o, j in near if ground_truths.label[j] != detections.label[i]]
        best = [max((o for o, _ in side), default=0) for side in (same, other, near)]
        if 0.1 <= best[0] <= 0.5:
            kind, side = "localization", same
        elif best[1] >= 0.5:
            kind, side = "classification", other
        elif any(o >= 0.5 and j in used for o, j in same):
            kind, side = "duplicate", []
        elif best[2] <= 0.1:
            kind, side = "background", []
        else:
            kind, side = "both", []
        counts[kind] += 1
        usable |= {j for o, j in side if o == max(o for o, _ in side)} - used
    free = set(np.flatnonzero(~ground_truths.crowd)) - used - usable
    return counts | {"missed": len(free)}


@pytest.mark.parametrize("seed", range(4))
def test_tide_breakdown_counts_equal_a_slow_loop(seed):
    ground_truths, detections = random_scene(seed, whole=False)
    matches = match_detections(detections, ground_truths)
    result = tide_breakdown(matches)
    assert result.count == slow_kinds(matches.detections, ground_truths, matches)
    assert sum(result.count.values()) > 30


def test_tide_breakdown_keeps_a_label_whose_missed_objects_are_removed():
    """As in tidecv, its false positives remain, and the AP of the other label does not change."""
    ground_truths = [row(0, 0, (0, 0, 40, 40)), row(0, 1, (100, 100, 140, 140))]
    detections = [row(0, 0, (0, 0, 40, 40), 0.9), row(0, 1, (200, 0, 220, 20), 0.8)]
    ground_truths, detections = scene(ground_truths, detections)
    result = tide_breakdown(match_detections(detections, ground_truths))
    assert result.count["missed"] == 1 and result.ap50 == pytest.approx(0.5)
    assert result.ap50_cost["missed"] == 0


def test_tide_breakdown_cost_equals_the_gain_of_corrected_detections():
    ground_truths, detections = one_of_each_kind()
    result = tide_breakdown(match_detections(detections, ground_truths))
    removed = {"duplicate": 1, "background": 5, "both": 4}
    for kind, place in removed.items():
        without = detections.take(np.delete(np.arange(len(detections)), place))
        expected = accumulate(match_detections(without, ground_truths)).metric("ap50") - result.ap50
        assert result.ap50_cost[kind] == pytest.approx(expected, abs=1e-12), kind
    moved = detections.boxes.copy()
    moved[2] = (100, 0, 140, 40)
    placed = objects(
        [
            [*r]
            for r in np.column_stack(
                [
                    detections.image,
                    detections.label,
                    moved,
                    detections.score,
                    detections.crowd,
                    detections.crowd,
                ]
            )
        ],
        2,
        2,
    )
    expected = accumulate(match_detections(placed, ground_truths)).metric("ap50") - result.ap50
    assert result.ap50_cost["localization"] == pytest.approx(expected, abs=1e-12)


def test_choose_object_thresholds_puts_the_smallest_threshold_in_a_gap():
    """At exactly 0.05, rounding in another runtime would change decisions."""
    square, other = (0, 0, 40, 40), (100, 0, 140, 40)
    ground_truths, detections = scene(
        [row(0, 0, square)], [row(0, 0, square, 0.06), row(0, 0, other, 0.0499)]
    )
    assert choose_object_thresholds(match_detections(detections, ground_truths))[0] == pytest.approx(
        (0.06 + 0.0499) / 2
    )
    both = [row(0, 0, square), row(0, 0, other)]
    ground_truths, detections = scene(both, [row(0, 0, other, 0.05 + 1e-7), row(0, 0, square, 0.2)])
    assert choose_object_thresholds(match_detections(detections, ground_truths))[0] == pytest.approx(
        (0.2 + 0.05) / 2, abs=1e-4
    )


def test_required_true_positives_equal_a_search_over_rounded_quotients():
    positives = np.arange(1, 301)
    required = _required_true_positives(positives)
    for column, whole in enumerate(positives):
        reached = np.arange(whole + 1) / whole >= RECALLS[:, None]
        np.testing.assert_array_equal(required[:, column], reached.argmax(1))


def test_count_at_thresholds_and_image_presence_include_a_score_equal_to_the_threshold():
    square = (0, 0, 9, 9)
    ground_truths, found = scene([row(0, 0, square)], [row(0, 0, square, 0.5), row(1, 0, square, 0.5)])
    matches, thresholds = match_detections(found, ground_truths), np.array([0.5, 0.5])
    counts = count_at_thresholds(matches, thresholds, np.ones((2, 1)))
    assert counts.true_positives[0, 0] == 1 and counts.false_positives[0, 0] == 1
    assert image_presence(matches, thresholds)[0].tolist() == [True, True]
    assert object_confusion(matches, thresholds).matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_choose_object_thresholds_includes_a_score_equal_to_the_smallest_threshold():
    square = (0, 0, 40, 40)
    ground_truths, found = scene([row(0, 0, square)], [row(0, 0, square, 0.05)])
    assert choose_object_thresholds(match_detections(found, ground_truths)).tolist() == [0.05, 0.5]


@pytest.mark.parametrize(
    ("label", "box", "error"),
    [
        (0, (0, 0, 10, 10), "localization"),  # IoU 0.5 with an object of its label that is already matched
        (1, (0, 0, 10, 10), "classification"),  # IoU 0.5 with an object of another label
        (1, (0, 0, 2, 10), "background"),  # IoU 0.1 with an object of another label
        (0, (0, 0, 2, 10), "localization"),  # IoU 0.1 with an object of its label
        (1, (0, 0, 3, 10), "both"),
        (0, (0, 0, 15, 10), "duplicate"),
    ],
)
def test_tide_breakdown_at_the_iou_limits(label, box, error):
    square = (0, 0, 20, 10)
    ground_truths, found = scene([row(0, 0, square)], [row(0, 0, square, 0.9), row(0, label, box, 0.8)])
    counts = tide_breakdown(match_detections(found, ground_truths)).count
    assert counts == {name: int(name == error) for name in ERROR_TYPES}


def test_tide_breakdown_corrects_the_best_detection_of_an_object():
    ground_truths, found = scene(
        [row(0, 0, (0, 0, 20, 10))],
        [
            row(0, 0, (0, 0, 8, 10), 0.9),  # two localization errors of one object
            row(0, 0, (0, 0, 6, 10), 0.5),
            row(0, 0, (100, 100, 110, 110), 0.7),  # background
        ],
    )
    assert tide_breakdown(match_detections(found, ground_truths)).ap50_cost["localization"] == pytest.approx(
        1
    )


def test_tide_breakdown_corrects_to_the_first_of_two_objects_with_equal_iou():
    """The second object is matched already, so that a correction to it would leave the first one missed."""
    ground_truths, found = scene(
        [row(0, 0, (0, 0, 20, 10)), row(0, 0, (20, 0, 40, 10))],
        [row(0, 0, (16, 0, 24, 10), 0.9), row(0, 0, (24, 0, 36, 10), 0.8)],
    )
    assert tide_breakdown(match_detections(found, ground_truths)).count["missed"] == 0


def test_object_confusion_pairs_the_largest_iou_first():
    ground_truths, found = scene(
        [row(0, 0, (0, 0, 20, 10))],
        [row(0, 2, (0, 0, 12, 10), 0.9), row(0, 1, (0, 0, 18, 10), 0.8)],
        labels=3,
    )
    matrix = object_confusion(match_detections(found, ground_truths), np.zeros(3)).matrix
    assert matrix.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
