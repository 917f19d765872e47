"""What an evaluation found: figures with intervals, label by label, and what stands behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import UnknownName
from blemish.model_file import write_atomically
from blemish.structures import Labels, Task

REPORT_VERSION = 1


@dataclass(frozen=True)
class MetricValue:
    """One number and how sure it is.

    Attributes:
        value: None where it is not defined (average precision of a label that is never true).
        low: lower end of the 95 % interval; None where none was asked for or none is defined.
        high: upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: Any, interval: Any = None) -> MetricValue:
        """From NumPy scalars, in which nan stands for not defined."""
        low, high = (None, None) if interval is None else (_number(interval[0]), _number(interval[1]))
        return cls(_number(value), low, high)

    def to_dict(self) -> dict[str, float | None]:
        """`value`, `low`, `high`."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One label's line.

    Attributes:
        label: its name.
        title: what people read.
        support: how often it is true: images, or objects for tasks with boxes.
        said: how often the verdict holds it.
        hits: how often it is true and the verdict holds it.
        threshold: the score from which the verdict is yes; None where the best label is the verdict.
        figures: by name.
    """

    label: str
    title: str
    support: int
    said: int
    hits: int
    threshold: float | None
    figures: Mapping[str, MetricValue]

    def to_dict(self) -> dict[str, Any]:
        """One word a thing."""
        return {
            "label": self.label,
            "title": self.title,
            "support": self.support,
            "said": self.said,
            "hits": self.hits,
            "threshold": self.threshold,
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
        }


@dataclass(frozen=True, eq=False)
class ConfusionTable:
    """What was taken for what.

    Attributes:
        rows: names of what is true; for objects the last is `false alarm`: nothing was there.
        columns: names of what was said; for objects the last is `missed`: nothing was said.
        counts: (rows, columns) float64 of whole numbers.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """One word a thing."""
        return {
            "rows": list(self.rows),
            "columns": list(self.columns),
            "counts": self.counts.astype(int).tolist(),
        }


@dataclass(frozen=True)
class ErrorExample:
    """One image on which the model was wrong.

    Attributes:
        position: which of the scored images.
        id: the sample's, or its position as text.
        severity: in [0, 1]; how sure the model was of what is wrong, or how far off it was.
        what: one line for people: `taken for scratch (0.94), is dent`.
        ground_truth: names of what is true.
        said: names and scores of what was said.
    """

    position: int
    id: str
    severity: float
    what: str
    ground_truth: tuple[str, ...] = ()
    said: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """One word a thing."""
        return {
            "id": self.id,
            "severity": self.severity,
            "what": self.what,
            "truth": list(self.ground_truth),
            "said": [{"label": label, "score": score} for label, score in self.said],
        }


@dataclass(frozen=True)
class ReportWarning:
    """Something a reader must know before believing a figure.

    Attributes:
        kind: `leak` (images the model learned from), `tuned` (split used to choose epoch or
            thresholds), `broken` (images that could not be read), `note`.
        text: one sentence.
    """

    kind: Literal["leak", "tuned", "broken", "note"]
    text: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """What an evaluation found.

    Attributes:
        task: what was asked.
        labels: in the order of the model; those that the data know.
        headline: the name of the figure that counts: `macro_f1`, `mean_iou`, `ap`.
        images: how many were scored.
        groups: how many objects they show, where known.
        figures: of all labels together, by name.
        label_rows: one a label.
        confusion: what was taken for what.
        breakdown: where the rest of the figure went: for objects, the AP50 each kind of error costs.
        charts: points of curves and bars of histograms, as the page draws them.
        worst: the most confident mistakes, worst first.
        stamps: what a reader must know.
        model: facts of the model file; empty where predictions came from elsewhere.
        data: facts of the data set.
        leaks: images the model learned from: `exact`, `near` and their ids.
        broken: images that could not be read: id, and why.
        settings: how intervals were drawn, and other choices.
        pictures: JPEG bytes of the worst images by id, for the page.
    """

    task: Task
    labels: Labels
    headline: str
    images: int
    figures: Mapping[str, MetricValue]
    groups: int | None = None
    label_rows: tuple[LabelRow, ...] = ()
    confusion: ConfusionTable | None = None
    breakdown: Mapping[str, MetricValue] = field(default_factory=dict)
    charts: Mapping[str, Any] = field(default_factory=dict)
    worst: tuple[ErrorExample, ...] = ()
    stamps: tuple[ReportWarning, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    leaks: Mapping[str, Any] = field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def value(self, name: str) -> float | None:
        """One figure's value, such as `report.value("macro_f1")`; UnknownName where there is none."""
        if name not in self.figures:
            raise UnknownName("figure", name, self.figures, where=f"the report of {self.task}")
        return self.figures[name].value

    def of_label(self, label: str) -> LabelRow:
        """One label's line; UnknownName where the report has none."""
        for row in self.label_rows:
            if row.label == label:
                return row
        raise UnknownName("label", label, [row.label for row in self.label_rows])

    def to_dict(self) -> dict[str, Any]:
        """The report as `report.json` holds it; pictures stand in the page alone."""
        return {
            "report_version": REPORT_VERSION,
            "task": str(self.task),
            "images": self.images,
            "groups": self.groups,
            "headline": {"name": self.headline, **self.figures[self.headline].to_dict()},
            "stamps": [{"kind": stamp.kind, "text": stamp.text} for stamp in self.stamps],
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "labels": [row.to_dict() for row in self.label_rows],
            "confusion": None if self.confusion is None else self.confusion.to_dict(),
            "breakdown": {name: figure.to_dict() for name, figure in self.breakdown.items()},
            "worst": [mistake.to_dict() for mistake in self.worst],
            "leaks": dict(self.leaks),
            "broken": [{"id": name, "error": reason} for name, reason in self.broken],
            "model": dict(self.model),
            "data": dict(self.data),
            "settings": dict(self.settings),
            "charts": dict(self.charts),
        }

    def write(self, folder: Path | str) -> tuple[Path, Path]:
        """Write `report.json` and `report.html`, each complete or not at all.

        Args:
            folder: where to; it is made.

        Returns:
            The two paths.

        Raises:
            MissingExtra: the page needs the extra `eval`; the JSON is written before.
            StorageFull: it could not be written.
        """
        folder = Path(folder)
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / "report.json", text.encode())
        from blemish.evaluation.html_report import render

        write_atomically(folder / "report.html", render(self).encode())
        return folder / "report.json", folder / "report.html"


def _number(value: Any) -> float | None:
    number = float(np.asarray(value))
    return number if math.isfinite(number) else None
