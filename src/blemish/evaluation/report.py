"""`Report`: the result of an evaluation, with intervals, per-label rows, errors and warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import UnknownName
from blemish.structures import Labels, Task

SCHEMA_VERSION = 1
WarningKind = Literal["data-leakage", "optimistic-bias", "unreadable", "failed-metric", "note"]


@dataclass(frozen=True)
class MetricValue:
    """The value of a metric with its 95 % confidence interval.

    Attributes:
        value: None if the metric is undefined, as the average precision of a label without positives is.
        low: the lower end of the interval; None if there is no interval.
        high: the upper end of the interval; None if there is no interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: Any, interval: Any = None) -> MetricValue:
        """Convert NumPy scalars, in which NaN means undefined.

        Args:
            value: the metric's value.
            interval: the low and the high end of its interval, or None.
        """
        low, high = (None, None) if interval is None else (_finite(interval[0]), _finite(interval[1]))
        return cls(_finite(value), low, high)

    def to_dict(self) -> dict[str, float | None]:
        """Return `value`, `low` and `high`."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """The results for one label.

    Attributes:
        label: the name in JSON and in data.
        display_name: the name that tables show.
        support: the number of true images, or of true objects for tasks with objects.
        predicted: the number of images or objects that are predicted as this label.
        true_positives: the number of correct predictions among them.
        threshold: the confidence threshold; None if the label with the highest score is predicted.
        metrics: by name.
        reliable: whether the label reached the precision that was required when its threshold was chosen.
    """

    label: str
    display_name: str
    support: int
    predicted: int
    true_positives: int
    threshold: float | None
    metrics: Mapping[str, MetricValue]
    reliable: bool = True

    @property
    def false_positives(self) -> int:
        """The number of wrong predictions of this label."""
        return self.predicted - self.true_positives

    @property
    def false_negatives(self) -> int:
        """The number of true images or objects that are not predicted as this label."""
        return self.support - self.true_positives

    def to_dict(self) -> dict[str, Any]:
        """Return the row as `report.json` contains it."""
        return {
            "label": self.label,
            "display_name": self.display_name,
            "support": self.support,
            "predicted": self.predicted,
            "true_positives": self.true_positives,
            "threshold": self.threshold,
            "reliable": self.reliable,
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
        }


@dataclass(frozen=True, eq=False)
class ConfusionTable:
    """A confusion matrix with the names of its rows and columns.

    Attributes:
        rows: the true labels; for objects, the last row is `false positive`: no object was there.
        columns: the predicted labels; for objects, the last column is `missed`: nothing was predicted.
        counts: (rows, columns) float64 of whole numbers.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """Return the table as `report.json` contains it."""
        return {
            "rows": list(self.rows),
            "columns": list(self.columns),
            "counts": self.counts.astype(int).tolist(),
        }


@dataclass(frozen=True)
class ErrorCost:
    """One type of detection error.

    Attributes:
        ap50_cost: the AP50 that correcting all errors of this type would gain.
        count: the number of errors of this type.
    """

    ap50_cost: float
    count: int

    def to_dict(self) -> dict[str, float]:
        """Return `ap50_cost` and `count`."""
        return {"ap50_cost": self.ap50_cost, "count": self.count}


