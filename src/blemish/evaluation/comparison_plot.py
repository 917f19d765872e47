"""The plot of a comparison: how good over how slow."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from blemish.evaluation.metric_names import display_name_of

if TYPE_CHECKING:
    from blemish.evaluation.comparison import ComparedModel, Comparison

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BELOW = 64, 150, 34, 52
LETTER = 7  # pixels of a letter's width, about
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
    """SVG that stands alone: the headline figure over milliseconds an image, a dot a model.

    Args:
        comparison: with one model or more; names in it are untrusted and are escaped.
    """
    contenders = comparison.contenders
    low, high = _decades([c.milliseconds for c in contenders])
    values = [
        v
        for c in contenders
        for v in (
            c.figures[comparison.headline].low,
            c.figures[comparison.headline].high,
            _value(c, comparison),
        )
        if v is not None
    ]
    floor, step = _scale(min(values), max(values))
    ceiling = max(floor + step, math.ceil(max(values) / step - 1e-9) * step)

    def across(milliseconds: float) -> float:
        share = (math.log10(max(milliseconds, 1e-3)) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BELOW - (value - floor) / (ceiling - floor) * (HEIGHT - TOP - BELOW)

    parts = []
    for i in range(round((ceiling - floor) / step) + 1):
        y = up(floor + i * step)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{floor + i * step:.3g}", "end", "soft"))
    for place in _ticks(low, high):
        x = across(place)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BELOW}"/>')
        parts.append(_text(x, HEIGHT - BELOW + 18, f"{place:g}", "middle", "soft"))
    dots = [(across(c.milliseconds), up(_value(c, comparison))) for c in contenders]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in dots]
    for contender, (x, y) in zip(contenders, dots, strict=True):
        figure = contender.figures[comparison.headline]
        if figure.low is not None and figure.high is not None:
            ends = f'y1="{up(figure.low):.1f}" y2="{up(figure.high):.1f}"'
            parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" {ends}/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        at, line, anchor = _beside(x, y, contender.name, taken)
        parts.append(_text(at, line, contender.name, anchor))
    title = display_name_of(comparison.headline) + (" of boxes" if comparison.of_boxes else "")
    parts.append(_text(LEFT, TOP - 14, title, "start"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "milliseconds an image", "middle", "soft"))
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{escape(title)} over milliseconds">\n'
        f"<style>{STYLE}</style>\n{inside}\n</svg>\n"
    )


def _beside(x: float, y: float, name: str, taken: list[Area]) -> tuple[float, float, str]:
    """Where a dot's name is written and its anchor, as near as nothing else is; `taken` grows by its area."""
    wide = LETTER * len(name) + 4
    for away in sorted(range(-150, 151, 5), key=abs):
        line = y + 4 + away
        for anchor, left in (("start", x + 10), ("end", x - 10 - wide)):
            area = (left, line - 9, left + wide, line + 2)
            inside = TOP <= line <= HEIGHT - BELOW - 3 and left >= LEFT
            if inside and not any(
                area[0] < right and left < area[2] and area[1] < bottom and top < area[3]
                for left, top, right, bottom in taken
            ):
                taken.append(area)
                return (x + 12 if anchor == "start" else x - 12), line, anchor
    return x + 12, y + 4, "start"


def _value(contender: ComparedModel, comparison: Comparison) -> float:
    return contender.figures[comparison.headline].value or 0.0


def _decades(milliseconds: list[float]) -> tuple[float, float]:
    """Ends of the horizontal axis, as powers of ten, with room beside the dots."""
    low, high = (math.log10(max(v, 1e-3)) for v in (min(milliseconds), max(milliseconds)))
    return math.floor((low - 0.1) * 4) / 4, math.ceil((high + 0.1) * 4) / 4


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten between the ends."""
    places = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    return [p for p in places if low - 1e-9 <= math.log10(p) <= high + 1e-9]


def _scale(low: float, high: float) -> tuple[float, float]:
    """Where the vertical axis begins, and the step of its lines."""
    spread = max(high - low, 0.02)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1e9) if spread / s <= 7)
    return math.floor(low / step + 1e-9) * step, step


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
