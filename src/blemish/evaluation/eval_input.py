"""`EvalInput`: predictions and ground truth of the same images, the input of every task's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.report import MetricValue
from blemish.metrics.calibration import BIASED_METRICS
from blemish.metrics.intervals import bootstrap
from blemish.structures import GroundTruth, Labels, Prediction, Task

Statistic = Callable[[NDArray[np.float64]], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, eq=False, kw_only=True)
class EvalInput:
    """Predictions and ground truth of the same images.

    Attributes:
        task: the task of the predictions.
        labels: the model's labels.
        known: the indices of the labels that the data set has too; the others are not evaluated.
        predictions: one per image.
        ground_truths: one per image, in the model's labels.
        ids: the id of each image.
        groups: the group of each image, or None to resample images.
        resamples: the number of bootstrap resamples; 0 for no intervals.
        seed: the random seed of the bootstrap.
    """

    task: Task
    labels: Labels
    known: tuple[int, ...]
    predictions: tuple[Prediction, ...]
    ground_truths: tuple[GroundTruth, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None
    resamples: int
    seed: int

    def __len__(self) -> int:
        return len(self.predictions)

    @property
    def known_labels(self) -> Labels:
        """The labels that are evaluated, in the model's order."""
        names, display_names = self.labels.names, self.labels.display_names
        return Labels(tuple(names[i] for i in self.known), tuple(display_names[i] for i in self.known))

    def with_intervals(self, statistic: Statistic) -> dict[str, Any]:
        """Compute metrics with their intervals.

        Args:
            statistic: a function from (n, r) weights to named metrics, each (r,), or (L, r) if there is one
                per label.

        Returns:
            For each name a `MetricValue`, or a tuple of them for one per label.
        """
        values = statistic(np.ones((len(self), 1)))
        bounds = {}
        if self.resamples:
            bounds = bootstrap(
                statistic,
                len(self),
                groups=self.groups,
                resamples=self.resamples,
                seed=self.seed,
                biased=BIASED_METRICS,
            )
        out: dict[str, Any] = {}
        for name, of_metric in values.items():
            ends = bounds.get(name)
            if np.ndim(of_metric) == 1:
                out[name] = MetricValue.of(of_metric[0], ends)
            else:
                out[name] = tuple(
                    MetricValue.of(row[0], None if ends is None else ends[i])
                    for i, row in enumerate(of_metric)
                )
        return out
