"""The progress of a training: its completed epochs, the best of them, and what counts as an improvement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from blemish.errors import TrainingFailed
from blemish.metrics.metric_table import Direction


class TrainingInterrupted(TrainingFailed):
    """Ctrl-C or SIGTERM ended the training; the last completed epoch is saved."""


@dataclass
class Progress:
    """The completed epochs of a training; every checkpoint contains it.

    Attributes:
        epoch: number of completed epochs.
        history: one row of metrics per completed epoch.
        best_epoch: the epoch to export, from 1; 0 before there is one. It is the best one, or with
            `export_epoch: last` the last one.
        best_value: the best value of the monitored metric.
        waiting: epochs since that value.
    """

    epoch: int
    history: list[dict[str, float]]
    best_epoch: int = 0
    best_value: float | None = None
    waiting: int = 0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Progress:
        """Return the progress that a checkpoint contains."""
        return cls(
            state["epoch"],
            [dict(row) for row in state["history"]],
            state["best_epoch"],
            state["best_value"],
            state["waiting"],
        )

    def state(self) -> dict[str, Any]:
        """Return the progress as numbers, lists and dictionaries."""
        return asdict(self)


def improves(value: float, best: float | None, direction: Direction, min_delta: float = 0.0) -> bool:
    """Return whether a value is better than the best one so far.

    Args:
        value: of the last epoch; NaN never improves.
        best: of the epochs before; None or NaN if there is none.
        direction: "max" if a larger value is better, "min" if a smaller one is.
        min_delta: smallest difference that counts.

    Example:
        >>> improves(0.2, 0.3, "min"), improves(0.2, 0.3, "max"), improves(float("nan"), None, "max")
        (True, False, False)
    """
    if math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return value < best - min_delta if direction == "min" else value > best + min_delta
