"""Third-party metrics in validation epochs."""

import logging
import math
from typing import Any

import numpy as np
import pytest

from blemish.metrics import METRICS, MetricSpec, register_metric
from blemish.structures import GroundTruth, Labels, Prediction, Sample, Task
from blemish.training.validation import measure_custom_metrics

LABELS = Labels(("dent", "scratch"))


@pytest.fixture
def metrics():
    shared: dict[str, Any] = {
        "display_name": "Test",
        "meaning": "a test",
        "direction": "max",
        "tasks": ("classification",),
    }

    def number_of_images(ground_truths, predictions):
        return len(predictions)

    def fails(ground_truths, predictions):
        raise ValueError("no such field")

    register_metric(MetricSpec(name="number_of_images", **shared))(number_of_images)
    register_metric(MetricSpec(name="fails", **shared))(fails)
    yield
    METRICS.unregister("number_of_images")
    METRICS.unregister("fails")


def test_measure_custom_metrics_leaves_out_images_without_ground_truth(metrics, tmp_path, caplog):
    ground_truth = GroundTruth(task=Task.CLASSIFICATION, labels=LABELS, label_index=np.array([0]))
    prediction = Prediction(
        task=Task.CLASSIFICATION,
        labels=LABELS,
        label_index=np.array([0]),
        scores=np.array([0.9]),
        label_scores=np.array([0.9, 0.1]),
        thresholds=np.array([0.5, 0.5]),
    )
    samples = [
        Sample(id=str(i), path=tmp_path / f"{i}.png", ground_truth=shown)
        for i, shown in enumerate((ground_truth, None, ground_truth))
    ]
    with caplog.at_level(logging.WARNING, logger="blemish.training"):
        values = measure_custom_metrics([prediction] * 3, samples)
    assert values["number_of_images"] == 2
    assert math.isnan(values["fails"])
    assert "no such field" in caplog.text
    assert measure_custom_metrics([], []) == {}
