"""Draw boxes, mask outlines and their labels on an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageDraw

from blemish.arrays import FloatArray
from blemish.drawing.palette import (
    Color,
    font,
    format_score,
    label_color,
    luminance,
    text_color_on,
    text_width,
)
from blemish.geometry import mask_to_rings
from blemish.structures import Annotation, GroundTruth, Prediction

SUPERSAMPLING = 3  # lines are drawn at this multiple of the resolution and reduced,
MAX_SUPERSAMPLED_PIXELS = 1_000_000  # on areas up to this size; on larger ones aliasing is not visible
MASK_OPACITY = 0.26  # of the fill of a mask, in [0, 1]

Rectangle = tuple[int, int, int, int]


def draw_objects(
    canvas: Image.Image,
    annotation: Annotation,
    zoom: float,
    line: int,
    font_size: int,
    *,
    on_object: Callable[[], None] | None = None,
) -> None:
    """Draw every object of an annotation on `canvas`, in place; the first object is drawn last, on top.

    Args:
        canvas: RGB, the image scaled by `zoom`.
        annotation: of a task with boxes.
        zoom: pixels of the canvas per pixel of the annotated image.
        line: line width, in pixels of the canvas.
        font_size: in pixels of the canvas.
        on_object: called before each object is drawn.
    """
    boxes = annotation.boxes_xyxy
    if boxes is None or not len(annotation):
        _draw_tag(canvas, "no detections" if isinstance(annotation, Prediction) else "no objects", font_size)
        return
    boxes = boxes * zoom
    colors = [label_color(int(i)) for i in annotation.label_index]
    tips = np.concatenate([boxes[:, :1], boxes[:, :1]], 1)
    for row in reversed(range(len(boxes))):
        if on_object is not None:
            on_object()
        masks = annotation.masks
        if masks is not None and masks[row].area:
            rings = [ring * zoom for ring in mask_to_rings(masks[row])]
            _draw_mask(canvas, rings, line, colors[row])
            points = np.concatenate(rings)
            tips[row] = points[points[:, 1].argmin(), 0], points[points[:, 1].argmax(), 0]
            boxes[row] = *points.min(0), *points.max(0)
        else:
            x1, y1, x2, y2 = boxes[row]
            corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
            _draw_ring(canvas, corners, line, colors[row])
    texts = [_label_text(annotation, row) for row in range(len(boxes))]
    sizes = [_chip_size(t, font_size) for t in texts]
    if annotation.masks is not None:  # a label starts slightly to the left of the tip of its object
        tips -= font_size / 2
    places = place_labels(boxes, sizes, canvas.size, line, tips)
    for text, place, color in zip(texts, places, colors, strict=True):
        if text and place is not None:
            _draw_chip(canvas, place, text, font_size, color)


def place_labels(
    boxes: FloatArray,
    sizes: Sequence[tuple[int, int]],
    size_wh: tuple[int, int],
    gap: int,
    tips_x: FloatArray | None = None,
) -> list[Rectangle | None]:
    """Return the position of the label of each box: no two labels overlap, and all are inside the canvas.

    Args:
        boxes: (n, 4) float, x1 y1 x2 y2 in pixels of the canvas, in descending order of importance.
        sizes: width and height of each label, in pixels.
        size_wh: width and height of the canvas, in pixels.
        gap: distance between a box and its label, in pixels.
        tips_x: (n, 2) float, the x of the highest and of the lowest point of each object, in pixels. Default:
            the left side of each box.

    Returns:
        x1 y1 x2 y2 per label, in pixels; None for a label without free space.
    """
    tips = np.concatenate([boxes[:, :1], boxes[:, :1]], 1) if tips_x is None else tips_x
    occupied: list[Rectangle] = []
    places: list[Rectangle | None] = []
    for row, (box, (w, h)) in enumerate(zip(boxes, sizes, strict=True)):
        best: Rectangle | None = None
        min_cost = np.inf
        for rank, (x, y) in enumerate(_candidates(box, tips[row], w, h, gap)):
            x = int(np.clip(x, 0, max(size_wh[0] - w, 0)))
            place = (x, int(y), x + w, int(y) + h)
            if y < 0 or y + h > size_wh[1] or x + w > size_wh[0] or any(_overlap(place, o) for o in occupied):
                continue
            # Prefer the background to another object, and near positions to distant ones.
            cost = _covered_area(place, np.delete(boxes, row, 0)) / (w * h) + 0.15 * rank
            if cost < min_cost:
                best, min_cost = place, cost
        places.append(best)
        if best is not None:
            occupied.append(best)
    return places


def _candidates(box: FloatArray, tips: FloatArray, w: int, h: int, gap: int) -> list[tuple[float, float]]:
    """Return top left corners to try, in descending order of preference."""
    x1, y1, x2, y2 = box
    above, below, inside_top, inside_bottom = y1 - h - gap, y2 + gap, y1 + gap, y2 - h - gap
    corners = [(tips[0], above), (tips[1], below), (x1, above), (x1, below), (x2 - w, above), (x2 - w, below)]
    corners += [(x1 + gap, inside_top), (x2 - w - gap, inside_top), (x1 + gap, inside_bottom)]
    corners += [(x2 + gap, y1), (x1 - w - gap, y1)]
    corners += [(tips[0], above - k * (h + 1)) for k in (1, 2)] + [
        (tips[1], below + k * (h + 1)) for k in (1, 2)
    ]
    return corners


def _covered_area(place: Rectangle, boxes: FloatArray) -> float:
    width = np.minimum(place[2], boxes[:, 2]) - np.maximum(place[0], boxes[:, 0])
    height = np.minimum(place[3], boxes[:, 3]) - np.maximum(place[1], boxes[:, 1])
    return float((np.maximum(width, 0) * np.maximum(height, 0)).sum())


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _label_text(annotation: Annotation, row: int) -> str:
    words = [annotation.labels.display_names[annotation.label_index[row]]] if len(annotation.labels) else []
    if isinstance(annotation, Prediction):
        words.append(format_score(float(annotation.scores[row])))
    elif isinstance(annotation, GroundTruth):
        words += ["(crowd)"] * bool(annotation.crowd[row]) + ["(difficult)"] * bool(annotation.difficult[row])
    return " ".join(words)


def _chip_size(text: str, font_size: int) -> tuple[int, int]:
    return text_width(text, font_size) + font_size, int(1.5 * font_size)


def _draw_chip(canvas: Image.Image, place: Rectangle, text: str, font_size: int, color: Color) -> None:
    """Draw a label: its text on a rectangle of its color with rounded corners."""
    x1, y1, x2, y2 = place
    layer = Image.new("L", (SUPERSAMPLING * (x2 - x1), SUPERSAMPLING * (y2 - y1)))
    corner = (0, 0, layer.width - 1, layer.height - 1)
    ImageDraw.Draw(layer).rounded_rectangle(corner, SUPERSAMPLING * font_size // 3, fill=235)
    canvas.paste(color, (x1, y1), layer.reduce(SUPERSAMPLING))
    text_center = ((x1 + x2) / 2, (y1 + y2) / 2)
    ImageDraw.Draw(canvas).text(text_center, text, text_color_on(color), font(font_size), "mm")


def _draw_tag(canvas: Image.Image, text: str, font_size: int) -> None:
    width, height = _chip_size(text, font_size)
    _draw_chip(
        canvas,
        (font_size, font_size, font_size + width, font_size + height),
        text,
        font_size,
        (235, 235, 235),
    )


def _draw_mask(canvas: Image.Image, rings: Sequence[FloatArray], line: int, color: Color) -> None:
    """Draw the translucent fill of a mask and its outlines."""
    layer = _Layer.covering(canvas, np.concatenate(rings), 1)
    if layer is None:
        return
    pen = ImageDraw.Draw(layer.image)
    for ring in rings:  # by descending area: a hole erases its component, not a component inside the hole
        x, y = (ring - ring[0]).T
        is_hole = np.dot(x, np.roll(y, -1)) < np.dot(y, np.roll(x, -1))
        pen.polygon(layer.points(ring), fill=0 if is_hole else round(255 * MASK_OPACITY))
    layer.blend(canvas, color)
    for ring in rings:
        _draw_ring(canvas, ring, line, color)


def _draw_ring(canvas: Image.Image, ring: FloatArray, line: int, color: Color) -> None:
    """Draw a closed line with a thin rim of contrasting brightness, visible on light and dark images."""
    layer = _Layer.covering(canvas, ring, line + 2)
    if layer is None:
        return
    # Repeat the first two points, so that the last corner gets a joint as well.
    points = layer.points(np.concatenate([ring, ring[:2]]))
    rim = (0, 0, 0) if luminance(color) > 0.13 else (255, 255, 255)
    pen = ImageDraw.Draw(layer.image)
    for width, strength, tone in ((line + 1.4, 130, rim), (line, 255, color)):
        layer.image.paste(0, (0, 0, *layer.image.size))
        pen.line(points, fill=strength, width=round(layer.scale * width), joint="curve")
        layer.blend(canvas, tone)


@dataclass(frozen=True)
class _Layer:
    """A transparent layer over a part of the canvas, at a multiple of its resolution.

    Attributes:
        corner: x and y of its top left corner, in pixels of the canvas.
        scale: pixels of the layer per pixel of the canvas.
        image: opacity of the color, 0 to 255.
    """

    corner: tuple[int, int]
    scale: int
    image: Image.Image

    @classmethod
    def covering(cls, canvas: Image.Image, points: FloatArray, margin: int) -> Self | None:
        """Return the smallest layer for some points and a margin, or None if it is outside the canvas."""
        x1, y1 = (int(v) for v in np.maximum(np.floor(points.min(0)) - margin, 0))
        x2, y2 = (int(v) for v in np.minimum(np.ceil(points.max(0)) + margin, canvas.size))
        if x1 >= x2 or y1 >= y2:
            return None
        scale = SUPERSAMPLING if (x2 - x1) * (y2 - y1) < MAX_SUPERSAMPLED_PIXELS else 1
        return cls((x1, y1), scale, Image.new("L", (scale * (x2 - x1), scale * (y2 - y1))))

    def points(self, points: FloatArray) -> list[tuple[float, float]]:
        """Return points of the canvas in coordinates of ImageDraw, where a pixel's center is an integer."""
        return [(x, y) for x, y in (self.scale * (points - self.corner) - 0.5).tolist()]

    def blend(self, canvas: Image.Image, color: Color) -> None:
        """Paint the color on the canvas with the opacity of the layer."""
        canvas.paste(color, self.corner, self.image.reduce(self.scale) if self.scale > 1 else self.image)
