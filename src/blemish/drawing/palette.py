"""Colors that remain distinct with color vision deficiencies, and text in the default font."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Okabe and Ito, Color Universal Design, 2008, without black; then colors with the largest distance to all
# previous ones under every kind of color vision deficiency.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (187, 255, 170),
    (150, 60, 255),
    (120, 0, 0),
    (70, 70, 70),
    (51, 34, 136),
)
BACKGROUND: Color = (250, 250, 248)
TEXT_COLOR: Color = (28, 30, 34)
MUTED_COLOR: Color = (118, 121, 128)
TRACK_COLOR: Color = (226, 227, 230)


def label_color(index: int) -> Color:
    """Return the RGB color of a label, 0 to 255 per channel; colors repeat after twelve labels.

    Args:
        index: index of the label, >= 0.

    Example:
        >>> label_color(1)
        (86, 180, 233)
    """
    return PALETTE[index % len(PALETTE)]


def text_color_on(color: Color) -> Color:
    """Return black or white, whichever has more contrast to `color`."""
    return (0, 0, 0) if luminance(color) > 0.179 else (255, 255, 255)


def luminance(color: Color) -> float:
    """Return the relative luminance of a color, in [0, 1].

    Source:
        WCAG 2.2, relative luminance, with a gamma of 2.2.
    """
    red, green, blue = (float((v / 255) ** 2.2) for v in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@lru_cache(maxsize=32)
def font(size: int) -> Font:
    """Return Pillow's default font at a size in pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Return the width of a text at a font size, both in pixels."""
    return int(font(size).getlength(text) + 0.999)


def shorten_text(text: str, size: int, max_width: int) -> str:
    """Return `text`, cut and ended with an ellipsis if it is wider than `max_width`; both sizes in pixels."""
    if text_width(text, size) <= max_width:
        return text
    while text and text_width(f"{text}...", size) > max_width:
        text = text[:-1]
    return f"{text.rstrip()}..." if text else ""


def format_score(score: float) -> str:
    """Return a score in [0, 1] as a percentage, with "100 %" and "0 %" only for exactly 1 and 0.

    Example:
        >>> format_score(0.876), format_score(0.9996), format_score(1.0)
        ('88 %', '>99 %', '100 %')
    """
    if 0 < score <= 0.005:
        return "<1 %"
    if 0.995 <= score < 1:
        return ">99 %"
    return f"{100 * score:.0f} %"
