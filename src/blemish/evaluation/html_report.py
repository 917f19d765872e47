"""The report as one page of HTML that needs nothing beside it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from blemish._version import __version__
from blemish.errors import MissingExtra
from blemish.evaluation.metric_names import display_name_of, interval, leading_figures, meaning_of, number
from blemish.evaluation.report import ConfusionTable, LabelRow, Report

MOST_ROWS_OF_CURVES = 40
MOST_OWN_MATRICES = 8
COCO_COLUMNS = (
    ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)


def render(report: Report) -> str:
    """The page.

    Args:
        report: what an evaluation found; words in it are untrusted and are escaped.

    Returns:
        HTML without scripts and without references to anything outside.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("eval", "the HTML report") from error
    from blemish.evaluation import charts

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("blemish.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(
        charts=charts,
        display_name_of=display_name_of,
        meaning_of=meaning_of,
        number=number,
        interval=interval,
    )
    display_names = dict(zip(report.labels.names, report.labels.display_names, strict=True))
    leading = leading_figures(report)
    averages = ("macro", "weighted", "micro")
    in_table = {f"{a}_{n}" for a in averages for n in ("precision", "recall", "f1")}
    compared = (("Masks", ""), ("Boxes", "box_")) if "box_ap" in report.figures else (("Boxes", ""),)
    sizes = [
        [(name, [f"{prefix}{n}" for n in columns]) for name, prefix in compared]
        for columns in COCO_COLUMNS
        if "ap_small" in report.figures
    ]
    of_sizes = {name for table in sizes for _, names in table for name in names}
    return environment.get_template("report.html.jinja").render(
        report=report,
        version=__version__,
        display_names=display_names,
        leading=leading,
        averages=averages if in_table <= set(report.figures) else (),
        others=[n for n in report.figures if n not in {*in_table, *leading, *of_sizes, report.headline}],
        sizes=sizes,
        columns=tuple(report.label_rows[0].figures) if report.label_rows else (),
        curves=_curves(report),
        own_matrices=_own_matrices(report),
        pictures={name: _data_uri(jpeg) for name, jpeg in report.pictures.items()},
        facts=_facts(report),
        objects=not report.task.is_image_level,
        matrix_titles=lambda names: [display_names.get(name, name) for name in names],
        breakdown_rows=_breakdown_rows(report),
    )


def _curves(report: Report) -> list[dict[str, Any]]:
    """One row of charts a label that occurs, beside its line of the table."""
    rows = {row.label: row for row in report.label_rows}
    occur = [
        curves
        for curves in report.charts.get("curves", ())
        if rows[curves["label"]].support or any(map(sum, curves["histogram"].values()))
    ]
    return [{**curves, "row": rows[curves["label"]]} for curves in occur[:MOST_ROWS_OF_CURVES]]


def _breakdown_rows(report: Report) -> list[tuple[str, float]]:
    """Each kind of mistake with how often it happened, and what it costs."""
    counts = report.settings.get("mistakes", {})
    return [
        (f"{display_name_of(name)} ({counts.get(name, 0):,})", figure.value or 0.0)
        for name, figure in report.breakdown.items()
    ]


def _own_matrices(report: Report) -> list[tuple[LabelRow, ConfusionTable]]:
    """A matrix of yes and no for each label, where an image may hold several."""
    if not report.task.has_label_set or len(report.label_rows) > MOST_OWN_MATRICES:
        return []
    out = []
    for row in report.label_rows:
        misses, alarms = row.support - row.hits, row.said - row.hits
        rest = report.images - row.hits - misses - alarms
        counts = np.array([[row.hits, misses], [alarms, rest]], np.float64)
        out.append((row, ConfusionTable(("yes", "no"), ("yes", "no"), counts)))
    return out


def _facts(report: Report) -> list[tuple[str, str]]:
    """How this was measured: name and value, as a colophon."""
    model, data, settings = report.model, report.data, report.settings
    certificate = model.get("certificate") or {}
    drawn = f"{settings.get('resamples', 0)} bootstrap resamples of {settings.get('resampled', 'images')}"
    entries = [
        ("Model file", model.get("path")),
        ("Model digest", model.get("model_digest")),
        ("Architecture", model.get("architecture")),
        ("Run by", model.get("backend")),
        ("Parity", certificate.get("text")),
        ("Thresholds chosen on", model.get("thresholds_tuned_on")),
        ("Temperature", _rounded(model.get("temperature"))),
        ("Weights' licence", model.get("weights_licence")),
        ("Data", data.get("path")),
        ("Format", data.get("format")),
        ("Split", data.get("split")),
        ("Data's licence", model.get("data_licence")),
        ("Groups", report.groups),
        ("Intervals", f"95 %, {drawn}, seed {settings.get('seed')}" if settings.get("resamples") else "none"),
        ("Blemish", __version__),
    ]
    return [(name, str(value)) for name, value in entries if value not in (None, "")]


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
