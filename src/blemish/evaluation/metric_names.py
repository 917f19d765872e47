"""Names, meanings and values of metrics as tables and the report show them."""

from __future__ import annotations

from blemish.evaluation.report import MetricValue, Report
from blemish.metrics import METRICS

# Types of detection errors: the name that the report shows, and what it means.
ERROR_TYPE_NAMES = {
    "classification": ("Wrong label", "overlaps an object of another label with an IoU of at least 0.5"),
    "localization": ("Inaccurate box", "overlaps an object of its label with an IoU from 0.1 to 0.5"),
    "both": ("Wrong label and box", "overlaps only objects of other labels, with an IoU from 0.1 to 0.5"),
    "duplicate": ("Duplicate", "a better detection matches the same object"),
    "background": ("Background", "overlaps no object with an IoU above 0.1"),
    "missed": ("Missed object", "no detection is close to the object"),
}
DASH = "\N{EN DASH}"


def metric_display_name(name: str) -> str:
    """Return the name of a metric that tables show.

    Example:
        >>> metric_display_name("macro_f1"), metric_display_name("box_ap_small"), metric_display_name("ar_10")
        ('Macro F1', 'Box AP small', 'AR 10')
    """
    return METRICS.get(name).display_name if name in METRICS else name


def metric_meaning(name: str) -> str:
    """Return the meaning of a metric in one line, with a note if lower is better.

    Example:
        >>> metric_meaning("log_loss")
        'the mean negative log-likelihood of the ground truth, in nats; lower is better'
    """
    if name not in METRICS:
        return ""
    spec = METRICS.get(name)
    return spec.meaning + ("; lower is better" if spec.direction == "min" else "")


def format_value(value: float | None, name: str = "") -> str:
    """Return the value of a metric as text: a dash if it is undefined, with the unit if it has one.

    Example:
        >>> format_value(0.8234), format_value(None), format_value(12.34, "error_x")
        ('0.823', '–', '12.3 px')
    """
    if value is None:
        return DASH
    unit = METRICS.get(name).unit if name in METRICS else ""
    return f"{value:.1f} px" if unit == "px" else f"{value:.3f}"


def format_interval(metric: MetricValue, name: str = "") -> str:
    """Return the interval of a metric as text, or "" if it has none.

    Example:
        >>> format_interval(MetricValue(0.8, 0.71, 0.88))
        '0.710 – 0.880'
    """
    if metric.low is None or metric.high is None:
        return ""
    return f"{format_value(metric.low, name)} {DASH} {format_value(metric.high, name)}"


def leading_metrics(report: Report) -> list[str]:
    """Return the names of the metrics that are shown next to the primary metric."""
    return [name for name in report.task.fields.leading_metrics if name in report.metrics]
