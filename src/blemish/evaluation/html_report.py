"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from blemish._version import __version__
from blemish.evaluation.metric_names import (
    ERROR_TYPE_NAMES,
    format_interval,
    format_value,
    leading_metrics,
    metric_display_name,
    metric_meaning,
)
from blemish.evaluation.page_templates import template_environment
from blemish.evaluation.report import ConfusionTable, LabelRow, Report
from blemish.model_file import CROSS_VALIDATED

MAX_CURVE_ROWS = 40
MAX_LABEL_MATRICES = 8
COCO_COLUMNS = (
    ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)

WARNING_TITLES = {
    "data-leakage": "Data leakage",
    "optimistic-bias": "Optimistic bias",
    "unreadable": "Unreadable images",
    "failed-metric": "Failed metric",
    "note": "Note",
}


def render(report: Report) -> str:
    """Return the report's page.

    Args:
        report: its texts are untrusted and are escaped.

    Returns:
        HTML without scripts and without references to other files.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    environment = template_environment()
    from blemish.evaluation import charts

    environment.globals.update(
        charts=charts,
        metric_display_name=metric_display_name,
        metric_meaning=metric_meaning,
        format_value=format_value,
        format_interval=format_interval,
        warning_titles=WARNING_TITLES,
    )
    display_names = dict(zip(report.labels.names, report.labels.display_names, strict=True))
    leading = leading_metrics(report)
    averages = ("macro", "weighted", "micro")
    in_table = {f"{a}_{n}" for a in averages for n in ("precision", "recall", "f1")}
    compared = (("Masks", ""), ("Boxes", "box_")) if "box_ap" in report.metrics else (("Boxes", ""),)
    sizes = [
        [(name, [f"{prefix}{n}" for n in columns]) for name, prefix in compared]
        for columns in COCO_COLUMNS
        if "ap_small" in report.metrics
    ]
    of_sizes = {name for table in sizes for _, names in table for name in names}
    return environment.get_template("report.html.jinja").render(
        report=report,
        version=__version__,
        display_names=display_names,
        leading=leading,
        averages=averages if in_table <= set(report.metrics) else (),
        others=[
            n for n in report.metrics if n not in {*in_table, *leading, *of_sizes, report.primary_metric}
        ],
        sizes=sizes,
        columns=tuple(report.label_rows[0].metrics) if report.label_rows else (),
        curves=_curves(report),
        label_matrices=_label_matrices(report),
        thumbnails={name: _data_uri(jpeg) for name, jpeg in report.thumbnails.items()},
        facts=_facts(report),
        objects=not report.task.is_image_level,
        matrix_names=lambda names: [display_names.get(name, name) for name in names],
        tide_rows=_tide_rows(report),
        temperature_origin=_temperature_origin(report.model.get("temperature_fitted_on")),
    )


def _temperature_origin(fitted_on: str | None) -> str:
    """Return how the temperature was chosen, or "" if the model file does not state it."""
    if not fitted_on:
        return ""
    if fitted_on == CROSS_VALIDATED:
        return "fitted to the training images by cross-validation"
    split = {"val": "validation", "train": "training"}.get(fitted_on, fitted_on)
    return f"fitted on the {split} images"


def _curves(report: Report) -> list[dict[str, Any]]:
    """Return the charts and the row of each label that occurs in the ground truth or in the predictions."""
    rows = {row.label: row for row in report.label_rows}
    occur = [
        curves
        for curves in report.charts.get("curves", ())
        if rows[curves["label"]].support or any(map(sum, curves["histogram"].values()))
    ]
    return [{**curves, "row": rows[curves["label"]]} for curves in occur[:MAX_CURVE_ROWS]]


def _tide_rows(report: Report) -> list[tuple[str, float]]:
    """Return the name and the number of each type of error, with the AP50 that it costs."""
    return [
        (f"{ERROR_TYPE_NAMES[name][0]} ({error.count:,})", error.ap50_cost)
        for name, error in report.tide.items()
    ]


def _label_matrices(report: Report) -> list[tuple[LabelRow, ConfusionTable]]:
    """Return a confusion matrix per label for tasks with any number of labels per image."""
    if not report.task.has_label_set or len(report.label_rows) > MAX_LABEL_MATRICES:
        return []
    out = []
    for row in report.label_rows:
        true_negatives = report.images - row.true_positives - row.false_negatives - row.false_positives
        counts = np.array(
            [[row.true_positives, row.false_negatives], [row.false_positives, true_negatives]], np.float64
        )
        out.append((row, ConfusionTable(("yes", "no"), ("yes", "no"), counts)))
    return out


def _facts(report: Report) -> list[tuple[str, str]]:
    """Return names and values for the section "How this was measured"."""
    model, data, settings = report.model, report.data, report.settings
    certificate = model.get("certificate") or {}
    drawn = (
        f"{settings.get('resamples', 0)} bootstrap resamples of {settings.get('resampled_unit', 'image')}s"
    )
    entries = [
        ("Model file", model.get("path")),
        ("Model digest", model.get("model_digest")),
        ("Architecture", model.get("architecture")),
        ("Backend", model.get("backend")),
        ("Export parity", certificate.get("text")),
        ("Thresholds chosen on", model.get("thresholds_tuned_on")),
        ("Temperature", _rounded(model.get("temperature"))),
        ("Weights license", model.get("weights_license")),
        ("Data set", data.get("path")),
        ("Format", data.get("format")),
        ("Split", data.get("split")),
        ("Data license", model.get("data_license")),
        ("Groups", report.groups),
        ("Intervals", f"95 %, {drawn}, seed {settings.get('seed')}" if settings.get("resamples") else "none"),
        ("Blemish", __version__),
    ]
    return [(name, str(value)) for name, value in entries if value not in (None, "")]


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
