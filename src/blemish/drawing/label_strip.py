"""Draw image-level labels on a strip below the image, and arrange images in a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from blemish.drawing.palette import (
    BACKGROUND,
    MUTED_COLOR,
    TEXT_COLOR,
    TRACK_COLOR,
    Color,
    font,
    format_score,
    label_color,
    shorten_text,
    text_color_on,
    text_width,
)
from blemish.errors import BadInput
from blemish.structures import Annotation, Prediction

MAX_BARS = 8  # labels with a bar; the strip states how many others there are


def append_label_strip(image: Image.Image, annotation: Annotation, font_size: int) -> Image.Image:
    """Return the image with the image-level labels of an annotation on a strip below it.

    Args:
        image: RGB.
        annotation: of an image-level task; a prediction gets a bar per label, a ground truth only names.
        font_size: in pixels.
    """
    if isinstance(annotation, Prediction):
        strip = _draw_bars(annotation, image.width, font_size)
    else:
        strip = _draw_label_names(annotation, image.width, font_size)
    out = Image.new("RGB", (image.width, image.height + strip.height), BACKGROUND)
    out.paste(image, (0, 0))
    out.paste(strip, (0, image.height))
    return out


def side_by_side(images: Sequence[Image.Image], captions: Sequence[str] = ()) -> Image.Image:
    """Return one image with all images in a row, scaled to one height, with captions above them.

    Args:
        images: one or more PIL images of any mode.
        captions: one per image. Default: no captions.

    Raises:
        BadInput: there is no image, or the numbers of images and captions differ.
    """
    if not images or (captions and len(captions) != len(images)):
        raise BadInput(
            f"expected one caption per image, got {len(images)} images and {len(captions)} captions",
            reason="captions",
        )
    height = max(image.height for image in images)
    scaled = [_resize_to_height(image.convert("RGB"), height) for image in images]
    font_size = int(np.clip(height / 28, 12, 60))
    gap, head = font_size, (int(2.2 * font_size) if captions else font_size)
    width = sum(image.width for image in scaled) + gap * (len(scaled) + 1)
    out = Image.new("RGB", (width, height + head + gap), BACKGROUND)
    pen, x = ImageDraw.Draw(out), gap
    for position, image in enumerate(scaled):
        out.paste(image, (x, head))
        if captions:
            text = shorten_text(str(captions[position]), font_size, image.width)
            pen.text((x, head / 2), text, TEXT_COLOR, font(font_size), "lm")
        x += image.width + gap
    return out


def _resize_to_height(image: Image.Image, height: int) -> Image.Image:
    if image.height == height:
        return image
    return image.resize(
        (max(round(image.width * height / image.height), 1), height), Image.Resampling.LANCZOS
    )


def _draw_bars(prediction: Prediction, width: int, font_size: int) -> Image.Image:
    """Return a strip with the decision, then the labels by descending score with bars and thresholds."""
    order = np.argsort(-prediction.label_scores, kind="stable")
    shown = order[:MAX_BARS]
    positive = prediction.decide()
    pad, row = font_size, int(1.75 * font_size)
    rows = len(shown) + (len(order) > len(shown))
    strip = Image.new("RGB", (width, int(2.6 * font_size) + row * rows + pad), BACKGROUND)
    pen = ImageDraw.Draw(strip)
    positive_names = [prediction.labels.display_names[i] for i in order if positive[i]]
    title_size = int(1.25 * font_size)
    text = shorten_text(", ".join(positive_names) or "no label", title_size, width - 2 * pad)
    pen.text(
        (pad, 1.5 * font_size),
        text,
        TEXT_COLOR,
        font(title_size),
        "lm",
        stroke_width=font_size / 45,
        stroke_fill=TEXT_COLOR,
    )

    display_names = [prediction.labels.display_names[i] for i in shown]
    number = text_width(">99 %", font_size) + pad // 2
    column = min(max((text_width(t, font_size) for t in display_names), default=0), int(0.45 * width))
    left, right = pad + column + pad, width - pad - number
    for position, (index, name) in enumerate(zip(shown, display_names, strict=True)):
        y = int(2.6 * font_size) + row * position + row // 2
        is_positive = bool(positive[index])
        ink = TEXT_COLOR if is_positive else MUTED_COLOR
        pen.text((pad, y), shorten_text(name, font_size, column), ink, font(font_size), "lm")
        pen.text(
            (width - pad, y), format_score(float(prediction.label_scores[index])), ink, font(font_size), "rm"
        )
        if right - left > 4 * font_size:
            threshold = None
            if not prediction.task.has_one_label:
                threshold = float(prediction.thresholds[index])
            score = float(prediction.label_scores[index])
            _draw_bar(
                strip, (left, right), y, font_size, score, threshold, int(index), is_positive=is_positive
            )
    if len(order) > len(shown):
        y = int(2.6 * font_size) + row * len(shown) + row // 2
        rest = shorten_text(f"and {len(order) - len(shown)} more", font_size, width - 2 * pad)
        pen.text((pad, y), rest, MUTED_COLOR, font(font_size), "lm")
    return strip


def _draw_bar(
    strip: Image.Image,
    span: tuple[int, int],
    y: int,
    font_size: int,
    score: float,
    threshold: float | None,
    index: int,
    *,
    is_positive: bool,
) -> None:
    """Draw a track from 0 to 1, filled up to the score, with a tick at the threshold."""
    scale, half = 3, max(font_size // 4, 2)
    width, height = span[1] - span[0], 2 * half
    bar = Image.new("RGB", (scale * width, scale * height), BACKGROUND)
    pen = ImageDraw.Draw(bar)
    pen.rounded_rectangle((0, 0, bar.width - 1, bar.height - 1), scale * half, fill=TRACK_COLOR)
    if score > 0:
        # Labels below their threshold get a pale version of their color.
        color = label_color(index)
        if not is_positive:
            color = _pale(color)
        end = max(scale * width * score, 2 * scale * half)
        pen.rounded_rectangle((0, 0, end - 1, bar.height - 1), scale * half, fill=color)
    strip.paste(bar.resize((width, height), Image.Resampling.BOX), (span[0], y - half))
    if threshold is not None and 0 <= threshold <= 1:
        x = span[0] + round(width * threshold)
        tick = max(font_size // 10, 1)
        box = (x - tick // 2, y - 2 * half + half // 2, x - tick // 2 + tick - 1, y + 2 * half - half // 2)
        ImageDraw.Draw(strip).rectangle(box, fill=TEXT_COLOR)


def _pale(color: Color) -> Color:
    red, green, blue = (round(0.55 * b + 0.45 * c) for b, c in zip(BACKGROUND, color, strict=True))
    return red, green, blue


def _draw_label_names(annotation: Annotation, width: int, font_size: int) -> Image.Image:
    """Return a strip with the name of each label on its color, in as many lines as necessary."""
    pad, row = font_size, int(2 * font_size)
    names = [(annotation.labels.display_names[i], int(i)) for i in annotation.label_index]
    lines: list[list[tuple[int, str, int]]] = [[]]
    x = pad
    for name, index in names or [("no label", -1)]:
        text = shorten_text(name, font_size, width - 3 * pad)
        chip_width = text_width(text, font_size) + font_size
        if x > pad and x + chip_width > width - pad:
            lines.append([])
            x = pad
        lines[-1].append((x, text, index))
        x += chip_width + pad // 2
    strip = Image.new("RGB", (width, row * len(lines) + pad), BACKGROUND)
    pen = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        y = pad // 2 + row * number + row // 2
        for x, text, index in line:
            if index < 0:
                pen.text((x, y), text, MUTED_COLOR, font(font_size), "lm")
                continue
            color = label_color(index)
            box = (
                x,
                y - 0.75 * font_size,
                x + text_width(text, font_size) + font_size - 1,
                y + 0.75 * font_size,
            )
            pen.rounded_rectangle(box, font_size // 3, fill=color)
            pen.text((x + font_size / 2, y), text, text_color_on(color), font(font_size), "lm")
    return strip
