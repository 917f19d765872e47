"""Synthetic images of the front or rear of vehicles: normal, broken or crushed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.synthetic.brush import (
    Canvas,
    darken,
    fill,
    paint_over,
    pixel_grid,
    random_blob,
    smooth_noise,
    stroke_outline,
    to_uint8,
)
from blemish.data.synthetic.panels import draw_surface, vehicle_paint
from blemish.data.synthetic.specimen import Specimen, check_request
from blemish.imaging import LoadedImage
from blemish.structures import GroundTruth, Labels, Task

VEHICLE_LABELS = Labels(
    ("F_Breakage", "F_Crushed", "F_Normal", "R_Breakage", "R_Crushed", "R_Normal"),
    ("Front Breakage", "Front Crushed", "Front Normal", "Rear Breakage", "Rear Crushed", "Rear Normal"),
)


def vehicles(count: int, seed: int = 0, *, size_hw: tuple[int, int] = (128, 128)) -> Iterator[Specimen]:
    """Yield images of the front or rear of vehicles for classification; the six labels alternate.

    An image depends only on `seed` and its number.

    Args:
        count: number of images, >= 0.
        seed: the same seed gives the same pixels.
        size_hw: height and width, in pixels, each >= 32.

    Raises:
        BadInput: count or size are out of range.

    Example:
        >>> [v.ground_truth.label_names[0] for v in vehicles(3)]
        ['F_Breakage', 'F_Crushed', 'F_Normal']
    """
    check_request(count, min(size_hw))
    for number in range(count):
        rng = np.random.default_rng([seed, 31, number])
        label = number % len(VEHICLE_LABELS)
        side, state = VEHICLE_LABELS.names[label].split("_")
        canvas = draw_surface(rng, vehicle_paint(seed, number), size_hw)
        lamps = _front(canvas) if side == "F" else _rear(canvas)
        if state == "Breakage":
            _break(rng, canvas, lamps[int(rng.integers(2))])
        elif state == "Crushed":
            canvas = _crush(rng, canvas)
        canvas += np.float32(0.012) * rng.standard_normal(canvas.shape, np.float32)
        ground_truth = GroundTruth(
            task=Task.CLASSIFICATION,
            labels=VEHICLE_LABELS,
            label_index=np.array([label], np.int64),
            size_hw=size_hw,
        )
        yield Specimen(
            f"vehicle-{number:05d}", LoadedImage(to_uint8(canvas)), ground_truth, f"vehicle-{number:04d}"
        )


def _front(canvas: Canvas) -> list[FloatArray]:
    """Draw two round headlamps and a grille, and return the outlines of the lamps."""
    fill(canvas, _area(canvas, 0.3, 0.48, 0.7, 0.7), paint_over((0.06, 0.06, 0.07)))
    for bar in (0.52, 0.57, 0.62, 0.67):
        fill(canvas, _area(canvas, 0.3, bar, 0.7, bar + 0.012), paint_over((0.55, 0.56, 0.58)))
    fill(canvas, _area(canvas, 0.0, 0.78, 1.0, 0.8), darken(0.5))
    fill(canvas, _area(canvas, 0.38, 0.83, 0.62, 0.92), paint_over((0.88, 0.88, 0.85)))
    lamps = [_round(canvas, x, 0.58, 0.12) for x in (0.15, 0.85)]
    for lamp in lamps:
        fill(canvas, lamp, paint_over((0.2, 0.2, 0.22)))
        fill(canvas, lamp.mean(0) + 0.82 * (lamp - lamp.mean(0)), paint_over((0.92, 0.93, 0.95)))
    return lamps


def _rear(canvas: Canvas) -> list[FloatArray]:
    """Draw two red lamps, the seams of the trunk and a plate, and return the outlines of the lamps."""
    fill(canvas, _area(canvas, 0.2, 0.0, 0.8, 0.25), paint_over((0.1, 0.12, 0.15)))
    fill(canvas, _area(canvas, 0.2, 0.3, 0.8, 0.315), darken(0.6))
    fill(canvas, _area(canvas, 0.2, 0.72, 0.8, 0.735), darken(0.6))
    fill(canvas, _area(canvas, 0.37, 0.5, 0.63, 0.62), paint_over((0.88, 0.88, 0.85)))
    lamps = [_area(canvas, x, 0.34, x + 0.13, 0.68) for x in (0.04, 0.83)]
    for lamp in lamps:
        fill(canvas, lamp, paint_over((0.75, 0.05, 0.06)))
        inner = lamp.mean(0) + (lamp - lamp.mean(0)) * (0.7, 0.25)
        fill(canvas, inner, paint_over((0.95, 0.55, 0.3)))
    return lamps


def _break(rng: np.random.Generator, canvas: Canvas, lamp: FloatArray) -> None:
    """Draw a hole in a lamp, splinters around it, and cracks from it into the paint."""
    center, reach = lamp.mean(0), (lamp.max(0) - lamp.min(0)) / 2
    center = center + rng.uniform(-0.3, 0.3, 2) * reach
    hole = float(min(reach)) * rng.uniform(0.7, 1.0)
    fill(canvas, random_blob(rng, center, np.array([hole, hole]), 11, 0.45), paint_over((0.03, 0.03, 0.04)))
    for angle in rng.uniform(0, 2 * np.pi) + np.arange(7) * 2 * np.pi / 7:
        direction = np.array([np.cos(angle), np.sin(angle)])
        far = center + direction * hole * rng.uniform(1.6, 2.6)
        bend = center + direction * hole * 1.2 + rng.normal(0, 0.15 * hole, 2)
        path = np.stack([center + 0.7 * direction * hole, bend, far])
        fill(
            canvas,
            stroke_outline(path, max(0.018 * canvas.shape[0], 1.0)),
            paint_over((0.96, 0.97, 0.98), 0.9),
        )


def _crush(rng: np.random.Generator, canvas: Canvas) -> Canvas:
    """Return the canvas with a crushed area: displaced pixels, and folds with a bright and a dark side."""
    height, width = canvas.shape[:2]
    x, y = pixel_grid((height, width))
    place = rng.uniform(0.3, 0.7, 2)
    near = np.exp(-(((x - place[0]) / 0.42) ** 2 + ((y - place[1]) / 0.42) ** 2)).astype(np.float32)
    push_x, push_y = (smooth_noise(rng, (height, width), 5) * near * np.float32(0.075) for _ in range(2))
    columns = np.clip((x + push_x) * width, 0, width - 1).astype(np.intp)
    rows = np.clip((y + push_y) * height, 0, height - 1).astype(np.intp)
    bent = canvas[rows, columns]
    folds = np.gradient(smooth_noise(rng, (height, width), 7), axis=1) * np.float32(width / 7)
    light = np.tanh(folds) * near * np.float32(0.55)
    light = light[:, :, None]
    return np.asarray(np.where(light < 0, bent * (1 + light), bent + light * (np.float32(0.9) - bent)))


def _area(canvas: Canvas, x1: float, y1: float, x2: float, y2: float) -> FloatArray:
    """Return a rectangle given in fractions of the canvas: (4, 2) x y in pixels."""
    height, width = canvas.shape[:2]
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) * (width, height)


def _round(canvas: Canvas, x: float, y: float, radius: float) -> FloatArray:
    """Return a circle given in fractions of the canvas: (20, 2) x y in pixels."""
    height, width = canvas.shape[:2]
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = radius * min(height, width) * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.asarray(circle + np.array([x * width, y * height]))
