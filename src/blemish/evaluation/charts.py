"""The report's charts: small SVG drawings that take their colors from the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from blemish.evaluation.report import ConfusionTable, MetricValue

SIDE = 190  # the side of a square plot in SVG units
LEFT, TOP, RIGHT, BELOW = 40, 10, 10, 32
MAX_LABELS_WITH_COUNTS = 16


def interval_bar(metric: MetricValue) -> Markup:
    """Draw a metric in [0, 1] as a dot on a line, with its interval as a bar."""
    if metric.value is None:
        return Markup("")
    at = 2 + 76 * min(max(metric.value, 0), 1)
    parts = ['<line class="rule" x1="2" y1="7" x2="78" y2="7"/>']
    if metric.low is not None and metric.high is not None:
        low, high = (2 + 76 * min(max(v, 0), 1) for v in (metric.low, metric.high))
        parts.append(f'<line class="whisker" x1="{low:.1f}" y1="7" x2="{high:.1f}" y2="7"/>')
    parts.append(f'<circle class="dot" cx="{at:.1f}" cy="7" r="3"/>')
    return _svg(80, 14, parts, "interval")


def curve(
    points: dict[str, list[float]], *, x: str, y: str, title: str, threshold: float | None, steps: bool
) -> Markup:
    """Draw a curve in the unit square.

    Args:
        points: `x`, `y` and `threshold`, one for each distinct score, in descending order of score.
        x: the name of the horizontal axis.
        y: the name of the vertical axis.
        title: the text for screen readers.
        threshold: the confidence threshold, which a dot marks; None for no dot.
        steps: whether the curve is constant up to the next point, as a precision-recall curve is.
    """
    parts = _frame(x, y)
    xs, ys = points["x"], points["y"]
    if not xs:
        return _svg(*_plot_size(), [*parts, _text(_across(0.5), _up(0.5), "undefined", "middle")], title)
    if steps:
        path = f"M{_across(0):.1f} {_up(ys[0]):.1f}"
        for px, py in zip(xs, ys, strict=True):
            path += f"V{_up(py):.1f}H{_across(px):.1f}"
    else:
        parts.append(f'<line class="guide" x1="{_across(0)}" y1="{_up(0)}" x2="{_across(1)}" y2="{_up(1)}"/>')
        path = f"M{_across(0):.1f} {_up(0):.1f}" + "".join(
            f"L{_across(px):.1f} {_up(py):.1f}" for px, py in zip(xs, ys, strict=True)
        )
    parts.append(f'<path class="curve" d="{path}"/>')
    if threshold is not None:
        reached = [i for i, t in enumerate(points["threshold"]) if t >= threshold]
        if reached:
            at_x, at_y = _across(xs[reached[-1]]), _up(ys[reached[-1]])
            parts.append(f'<circle class="dot" cx="{at_x:.1f}" cy="{at_y:.1f}" r="4"/>')
    return _svg(*_plot_size(), parts, title)


def reliability(bins: dict[str, list[float]], title: str) -> Markup:
    """Draw a reliability diagram: accuracy over confidence.

    Args:
        bins: `counts`, `confidence` and `accuracy` of each bin; the count decides the area of a dot.
        title: the text for screen readers.
    """
    parts = _frame("confidence", "accuracy")
    parts.append(f'<line class="guide" x1="{_across(0)}" y1="{_up(0)}" x2="{_across(1)}" y2="{_up(1)}"/>')
    largest = max(bins["counts"], default=0) or 1
    for count, confidence, accuracy in zip(bins["counts"], bins["confidence"], bins["accuracy"], strict=True):
        if count:
            radius = 2.5 + 7 * (count / largest) ** 0.5
            x, y, diagonal = _across(confidence), _up(accuracy), _up(confidence)
            parts.append(f'<line class="gap" x1="{x:.1f}" y1="{diagonal:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>')
            tip = escape(f"confidence {confidence:.2f}, accuracy {accuracy:.2f}, {count:.0f} predictions")
            parts.append(
                f'<circle class="bubble" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
                f"<title>{tip}</title></circle>"
            )
    return _svg(*_plot_size(), parts, title)


def risk_coverage(rows: Sequence[dict[str, Any]], *, at: dict[str, Any], title: str) -> Markup:
    """Draw the error of the decided images over the share of images that are decided.

    Args:
        rows: `risk`, `decided` and `error` (None if nothing is decided) at each risk.
        at: `decided` and `error` of the chosen rule, which a dot marks.
        title: the text for screen readers.
    """
    points = sorted((r["decided"], r["error"], r["risk"]) for r in rows if r["error"] is not None)
    highest = max([error for _, error, _ in points] + [at["error"] or 0.0], default=0.0)
    top = next(v for v in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if v >= highest)
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}"/>']
    ends = ((0, "start"), (0.5, "middle"), (1, "end"))
    parts += [_text(_across(v), TOP + SIDE + 13, f"{v:.0%}", anchor) for v, anchor in ends]
    parts += [_text(LEFT - 5, _up(v) + 4, f"{v * top:.3g}", "end") for v in (0.5, 1)]
    parts.append(_text(_across(0.5), TOP + SIDE + 27, "images decided", "middle", "name"))
    parts.append(_rotated_text(LEFT - 30, _up(0.5), "error"))
    if points:
        steps = (f"{_across(x):.1f} {_up(y / top):.1f}" for x, y, _ in points)
        parts.append(f'<path class="curve" d="M{"L".join(steps)}"/>')
    for x, y, risk in points:
        tip = escape(f"risk {risk:g}: {x:.1%} decided, error {y:.3f}")
        parts.append(
            f'<circle class="bubble" cx="{_across(x):.1f}" cy="{_up(y / top):.1f}" r="2.5">'
            f"<title>{tip}</title></circle>"
        )
    if at["error"] is not None:
        x_at, y_at = _across(at["decided"]), _up(at["error"] / top)
        parts.append(f'<circle class="dot" cx="{x_at:.1f}" cy="{y_at:.1f}" r="4.5"/>')
    return _svg(*_plot_size(), parts, title)


def histogram(
    positive: Sequence[float], negative: Sequence[float], *, threshold: float | None, title: str
) -> Markup:
    """Draw the distribution of scores: positives upward, negatives downward, each to its own scale.

    Args:
        positive: the number of positives in each bin over [0, 1].
        negative: the number of negatives in each bin.
        threshold: the confidence threshold, which a line marks; None for no line.
        title: the text for screen readers.
    """
    parts = []
    middle, reach = TOP + SIDE / 2, SIDE / 2 - 4
    width = SIDE / max(len(positive), 1)
    for counts, sign, name in ((positive, -1, "positive"), (negative, 1, "negative")):
        largest = max(counts, default=0) or 1
        for i, count in enumerate(counts):
            height = reach * count / largest
            if count:
                y = middle - height if sign < 0 else middle
                tip = escape(f"{count:.0f} {name} from {i / len(counts):.2f} to {(i + 1) / len(counts):.2f}")
                parts.append(
                    f'<rect class="bar-{name}" x="{LEFT + i * width + 0.5:.1f}" y="{y:.1f}" '
                    f'width="{width - 1:.1f}" height="{max(height, 0.8):.1f}"><title>{tip}</title></rect>'
                )
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{middle}" x2="{LEFT + SIDE}" y2="{middle}"/>')
    if threshold is not None:
        at = _across(threshold)
        parts.append(f'<line class="cut" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{TOP + SIDE}"/>')
    parts += [_text(_across(v), TOP + SIDE + 13, f"{v:g}", "middle") for v in (0, 0.5, 1)]
    parts.append(_text(_across(0.5), TOP + SIDE + 27, "score", "middle", "name"))
    parts.append(_rotated_text(LEFT - 9, middle - reach / 2, "positive"))
    parts.append(_rotated_text(LEFT - 9, middle + reach / 2, "negative"))
    return _svg(*_plot_size(), parts, title)


def plain_histogram(counts: Sequence[float], *, name: str, title: str) -> Markup:
    """Draw one histogram over [0, 1].

    Args:
        counts: the number of images in each bin.
        name: the name of the horizontal axis.
        title: the text for screen readers.
    """
    largest, width = max(counts, default=0) or 1, 2 * SIDE / max(len(counts), 1)
    parts = []
    for i, count in enumerate(counts):
        height = (SIDE - 16) * count / largest
        x = LEFT + i * width
        if count:
            parts.append(
                f'<rect class="bar-positive" x="{x + 1:.1f}" y="{TOP + SIDE - height:.1f}" '
                f'width="{width - 2:.1f}" height="{max(height, 1):.1f}"/>'
            )
            parts.append(_text(x + width / 2, TOP + SIDE - height - 4, f"{count:.0f}", "middle"))
    floor = TOP + SIDE
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{floor}" x2="{LEFT + 2 * SIDE}" y2="{floor}"/>')
    parts += [
        _text(LEFT + 2 * SIDE * v, TOP + SIDE + 13, f"{v:g}", "middle") for v in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts.append(_text(LEFT + SIDE, TOP + SIDE + 27, name, "middle", "name"))
    return _svg(LEFT + 2 * SIDE + RIGHT, TOP + SIDE + BELOW, parts, title)


def compare_histograms(shares: dict[str, Sequence[float]], *, axis: str, limit: float, title: str) -> Markup:
    """Draw two histograms over one axis, the first upward and the second downward, to one scale.

    Args:
        shares: by name, the shares of each bin over [0, limit].
        axis: the name of the horizontal axis.
        limit: where the axis ends.
        title: the text for screen readers.
    """
    across, middle, reach = 3 * SIDE, TOP + SIDE / 2, SIDE / 2 - 4
    largest = max((v for values in shares.values() for v in values), default=0) or 1
    parts = []
    for (name, values), sign in zip(shares.items(), (-1, 1), strict=True):
        width = across / max(len(values), 1)
        for i, value in enumerate(values):
            height = reach * value / largest
            y = middle - height if sign < 0 else middle
            parts.append(
                f'<rect class="bar-{name}" x="{LEFT + i * width + 0.5:.1f}" y="{y:.1f}" '
                f'width="{width - 1:.1f}" height="{height:.1f}"/>'
            )
        parts.append(_rotated_text(LEFT - 9, middle + sign * reach / 2, name))
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{middle}" x2="{LEFT + across}" y2="{middle}"/>')
    parts += [
        _text(LEFT + across * v, TOP + SIDE + 13, f"{v * limit:.1f}", "middle")
        for v in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts.append(_text(LEFT + across / 2, TOP + SIDE + 27, axis, "middle", "name"))
    return _svg(LEFT + across + RIGHT + 12, TOP + SIDE + BELOW, parts, title)


def confusion(matrix: ConfusionTable, rows: Sequence[str], columns: Sequence[str], title: str) -> Markup:
    """Draw a confusion matrix: ground truth down, predictions across, shaded by the share of the row.

    Args:
        matrix: the counts.
        rows: the display names of its rows.
        columns: the display names of its columns; cells whose row and column have one name are correct.
        title: the text for screen readers.
    """
    count = max(len(rows), len(columns))
    sizes = ((4, 64), (8, 46), (MAX_LABELS_WITH_COUNTS, 34))
    cell = next((size for limit, size in sizes if count <= limit), max(8, 440 // count))
    margin = min(180, 20 + max((int(6.6 * len(r)) for r in (*rows, "ground truth")), default=0))
    top = min(130, 40 + max((int(4.6 * len(c)) for c in columns), default=0)) if count > 4 else 40
    parts = []
    for i, row in enumerate(matrix.counts):
        y = top + i * cell
        parts.append(_text(margin - 8, y + cell / 2 + 4, _shorten(rows[i], 26), "end", "cell-name"))
        whole = row.sum() or 1
        for j, number in enumerate(row):
            share, x = float(number / whole), margin + j * cell
            kind = "cell correct" if rows[i] == columns[j] else "cell wrong"
            tip = escape(
                f"ground truth {rows[i]}, predicted {columns[j]}: {number:.0f} ({100 * share:.0f} %)"
            )
            parts.append(
                f'<rect class="empty" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="2"/>'
            )
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="2" '
                f'fill-opacity="{0.08 + 0.92 * share if number else 0:.3f}"><title>{tip}</title></rect>'
            )
            if count <= MAX_LABELS_WITH_COUNTS and number:
                tone = "over" if share > 0.55 else "under"
                parts.append(
                    _text(x + cell / 2 - 1, y + cell / 2 + 3, f"{number:.0f}", "middle", f"count {tone}")
                )
    for j, name in enumerate(columns):
        center = margin + j * cell + cell / 2
        shown = _shorten(name, 26)
        if count > 4:
            place = f"translate({center + 3:.1f} {top - 8}) rotate(-45)"
            parts.append(f'<text class="cell-name" transform="{place}">{escape(shown)}</text>')
        else:
            parts.append(_text(center - 1, top - 10, _shorten(name, 10), "middle", "cell-name"))
    parts.append(_text(margin, 12, "predicted →", "start", "name"))
    parts.append(_text(margin - 8, top - 10, "ground truth ↓", "end", "name"))
    width = margin + len(columns) * cell + (70 if count > 4 else 10)
    return _svg(width, top + len(rows) * cell + 4, parts, title)


def bars(entries: Sequence[tuple[str, float]], title: str) -> Markup:
    """Draw horizontal bars, each with a name before it and its value after it."""
    largest = max((abs(v) for _, v in entries), default=0) or 1
    start = 8 + max((7 * len(name) for name, _ in entries), default=0)  # names are never wider
    parts = []
    for i, (name, value) in enumerate(entries):
        y, length = 6 + i * 26, max(260 * abs(value) / largest, 1)
        parts.append(_text(start - 8, y + 13, name, "end", "cell-name"))
        parts.append(
            f'<rect class="bar-positive" x="{start}" y="{y + 2}" width="{length:.1f}" height="15" rx="1.5"/>'
        )
        parts.append(_text(start + length + 6, y + 13, f"{value:.3f}", "start"))
    return _svg(start + 326, 12 + 26 * len(entries), parts, title)


def _frame(x: str, y: str) -> list[str]:
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}"/>']
    for value in (0.25, 0.5, 0.75):
        x_at, y_at = _across(value), _up(value)
        parts.append(f'<line class="grid" x1="{x_at}" y1="{_up(0)}" x2="{x_at}" y2="{_up(1)}"/>')
        parts.append(f'<line class="grid" x1="{_across(0)}" y1="{y_at}" x2="{_across(1)}" y2="{y_at}"/>')
    parts += [_text(_across(v), TOP + SIDE + 13, f"{v:g}", "middle") for v in (0, 0.5, 1)]
    parts += [_text(LEFT - 5, _up(v) + 4, f"{v:g}", "end") for v in (0.5, 1)]
    parts.append(_text(_across(0.5), TOP + SIDE + 27, x, "middle", "name"))
    parts.append(_rotated_text(LEFT - 27, _up(0.5), y))
    return parts


def _across(value: float) -> float:
    return LEFT + SIDE * value


def _up(value: float) -> float:
    return TOP + SIDE * (1 - value)


def _plot_size() -> tuple[float, float]:
    return LEFT + SIDE + RIGHT, TOP + SIDE + BELOW


def _shorten(name: str, max_letters: int) -> str:
    return name if len(name) <= max_letters else name[: max_letters - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _rotated_text(x: float, y: float, text: str) -> str:
    place = f"translate({x:.1f} {y:.1f}) rotate(-90)"
    return f'<text class="name" transform="{place}" text-anchor="middle">{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: Any) -> Markup:
    inside = "".join(parts)
    return Markup(  # noqa: S704  (every text in `parts` is escaped)
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(title)}">{inside}</svg>'
    )
