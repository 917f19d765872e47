"""`speed_plot`: the primary metric of compared models over their time per image, as SVG."""

from __future__ import annotations

import math
from html import escape

from blemish.evaluation.comparison import ComparedModel, Comparison
from blemish.evaluation.metric_names import metric_display_name

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BELOW = 64, 150, 34, 52
LETTER = 7  # the approximate width of a letter in pixels
Area = tuple[float, float, float, float]  # left, top, right, bottom
STYLE = """
svg { background: #fcfbf8; font: 13px "Inter", "Segoe UI", system-ui, sans-serif; }
text { fill: #1d1b19; } .soft { fill: #6b655d; font-size: 12px; }
.grid { stroke: #ddd6cb; }
.whisker { stroke: #b5431b; stroke-opacity: .4; stroke-width: 4; stroke-linecap: round; }
circle { fill: #b5431b; stroke: #fcfbf8; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  svg { background: #161513; } text { fill: #ece7de; } .soft { fill: #a8a095; } .grid { stroke: #38342f; }
  .whisker { stroke: #f08a5d; } circle { fill: #f08a5d; stroke: #161513; }
}
"""


def speed_plot(comparison: Comparison) -> str:
    """Draw the primary metric over the milliseconds per image, one dot per model.

    Args:
        comparison: one model or more; its names are untrusted and are escaped.

    Returns:
        A complete SVG document.
    """
    models, name = comparison.models, comparison.primary_metric
    low, high = _axis_limits([model.milliseconds for model in models])
    ends = [end for model in models for end in (model.metrics[name].low, model.metrics[name].high)]
    values = [*(_value(model, name) for model in models), *(end for end in ends if end is not None)]
    floor, step = _scale(min(values), max(values))
    ceiling = max(floor + step, math.ceil(max(values) / step - 1e-9) * step)

    def x_of(milliseconds: float) -> float:
        share = (math.log10(max(milliseconds, 1e-3)) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return HEIGHT - BELOW - (value - floor) / (ceiling - floor) * (HEIGHT - TOP - BELOW)

    parts = []
    for i in range(round((ceiling - floor) / step) + 1):
        y = y_of(floor + i * step)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{floor + i * step:.3g}", "end", "soft"))
    for tick in _ticks(low, high):
        x = x_of(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BELOW}"/>')
        parts.append(_text(x, HEIGHT - BELOW + 18, f"{tick:g}", "middle", "soft"))
    dots = [(x_of(model.milliseconds), y_of(_value(model, name))) for model in models]
    occupied = [(x - 7, y - 7, x + 7, y + 7) for x, y in dots]
    for model, (x, y) in zip(models, dots, strict=True):
        metric = model.metrics[name]
        if metric.low is not None and metric.high is not None:
            limits = f'y1="{y_of(metric.low):.1f}" y2="{y_of(metric.high):.1f}"'
            parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" {limits}/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        parts.append(_text(*_place_name(x, y, model.name, occupied)))
    title = metric_display_name(name) + (" of boxes" if comparison.by_boxes else "")
    parts.append(_text(LEFT, TOP - 14, title, "start"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "milliseconds per image", "middle", "soft"))
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{escape(title)} over milliseconds per image">\n'
        f"<style>{STYLE}</style>\n{inside}\n</svg>\n"
    )


def _place_name(x: float, y: float, name: str, occupied: list[Area]) -> tuple[float, float, str, str]:
    """Find the free position closest to a dot for its name, and add the name's area to `occupied`.

    Returns:
        The x and y of the text, the text, and its anchor.
    """
    width = LETTER * len(name) + 4
    for offset in sorted(range(-150, 151, 5), key=abs):
        baseline = y + 4 + offset
        for anchor, left in (("start", x + 10), ("end", x - 10 - width)):
            area = (left, baseline - 9, left + width, baseline + 2)
            inside = TOP <= baseline <= HEIGHT - BELOW - 3 and left >= LEFT
            if inside and not any(
                area[0] < right and left < area[2] and area[1] < bottom and top < area[3]
                for left, top, right, bottom in occupied
            ):
                occupied.append(area)
                return (x + 12 if anchor == "start" else x - 12), baseline, name, anchor
    return x + 12, y + 4, name, "start"


def _value(model: ComparedModel, name: str) -> float:
    return model.metrics[name].value or 0.0


def _axis_limits(milliseconds: list[float]) -> tuple[float, float]:
    """Return the ends of the horizontal axis as powers of ten, with a margin on both sides."""
    low, high = (math.log10(max(v, 1e-3)) for v in (min(milliseconds), max(milliseconds)))
    return math.floor((low - 0.1) * 4) / 4, math.ceil((high + 0.1) * 4) / 4


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times each power of ten between the ends of the axis."""
    ticks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    return [t for t in ticks if low - 1e-9 <= math.log10(t) <= high + 1e-9]


def _scale(low: float, high: float) -> tuple[float, float]:
    """Return the start of the vertical axis and the step between its lines."""
    spread = max(high - low, 0.02)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1e9) if spread / s <= 7)
    return math.floor(low / step + 1e-9) * step, step


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    css_class = f' class="{style}"' if style else ""
    return f'<text{css_class} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
