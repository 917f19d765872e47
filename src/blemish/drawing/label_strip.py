"""What is said of a whole image, on a strip below it; and pictures beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from blemish.drawing.palette import (
    FAINT,
    INK,
    PAPER,
    RAIL,
    font,
    label_colour,
    percent,
    readable_on,
    shortened,
    text_width,
)
from blemish.errors import BadInput
from blemish.structures import Annotation, Prediction

MOST_ROWS = 8  # labels that get a bar; the others are counted


def with_strip(picture: Image.Image, annotation: Annotation, letters: int) -> Image.Image:
    """The picture with what an image-level annotation says below it.

    Args:
        picture: RGB.
        annotation: without boxes; a prediction gets a bar a label, a truth its labels alone.
        letters: height of letters, pixels.
    """
    if isinstance(annotation, Prediction):
        strip = _bars(annotation, picture.width, letters)
    else:
        strip = _named(annotation, picture.width, letters)
    out = Image.new("RGB", (picture.width, picture.height + strip.height), PAPER)
    out.paste(picture, (0, 0))
    out.paste(strip, (0, picture.height))
    return out


def side_by_side(images: Sequence[Image.Image], captions: Sequence[str] = ()) -> Image.Image:
    """Pictures in one row, of one height, each under its caption.

    Args:
        images: one or more, in any mode.
        captions: one an image, or none at all.

    Raises:
        BadInput: no image, or another number of captions.
    """
    if not images or (captions and len(captions) != len(images)):
        raise BadInput(f"{len(images)} pictures and {len(captions)} captions; give one caption a picture")
    height = max(image.height for image in images)
    scaled = [_of_height(image.convert("RGB"), height) for image in images]
    letters = int(np.clip(height / 28, 12, 60))
    gap, head = letters, (int(2.2 * letters) if captions else letters)
    width = sum(image.width for image in scaled) + gap * (len(scaled) + 1)
    out = Image.new("RGB", (width, height + head + gap), PAPER)
    pen, x = ImageDraw.Draw(out), gap
    for position, image in enumerate(scaled):
        out.paste(image, (x, head))
        if captions:
            text = shortened(str(captions[position]), letters, image.width)
            pen.text((x, head / 2), text, INK, font(letters), "lm")
        x += image.width + gap
    return out


def _of_height(image: Image.Image, height: int) -> Image.Image:
    if image.height == height:
        return image
    return image.resize(
        (max(round(image.width * height / image.height), 1), height), Image.Resampling.LANCZOS
    )


def _bars(prediction: Prediction, width: int, letters: int) -> Image.Image:
    """The verdict, then the labels from the most to the least likely, each with its threshold."""
    order = np.argsort(-prediction.label_scores, kind="stable")
    shown = order[:MOST_ROWS]
    verdict = prediction.decide()
    pad, row = letters, int(1.75 * letters)
    rows = len(shown) + (len(order) > len(shown))
    strip = Image.new("RGB", (width, int(2.6 * letters) + row * rows + pad), PAPER)
    pen = ImageDraw.Draw(strip)
    said = [prediction.labels.display_names[i] for i in order if verdict[i]]
    headline = int(1.25 * letters)
    text = shortened(", ".join(said) or "none of the labels", headline, width - 2 * pad)
    pen.text(
        (pad, 1.5 * letters), text, INK, font(headline), "lm", stroke_width=letters / 45, stroke_fill=INK
    )

    display_names = [prediction.labels.display_names[i] for i in shown]
    number = text_width(">99 %", letters) + pad // 2
    column = min(max((text_width(t, letters) for t in display_names), default=0), int(0.45 * width))
    left, right = pad + column + pad, width - pad - number
    for place, (index, title) in enumerate(zip(shown, display_names, strict=True)):
        y = int(2.6 * letters) + row * place + row // 2
        yes = bool(verdict[index])
        ink = INK if yes else FAINT
        pen.text((pad, y), shortened(title, letters, column), ink, font(letters), "lm")
        pen.text((width - pad, y), percent(float(prediction.label_scores[index])), ink, font(letters), "rm")
        if right - left > 4 * letters:
            threshold = None
            if not prediction.task.has_one_label:
                threshold = float(prediction.thresholds[index])
            score = float(prediction.label_scores[index])
            _bar(strip, (left, right), y, letters, score, threshold, int(index), yes=yes)
    if len(order) > len(shown):
        y = int(2.6 * letters) + row * len(shown) + row // 2
        rest = shortened(f"and {len(order) - len(shown)} more", letters, width - 2 * pad)
        pen.text((pad, y), rest, FAINT, font(letters), "lm")
    return strip


def _bar(
    strip: Image.Image,
    span: tuple[int, int],
    y: int,
    letters: int,
    score: float,
    threshold: float | None,
    index: int,
    *,
    yes: bool,
) -> None:
    """A rail from 0 to 1, filled up to the score, with a tick at the threshold."""
    fine, half = 3, max(letters // 4, 2)
    width, height = span[1] - span[0], 2 * half
    sheet = Image.new("RGB", (fine * width, fine * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.rounded_rectangle((0, 0, sheet.width - 1, sheet.height - 1), fine * half, fill=RAIL)
    if score > 0:
        # What is not said is there in the same colour, but pale.
        colour = label_colour(index)
        if not yes:
            colour = tuple(round(0.55 * p + 0.45 * c) for p, c in zip(PAPER, colour, strict=True))  # type: ignore[assignment]
        end = max(fine * width * score, 2 * fine * half)
        pen.rounded_rectangle((0, 0, end - 1, sheet.height - 1), fine * half, fill=colour)
    strip.paste(sheet.resize((width, height), Image.Resampling.BOX), (span[0], y - half))
    if threshold is not None and 0 <= threshold <= 1:
        x = span[0] + round(width * threshold)
        tick = max(letters // 10, 1)
        box = (x - tick // 2, y - 2 * half + half // 2, x - tick // 2 + tick - 1, y + 2 * half - half // 2)
        ImageDraw.Draw(strip).rectangle(box, fill=INK)


def _named(annotation: Annotation, width: int, letters: int) -> Image.Image:
    """Each label that holds as a chip, in as many lines as they need."""
    pad, row = letters, int(2 * letters)
    names = [(annotation.labels.display_names[i], int(i)) for i in annotation.label_index]
    lines: list[list[tuple[int, str, int]]] = [[]]
    x = pad
    for title, index in names or [("none of the labels", -1)]:
        text = shortened(title, letters, width - 3 * pad)
        wide = text_width(text, letters) + letters
        if x > pad and x + wide > width - pad:
            lines.append([])
            x = pad
        lines[-1].append((x, text, index))
        x += wide + pad // 2
    strip = Image.new("RGB", (width, row * len(lines) + pad), PAPER)
    pen = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        y = pad // 2 + row * number + row // 2
        for x, text, index in line:
            if index < 0:
                pen.text((x, y), text, FAINT, font(letters), "lm")
                continue
            colour = label_colour(index)
            box = (x, y - 0.75 * letters, x + text_width(text, letters) + letters - 1, y + 0.75 * letters)
            pen.rounded_rectangle(box, letters // 3, fill=colour)
            pen.text((x + letters / 2, y), text, readable_on(colour), font(letters), "lm")
    return strip
