"""Third-party metrics, computed on ground truths and predictions, whole or resampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.metric_table import METRICS, MetricSpec, custom_metrics
from blemish.structures import GroundTruth, Prediction


@dataclass(frozen=True)
class CustomValues:
    """The values of third-party metrics.

    Attributes:
        values: by name; NaN for a metric that is undefined or failed.
        failures: for each metric that raised an exception or returned no number, one sentence with its
            module and the exception.
    """

    values: dict[str, float]
    failures: dict[str, str]


def compute_custom_metrics(
    task: str, ground_truths: Sequence[GroundTruth], predictions: Sequence[Prediction]
) -> CustomValues:
    """Compute every third-party metric of a task.

    A metric that fails does not stop the others: its value is NaN, and `failures` contains the exception.

    Args:
        task: the task of the predictions.
        ground_truths: one per image, in the model's labels.
        predictions: one per image, in the same order.
    """
    values, failures = {}, {}
    for spec in custom_metrics(task):
        values[spec.name], failure = _compute(spec, ground_truths, predictions)
        if failure:
            failures[spec.name] = failure
    return CustomValues(values, failures)


def resampled_statistic(
    specs: Sequence[MetricSpec], ground_truths: Sequence[GroundTruth], predictions: Sequence[Prediction]
) -> Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return a statistic for `bootstrap` that recomputes third-party metrics on resampled images.

    Args:
        specs: the metrics, each with `compute`.
        ground_truths: one per image.
        predictions: one per image, in the same order.

    Returns:
        A function from (n, r) weights, which are whole numbers, to an (r,) array per metric; NaN where a
        metric fails on a resample.
    """

    def statistic(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        out = {spec.name: np.full(weights.shape[1], np.nan) for spec in specs}
        for column in range(weights.shape[1]):
            rows = np.repeat(np.arange(len(predictions)), weights[:, column].astype(np.int64)).tolist()
            drawn = [ground_truths[i] for i in rows], [predictions[i] for i in rows]
            for spec in specs:
                out[spec.name][column] = _compute(spec, *drawn)[0]
        return out

    return statistic


def _compute(
    spec: MetricSpec, ground_truths: Sequence[GroundTruth], predictions: Sequence[Prediction]
) -> tuple[float, str]:
    """Return the metric's value and "", or NaN and a sentence with the exception."""
    if spec.compute is None:
        return math.nan, ""
    try:
        return float(spec.compute(ground_truths, predictions)), ""
    except Exception as error:  # a third party's function may raise anything
        module = METRICS.module_of(spec.name)
        return (
            math.nan,
            f"metric {spec.name!r} of the module {module} failed: {type(error).__name__}: {error}",
        )
