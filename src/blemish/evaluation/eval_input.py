"""Predictions and truths, side by side and in the model's labels: what every scorer is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.report import MetricValue
from blemish.metrics.intervals import bootstrap
from blemish.structures import GroundTruth, Labels, Prediction, Task

Statistic = Callable[[NDArray[np.float64]], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, eq=False, kw_only=True)
class EvalInput:
    """What every scorer is given.

    Attributes:
        task: of the predictions.
        labels: of the model.
        known: indices of the labels that the data know; the others are not scored.
        predictions: one an image.
        ground_truths: likewise, in the model's labels.
        ids: likewise.
        groups: likewise, or None.
        resamples: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
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

    def figures(self, statistic: Statistic) -> dict[str, Any]:
        """Each of the statistic's figures with its interval.

        Args:
            statistic: from (n, r) weights to named figures, each (r,), or (L, r) for one a label.

        Returns:
            For each name a Figure, or a tuple of them for one a label.
        """
        plain = statistic(np.ones((len(self), 1)))
        bounds = {}
        if self.resamples:
            bounds = bootstrap(
                statistic, len(self), groups=self.groups, resamples=self.resamples, seed=self.seed
            )
        out: dict[str, Any] = {}
        for name, values in plain.items():
            ends = bounds.get(name)
            if np.ndim(values) == 1:
                out[name] = MetricValue.of(values[0], ends)
            else:
                out[name] = tuple(
                    MetricValue.of(row[0], None if ends is None else ends[i]) for i, row in enumerate(values)
                )
        return out
