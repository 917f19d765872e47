"""The table of metrics, and metrics of third parties."""

from typing import Any

import numpy as np
import pytest

from blemish.metrics import METRICS, MetricSpec, metric_direction, register_metric
from blemish.metrics.average_precision import COCO_METRICS
from blemish.metrics.custom_metrics import compute_custom_metrics, resampled_statistic
from blemish.metrics.metric_table import custom_metrics, metrics_of_task
from blemish.structures import GroundTruth, Labels, Prediction, Task
from blemish.testing import raises

LABELS = Labels(("dent", "scratch"))


def spec(name="test_metric", **changes):
    fields = {"display_name": "Test", "meaning": "a test", "direction": "max", "tasks": ("classification",)}
    return MetricSpec(name=name, **fields | changes)


@pytest.fixture
def registered():
    """Return a function that registers a metric until the end of the test."""
    names: list[Any] = []

    def register(function, **changes):
        made = spec(f"test_metric_{len(names)}", **changes)
        names.append(made.name)
        register_metric(made)(function)
        return made.name

    yield register
    for name in names:
        METRICS.unregister(name)


def single(index, scores):
    ground_truth = GroundTruth(task=Task.CLASSIFICATION, labels=LABELS, label_index=np.array([index]))
    prediction = Prediction(
        task=Task.CLASSIFICATION,
        labels=LABELS,
        label_index=np.array([int(np.argmax(scores))]),
        scores=np.array([max(scores)]),
        label_scores=scores,
        thresholds=np.array([0.5, 0.5]),
    )
    return ground_truth, prediction


def accuracy(ground_truths, predictions):
    return np.mean(
        [t.label_index[0] == p.label_index[0] for t, p in zip(ground_truths, predictions, strict=True)]
    )


def test_metric_direction_of_every_metric():
    smaller = {name for name, _ in METRICS.items() if metric_direction(name) == "min"}
    assert smaller == {
        *("log_loss", "brier", "calibration_error", "train_loss", "val_loss", "false_positive_rate"),
        *("error_x", "error_y", "error_width", "error_height"),
    }
    with raises("unknown-name.metric", "'macro_f'", "'macro_f1'"):
        metric_direction("macro_f")


def test_metrics_of_task_contain_the_metrics_of_the_task_table():
    for task in Task:
        names = {metric.name for metric in metrics_of_task(task)}
        assert task.primary_metric in names
        assert set(task.fields.validation_metrics) <= names
        assert set(task.fields.leading_metrics) <= names


def test_metric_table_contains_coco_metrics_of_masks_and_boxes():
    names = {metric.name for metric in metrics_of_task("segmentation")}
    assert {*COCO_METRICS, *(f"box_{name}" for name in COCO_METRICS)} <= names
    assert not any(metric.name.startswith("box_") for metric in metrics_of_task("detection"))


@pytest.mark.parametrize(
    ("changes", "code", "fact"),
    [
        ({"name": "Macro F1"}, "bad-input.metric-name", "'Macro F1'"),
        ({"direction": "up"}, "bad-input.metric-direction", "'up'"),
        ({"reads": ("boxes",)}, "bad-input.metric-field", "boxes_xyxy"),
    ],
)
def test_metric_spec_rejects_impossible_fields(changes, code, fact):
    with raises(code, fact):
        spec(**changes)


def test_register_metric_rejects_a_name_of_another_module(registered):
    with raises("duplicate-name", "macro_f1", "blemish.metrics.metric_table", __name__):
        register_metric(spec("macro_f1"))(accuracy)


def test_compute_custom_metrics_of_the_task_only(registered):
    pairs = [single(0, [0.9, 0.1]), single(1, [0.6, 0.4])]
    name = registered(accuracy)
    registered(accuracy, tasks=("detection",))
    assert [metric.name for metric in custom_metrics("classification")] == [name]
    computed = compute_custom_metrics("classification", *zip(*pairs, strict=True))
    assert computed.values == {name: 0.5} and computed.failures == {}
    assert compute_custom_metrics("localization", [], []).values == {}


def test_compute_custom_metrics_a_failure_does_not_stop_the_others(registered):
    def fails(ground_truths, predictions):
        raise RuntimeError("no reason")

    pairs = [single(0, [0.9, 0.1])]
    broken, vector, good = registered(fails), registered(lambda t, p: [1, 2]), registered(accuracy)
    computed = compute_custom_metrics("classification", *zip(*pairs, strict=True))
    assert computed.values[good] == 1
    assert np.isnan([computed.values[broken], computed.values[vector]]).all()
    assert set(computed.failures) == {broken, vector}
    assert "RuntimeError: no reason" in computed.failures[broken] and __name__ in computed.failures[broken]


def test_resampled_statistic_repeats_images_by_their_weights(registered):
    ground_truths, predictions = zip(
        single(0, [0.9, 0.1]), single(1, [0.6, 0.4]), single(1, [0.2, 0.8]), strict=True
    )
    name = registered(accuracy)
    statistic = resampled_statistic(custom_metrics("classification"), ground_truths, predictions)
    weights = np.array([[1, 0], [1, 3], [1, 1]], float)
    assert statistic(weights)[name] == pytest.approx([2 / 3, 1 / 4])
