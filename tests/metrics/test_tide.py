"""Types of detection errors and the confusion matrix of objects."""

import numpy as np
import pytest
from tests.metrics.scenes import objects, random_scene, row, scene

from blemish.metrics.average_precision import accumulate
from blemish.metrics.bootstrap_metrics import (
    count_at_thresholds,
)
from blemish.metrics.coco_matches import FALSE_POSITIVE, TRUE_POSITIVE, match_detections
from blemish.metrics.tide import ERROR_TYPES, object_confusion, tide_breakdown


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


def test_tide_breakdown_leaves_out_a_label_without_ground_truth():
    ground_truths = [row(0, 0, (0, 0, 40, 40))]
    detections = [row(0, 0, (0, 0, 40, 40), 0.9), row(0, 1, (200, 0, 220, 20), 0.8)]
    result = tide_breakdown(match_detections(*reversed(scene(ground_truths, detections))))
    assert result.ap50 == pytest.approx(1) and result.count["background"] == 1
    assert result.ap50_cost["background"] == 0, "its false positives cost nothing, since nothing is measured"


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


def test_tide_breakdown_does_not_correct_to_an_object_that_is_matched():
    square = (0, 0, 20, 10)
    ground_truths, found = scene(
        [row(0, 0, square)],
        [
            row(0, 0, (0, 0, 8, 10), 0.95),  # a localization error of the matched object
            row(0, 0, (100, 100, 110, 110), 0.92),  # background
            row(0, 0, square, 0.9),
        ],
    )
    result = tide_breakdown(match_detections(found, ground_truths))
    assert result.ap50_cost["localization"] == pytest.approx(1 / 2 - 1 / 3)
