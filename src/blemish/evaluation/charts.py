"""The report's charts: small SVG drawings that take their colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from blemish.evaluation.report import ConfusionTable, MetricValue

SIDE = 190  # of a square chart's plot, in SVG units
LEFT, TOP, RIGHT, BELOW = 40, 10, 10, 32
MOST_CELLS_WITH_TEXT = 16


def interval_bar(figure: MetricValue) -> Markup:
    """A figure in [0, 1] as a dot on a line, with its interval as a bar."""
    if figure.value is None:
        return Markup("")
    at = 2 + 76 * min(max(figure.value, 0), 1)
    parts = ['<line class="rule" x1="2" y1="7" x2="78" y2="7"/>']
    if figure.low is not None and figure.high is not None:
        low, high = (2 + 76 * min(max(v, 0), 1) for v in (figure.low, figure.high))
        parts.append(f'<line class="whisker" x1="{low:.1f}" y1="7" x2="{high:.1f}" y2="7"/>')
    parts.append(f'<circle class="dot" cx="{at:.1f}" cy="7" r="3"/>')
    return _svg(80, 14, parts, "interval")


def curve(
    points: dict[str, list[float]], *, x: str, y: str, title: str, threshold: float | None, steps: bool
) -> Markup:
    """A curve over the unit square.

    Args:
        points: `x`, `y` and `threshold`, one for each distinct score, strictest first.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        title: read out by screen readers.
        threshold: where the verdict is taken; a dot marks it.
        steps: whether the curve holds its value until the next point (precision over recall).
    """
    parts = _frame(x, y)
    xs, ys = points["x"], points["y"]
    if not xs:
        return _svg(*_whole(), [*parts, _text(_across(0.5), _up(0.5), "not defined", "middle")], title)
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
        said = [i for i, t in enumerate(points["threshold"]) if t >= threshold]
        if said:
            at_x, at_y = _across(xs[said[-1]]), _up(ys[said[-1]])
            parts.append(f'<circle class="dot" cx="{at_x:.1f}" cy="{at_y:.1f}" r="4"/>')
    return _svg(*_whole(), parts, title)


def reliability(bins: dict[str, list[float]], title: str) -> Markup:
    """Accuracy over confidence: on the diagonal a score means what it says; a dot's area is its share."""
    parts = _frame("score", "share that is right")
    parts.append(f'<line class="guide" x1="{_across(0)}" y1="{_up(0)}" x2="{_across(1)}" y2="{_up(1)}"/>')
    largest = max(bins["images"], default=0) or 1
    for count, sure, right in zip(bins["images"], bins["confidence"], bins["accuracy"], strict=True):
        if count:
            radius = 2.5 + 7 * (count / largest) ** 0.5
            x, y, diagonal = _across(sure), _up(right), _up(sure)
            parts.append(f'<line class="gap" x1="{x:.1f}" y1="{diagonal:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>')
            tip = escape(f"score {sure:.2f}, right {right:.2f}, {count:.0f} answers")
            parts.append(
                f'<circle class="bubble" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
                f"<title>{tip}</title></circle>"
            )
    return _svg(*_whole(), parts, title)


def histogram(
    true: Sequence[float], untrue: Sequence[float], *, threshold: float | None, title: str
) -> Markup:
    """How scores spread: what is true upwards, what is not downwards, each as a share of its own."""
    parts = []
    middle, reach = TOP + SIDE / 2, SIDE / 2 - 4
    width = SIDE / max(len(true), 1)
    for counts, sign, name in ((true, -1, "true"), (untrue, 1, "untrue")):
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
    parts.append(_turned(LEFT - 9, middle - reach / 2, "true"))
    parts.append(_turned(LEFT - 9, middle + reach / 2, "not true"))
    return _svg(*_whole(), parts, title)


