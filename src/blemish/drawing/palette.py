"""Colours that colour-blind people tell apart, and the letters to go with them."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Okabe and Ito, Color Universal Design, 2008, without black; then those farthest from all before them, as
# seen with every kind of colour blindness.
PALETTE: tuple[Colour, ...] = (
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
PAPER: Colour = (250, 250, 248)
INK: Colour = (28, 30, 34)
FAINT: Colour = (118, 121, 128)
RAIL: Colour = (226, 227, 230)


def label_colour(index: int) -> Colour:
    """RGB of a label, 0 to 255; after twelve labels the colours begin again.

    Example:
        >>> label_colour(1)
        (86, 180, 233)
    """
    return PALETTE[index % len(PALETTE)]


def readable_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on `colour`."""
    return (0, 0, 0) if luminance(colour) > 0.179 else (255, 255, 255)


def luminance(colour: Colour) -> float:
    """Relative luminance in [0, 1].

    Source:
        WCAG 2.2, relative luminance, with the exponent 2.2.
    """
    red, green, blue = (float((v / 255) ** 2.2) for v in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@lru_cache(maxsize=32)
def font(size: int) -> Font:
    """Pillow's own scalable font; `size` in pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Pixels that a text takes."""
    return int(font(size).getlength(text) + 0.999)


def shortened(text: str, size: int, most: int) -> str:
    """`text`, cut with an ellipsis where it is wider than `most` pixels."""
    if text_width(text, size) <= most:
        return text
    while text and text_width(f"{text}...", size) > most:
        text = text[:-1]
    return f"{text.rstrip()}..." if text else ""


def percent(score: float) -> str:
    """A score for people: never 100 % or 0 % where it is not.

    Example:
        >>> percent(0.876), percent(0.9996), percent(1.0)
        ('88 %', '>99 %', '100 %')
    """
    if 0 < score < 0.005:
        return "<1 %"
    if 0.995 <= score < 1:
        return ">99 %"
    return f"{100 * score:.0f} %"
