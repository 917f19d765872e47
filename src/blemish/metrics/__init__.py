"""Metrics: pure functions from ground truths and predictions to numbers.

Metrics that have a bootstrap interval take `weights`, the number of times that each image counts: (n,) for
one set of images, or (n, r) for r resamples at once. Thereby a thousand resamples cost little more than one.
`METRICS` lists every metric with its meaning and direction.
"""

from blemish.metrics.metric_table import METRICS, MetricSpec, metric_direction, register_metric

__all__ = ["METRICS", "MetricSpec", "metric_direction", "register_metric"]