@dataclass(frozen=True)
class ErrorExample:
    """One image on which the model is wrong.

    Attributes:
        position: the image's index among the evaluated images.
        id: the id of the sample, or its position as text.
        severity: in [0, 1], the model's confidence in the error, or 1 minus the IoU.
        description: one line such as `predicted scratch (0.94), true label dent (0.03)`.
        ground_truth: the true labels.
        predicted: the predicted labels with their scores.
    """

    position: int
    id: str
    severity: float
    description: str
    ground_truth: tuple[str, ...] = ()
    predicted: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the example as `report.json` contains it."""
        return {
            "id": self.id,
            "severity": self.severity,
            "description": self.description,
            "ground_truth": list(self.ground_truth),
            "predicted": [{"label": label, "score": score} for label, score in self.predicted],
        }


@dataclass(frozen=True)
class ReportWarning:
    """A fact that changes how far a reader may trust the metrics.

    Attributes:
        kind: `data-leakage` (the model was trained on evaluated images), `optimistic-bias` (the checkpoint or
            the thresholds were chosen on them), `unreadable` (images that cannot be read), `failed-metric`
            (a third-party metric that raised an exception), or `note`.
        text: one sentence.
    """

    kind: WarningKind
    text: str

    def to_dict(self) -> dict[str, str]:
        """Return `kind` and `text`."""
        return {"kind": self.kind, "text": self.text}


@dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """The result of an evaluation.

    Attributes:
        task: the model's task.
        labels: the model's labels that the data set has too, in the model's order.
        primary_metric: the name of the task's most important metric, such as `macro_f1`.
        images: the number of evaluated images.
        metrics: over all labels, by name.
        groups: the number of groups (vehicles, claims, modules), or None if the data set has no groups.
        label_rows: one per label.
        confusion_matrix: ground truth against predictions, or None.
        tide: for objects, the number and the cost of each type of error.
        charts: the points of curves and the bars of histograms that the page draws.
        top_errors: the most confident errors, worst first.
        warnings: what a reader must know before trusting the metrics.
        model: facts about the model file; empty for predictions from elsewhere.
        data: facts about the data set.
        train_overlap: evaluated images that the model was trained or validated on.
        unreadable: the id of each image that cannot be read, and the reason.
        settings: how the report was computed.
        abstention: what is decided at a risk or cost; see `evaluation.abstention_report`. Empty if every
            image was decided.
        thumbnails: a JPEG for each of the first `top_errors`, by id; only the page contains them.
    """

    task: Task
    labels: Labels
    primary_metric: str
    images: int
    metrics: Mapping[str, MetricValue]
    groups: int | None = None
    label_rows: tuple[LabelRow, ...] = ()
    confusion_matrix: ConfusionTable | None = None
    tide: Mapping[str, ErrorCost] = field(default_factory=dict)
    charts: Mapping[str, Any] = field(default_factory=dict)
    top_errors: tuple[ErrorExample, ...] = ()
    warnings: tuple[ReportWarning, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    train_overlap: Mapping[str, Any] = field(default_factory=dict)
    unreadable: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    abstention: Mapping[str, Any] = field(default_factory=dict)
    thumbnails: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def value(self, name: str) -> float | None:
        """Return the value of one metric, such as `report.value("macro_f1")`; None if it is undefined.

        Raises:
            UnknownName: the report has no such metric.
        """
        if name not in self.metrics:
            raise UnknownName("metric", name, self.metrics, where=f"the report of {self.task}")
        return self.metrics[name].value

    def of_label(self, label: str) -> LabelRow:
        """Return the row of one label.

        Raises:
            UnknownName: the report has no such label.
        """
        for row in self.label_rows:
            if row.label == label:
                return row
        raise UnknownName("label", label, [row.label for row in self.label_rows])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as `report.json` contains it."""
        matrix = self.confusion_matrix
        return {
            "schema_version": SCHEMA_VERSION,
            "task": str(self.task),
            "images": self.images,
            "groups": self.groups,
            "primary_metric": {"name": self.primary_metric, **self.metrics[self.primary_metric].to_dict()},
            "warnings": [warning.to_dict() for warning in self.warnings],
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "labels": [row.to_dict() for row in self.label_rows],
            "confusion_matrix": None if matrix is None else matrix.to_dict(),
            "tide": {name: cost.to_dict() for name, cost in self.tide.items()},
            "top_errors": [error.to_dict() for error in self.top_errors],
            "train_overlap": dict(self.train_overlap),
            "unreadable": [{"id": name, "error": reason} for name, reason in self.unreadable],
            "model": dict(self.model),
            "data": dict(self.data),
            "settings": dict(self.settings),
            "charts": dict(self.charts),
            "abstention": dict(self.abstention) or None,
        }


def _finite(value: Any) -> float | None:
    number = float(np.asarray(value))
    return number if math.isfinite(number) else None
