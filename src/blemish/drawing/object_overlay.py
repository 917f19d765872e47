"""Boxes, outlines and their labels, drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageDraw

from blemish.arrays import FloatArray
from blemish.drawing.palette import Colour, font, label_colour, luminance, percent, readable_on, text_width
from blemish.geometry import mask_to_rings
from blemish.structures import Annotation, GroundTruth, Prediction

FINE = 3  # lines are drawn this many times as fine as the pixels,
FINE_BELOW = 1_000_000  # on sheets of fewer pixels than these: on larger ones nobody sees the steps
FILL = 0.26  # how much of its colour a mask lays over the image

Rectangle = tuple[int, int, int, int]


def draw_objects(picture: Image.Image, annotation: Annotation, zoom: float, line: int, letters: int) -> None:
    """Draw every object of an annotation, in place, the best one last and on top.

    Args:
        picture: RGB, the image times `zoom`.
        annotation: with boxes.
        zoom: pixels of the picture for one of the image.
        line: width of lines, pixels of the picture.
        letters: height of letters, pixels of the picture.
    """
    boxes = annotation.boxes_xyxy
    if boxes is None or not len(annotation):
        _tag(picture, "nothing found" if isinstance(annotation, Prediction) else "nothing here", letters)
        return
    boxes = boxes * zoom
    colours = [label_colour(int(i)) for i in annotation.label_index]
    tips = np.concatenate([boxes[:, :1], boxes[:, :1]], 1)
    for row in reversed(range(len(boxes))):
        masks = annotation.masks
        if masks is not None and masks[row].area:
            rings = [ring * zoom for ring in mask_to_rings(masks[row])]
            _outline(picture, rings, line, colours[row])
            points = np.concatenate(rings)
            tips[row] = points[points[:, 1].argmin(), 0], points[points[:, 1].argmax(), 0]
            boxes[row] = *points.min(0), *points.max(0)
        else:
            x1, y1, x2, y2 = boxes[row]
            corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
            _ring(picture, corners, line, colours[row])
    texts = [_text(annotation, row) for row in range(len(boxes))]
    sizes = [_chip_size(t, letters) for t in texts]
    if annotation.masks is not None:  # a label begins a little to the left of the tip it names
        tips -= letters / 2
    places = place_labels(boxes, sizes, picture.size, line, tips)
    for text, place, colour in zip(texts, places, colours, strict=True):
        if text and place is not None:
            _chip(picture, place, text, letters, colour)


def place_labels(
    boxes: FloatArray,
    sizes: Sequence[tuple[int, int]],
    size_wh: tuple[int, int],
    gap: int,
    tips_x: FloatArray | None = None,
) -> list[Rectangle | None]:
    """Where each box's label goes, so that no label covers another one and none leaves the picture.

    Args:
        boxes: (n, 4) xyxy pixels of the picture, the most important first.
        sizes: width and height of each label, pixels.
        size_wh: width and height of the picture.
        gap: between a box and its label, pixels.
        tips_x: (n, 2) where, from left to right, the thing in each box reaches its top and its bottom; the
            left border where not given.

    Returns:
        x1 y1 x2 y2 a label; None for one that finds no room, as in a crowd of boxes.
    """
    tips = np.concatenate([boxes[:, :1], boxes[:, :1]], 1) if tips_x is None else tips_x
    taken: list[Rectangle] = []
    out: list[Rectangle | None] = []
    for row, (box, (w, h)) in enumerate(zip(boxes, sizes, strict=True)):
        best: Rectangle | None = None
        least = np.inf
        for rank, (x, y) in enumerate(_candidates(box, tips[row], w, h, gap)):
            x = int(np.clip(x, 0, max(size_wh[0] - w, 0)))
            place = (x, int(y), x + w, int(y) + h)
            if y < 0 or y + h > size_wh[1] or x + w > size_wh[0] or any(_overlap(place, t) for t in taken):
                continue
            # Better over the background than over another object, better near than far.
            cost = _covered(place, np.delete(boxes, row, 0)) / (w * h) + 0.15 * rank
            if cost < least:
                best, least = place, cost
        out.append(best)
        if best is not None:
            taken.append(best)
    return out


def _candidates(box: FloatArray, tips: FloatArray, w: int, h: int, gap: int) -> list[tuple[float, float]]:
    """Top left corners to try, the preferred first."""
    x1, y1, x2, y2 = box
    above, below, inside_top, inside_low = y1 - h - gap, y2 + gap, y1 + gap, y2 - h - gap
    near = [(tips[0], above), (tips[1], below), (x1, above), (x1, below), (x2 - w, above), (x2 - w, below)]
    near += [(x1 + gap, inside_top), (x2 - w - gap, inside_top), (x1 + gap, inside_low)]
    near += [(x2 + gap, y1), (x1 - w - gap, y1)]
    near += [(tips[0], above - k * (h + 1)) for k in (1, 2)] + [
        (tips[1], below + k * (h + 1)) for k in (1, 2)
    ]
    return near


def _covered(place: Rectangle, boxes: FloatArray) -> float:
    width = np.minimum(place[2], boxes[:, 2]) - np.maximum(place[0], boxes[:, 0])
    height = np.minimum(place[3], boxes[:, 3]) - np.maximum(place[1], boxes[:, 1])
    return float((np.maximum(width, 0) * np.maximum(height, 0)).sum())


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(annotation: Annotation, row: int) -> str:
    words = [annotation.labels.display_names[annotation.label_index[row]]] if len(annotation.labels) else []
    if isinstance(annotation, Prediction):
        words.append(percent(float(annotation.scores[row])))
    elif isinstance(annotation, GroundTruth):
        words += ["(crowd)"] * bool(annotation.crowd[row]) + ["(difficult)"] * bool(annotation.difficult[row])
    return " ".join(words)


def _chip_size(text: str, letters: int) -> tuple[int, int]:
    return text_width(text, letters) + letters, int(1.5 * letters)


def _chip(picture: Image.Image, place: Rectangle, text: str, letters: int, colour: Colour) -> None:
    """A label: its text on its colour, with round corners."""
    x1, y1, x2, y2 = place
    sheet = Image.new("L", (FINE * (x2 - x1), FINE * (y2 - y1)))
    corner = (0, 0, sheet.width - 1, sheet.height - 1)
    ImageDraw.Draw(sheet).rounded_rectangle(corner, FINE * letters // 3, fill=235)
    picture.paste(colour, (x1, y1), sheet.reduce(FINE))
    place_of_text = ((x1 + x2) / 2, (y1 + y2) / 2)
    ImageDraw.Draw(picture).text(place_of_text, text, readable_on(colour), font(letters), "mm")


def _tag(picture: Image.Image, text: str, letters: int) -> None:
    width, height = _chip_size(text, letters)
    _chip(picture, (letters, letters, letters + width, letters + height), text, letters, (235, 235, 235))


def _outline(picture: Image.Image, rings: Sequence[FloatArray], line: int, colour: Colour) -> None:
    """The light fill of a mask and a line around it."""
    sheet = _Sheet.over(picture, np.concatenate(rings), 1)
    if sheet is None:
        return
    pen = ImageDraw.Draw(sheet.image)
    for ring in rings:  # the largest first, so a hole cuts into what is there, and an island fills the hole
        x, y = (ring - ring[0]).T
        is_hole = np.dot(x, np.roll(y, -1)) < np.dot(y, np.roll(x, -1))
        pen.polygon(sheet.points(ring), fill=0 if is_hole else round(255 * FILL))
    sheet.lay(picture, colour)
    for ring in rings:
        _ring(picture, ring, line, colour)


def _ring(picture: Image.Image, ring: FloatArray, line: int, colour: Colour) -> None:
    """A closed line with a thin rim of the opposite brightness, so that it shows on light and on dark."""
    sheet = _Sheet.over(picture, ring, line + 2)
    if sheet is None:
        return
    # The first two points once more: the joint of the last corner is drawn like the others.
    points = sheet.points(np.concatenate([ring, ring[:2]]))
    rim = (0, 0, 0) if luminance(colour) > 0.13 else (255, 255, 255)
    pen = ImageDraw.Draw(sheet.image)
    for width, strength, tone in ((line + 1.4, 130, rim), (line, 255, colour)):
        sheet.image.paste(0, (0, 0, *sheet.image.size))
        pen.line(points, fill=strength, width=round(sheet.fine * width), joint="curve")
        sheet.lay(picture, tone)


@dataclass(frozen=True)
class _Sheet:
    """A transparent sheet over a part of the picture, some times as fine.

    Attributes:
        corner: where it begins, x y pixels of the picture.
        fine: pixels of the sheet for one of the picture.
        image: how much of the colour is laid on, 0 to 255.
    """

    corner: tuple[int, int]
    fine: int
    image: Image.Image

    @classmethod
    def over(cls, picture: Image.Image, points: FloatArray, margin: int) -> Self | None:
        """Just large enough for some points and a margin; None where they lie outside the picture."""
        x1, y1 = (int(v) for v in np.maximum(np.floor(points.min(0)) - margin, 0))
        x2, y2 = (int(v) for v in np.minimum(np.ceil(points.max(0)) + margin, picture.size))
        if x1 >= x2 or y1 >= y2:
            return None
        fine = FINE if (x2 - x1) * (y2 - y1) < FINE_BELOW else 1
        return cls((x1, y1), fine, Image.new("L", (fine * (x2 - x1), fine * (y2 - y1))))

    def points(self, points: FloatArray) -> list[tuple[float, float]]:
        """Points of the picture as ImageDraw takes them here: its coordinates are pixel centres."""
        return [(x, y) for x, y in (self.fine * (points - self.corner) - 0.5).tolist()]

    def lay(self, picture: Image.Image, colour: Colour) -> None:
        """Lay the colour on the picture."""
        picture.paste(colour, self.corner, self.image.reduce(self.fine) if self.fine > 1 else self.image)