def plain_histogram(counts: Sequence[float], *, name: str, title: str) -> Markup:
    """One histogram over [0, 1], upwards from the axis."""
    largest, width = max(counts, default=0) or 1, 2 * SIDE / max(len(counts), 1)
    parts = []
    for i, count in enumerate(counts):
        height = (SIDE - 16) * count / largest
        x = LEFT + i * width
        if count:
            parts.append(
                f'<rect class="bar-true" x="{x + 1:.1f}" y="{TOP + SIDE - height:.1f}" '
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


def confusion(matrix: ConfusionTable, rows: Sequence[str], columns: Sequence[str], title: str) -> Markup:
    """A heat map: truth down, verdicts across, shaded by the share of the row; the diagonal is right.

    Args:
        matrix: the counts.
        rows: titles of its rows.
        columns: titles of its columns.
        title: read out by screen readers.
    """
    count = max(len(rows), len(columns))
    sizes = ((4, 64), (8, 46), (MOST_CELLS_WITH_TEXT, 34))
    cell = next((size for most, size in sizes if count <= most), max(8, 440 // count))
    margin = min(180, 20 + max((int(6.6 * len(r)) for r in (*rows, "true")), default=0))
    top = min(130, 40 + max((int(4.6 * len(c)) for c in columns), default=0)) if count > 4 else 40
    parts = []
    for i, row in enumerate(matrix.counts):
        y = top + i * cell
        parts.append(_text(margin - 8, y + cell / 2 + 4, _short(rows[i], 26), "end", "cell-name"))
        whole = row.sum() or 1
        for j, number in enumerate(row):
            share, x = float(number / whole), margin + j * cell
            kind = "cell right" if rows[i] == columns[j] else "cell wrong"
            tip = escape(f"{rows[i]} taken for {columns[j]}: {number:.0f} ({100 * share:.0f} %)")
            parts.append(
                f'<rect class="empty" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="2"/>'
            )
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="2" '
                f'fill-opacity="{0.08 + 0.92 * share if number else 0:.3f}"><title>{tip}</title></rect>'
            )
            if count <= MOST_CELLS_WITH_TEXT and number:
                tone = "over" if share > 0.55 else "under"
                parts.append(
                    _text(x + cell / 2 - 1, y + cell / 2 + 3, f"{number:.0f}", "middle", f"count {tone}")
                )
    for j, name in enumerate(columns):
        center = margin + j * cell + cell / 2
        shown = _short(name, 26)
        if count > 4:
            place = f"translate({center + 3:.1f} {top - 8}) rotate(-45)"
            parts.append(f'<text class="cell-name" transform="{place}">{escape(shown)}</text>')
        else:
            parts.append(_text(center - 1, top - 10, _short(name, 10), "middle", "cell-name"))
    parts.append(_text(margin, 12, "said →", "start", "name"))
    parts.append(_text(margin - 8, top - 10, "true ↓", "end", "name"))
    width = margin + len(columns) * cell + (70 if count > 4 else 10)
    return _svg(width, top + len(rows) * cell + 4, parts, title)


def bars(entries: Sequence[tuple[str, float]], title: str) -> Markup:
    """Horizontal bars with a name before and a number behind each."""
    largest = max((abs(v) for _, v in entries), default=0) or 1
    start = 8 + max((7 * len(name) for name, _ in entries), default=0)  # no letter is wider, on average
    parts = []
    for i, (name, value) in enumerate(entries):
        y, length = 6 + i * 26, max(260 * abs(value) / largest, 1)
        parts.append(_text(start - 8, y + 13, name, "end", "cell-name"))
        parts.append(
            f'<rect class="bar-true" x="{start}" y="{y + 2}" width="{length:.1f}" height="15" rx="1.5"/>'
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
    parts.append(_turned(LEFT - 27, _up(0.5), y))
    return parts


def _across(value: float) -> float:
    return LEFT + SIDE * value


def _up(value: float) -> float:
    return TOP + SIDE * (1 - value)


def _whole() -> tuple[float, float]:
    return LEFT + SIDE + RIGHT, TOP + SIDE + BELOW


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _text(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _turned(x: float, y: float, words: str) -> str:
    place = f"translate({x:.1f} {y:.1f}) rotate(-90)"
    return f'<text class="name" transform="{place}" text-anchor="middle">{escape(words)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: Any) -> Markup:
    inside = "".join(parts)
    return Markup(  # noqa: S704  (every word in `parts` went through `escape`)
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(title)}">{inside}</svg>'
    )
