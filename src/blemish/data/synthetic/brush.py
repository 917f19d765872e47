"""What the generators paint with: noise, strokes, and soft-edged areas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.arrays import FloatArray

Canvas = NDArray[np.float32]
FINE = 4  # edges are drawn this many times as fine as the pixels


def smooth_noise(rng: np.random.Generator, size_hw: tuple[int, int], waves: int) -> Canvas:
    """(h, w) float32, mean about 0, deviation about 1: hills about 1 / `waves` of the picture wide."""
    coarse = rng.standard_normal((waves + 1, waves + 1), np.float32)
    small = Image.fromarray(coarse)
    return np.asarray(small.resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC))


def grid(size_hw: tuple[int, int]) -> tuple[Canvas, Canvas]:
    """X (1, w) and y (h, 1) of the pixel centres, float32 in (0, 1)."""
    height, width = size_hw
    x: Canvas = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(width)
    y: Canvas = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    return x[None, :], y[:, None]


def fill(
    canvas: Canvas, polygon: FloatArray, paint: Callable[[Canvas, Canvas], Canvas | NDArray[np.float32]]
) -> None:
    """Paint inside a polygon, with smooth edges, in place.

    Args:
        canvas: (h, w) or (h, w, c) float32.
        polygon: (k, 2) float64, x y pixels; may leave the canvas.
        paint: takes the window under the polygon and the share of each of its pixels that is covered,
            (h, w) float32 in [0, 1], and gives the window as it should be.
    """
    height, width = canvas.shape[:2]
    x1, y1 = (int(v) for v in np.clip(np.floor(polygon.min(0)) - 1, 0, (width, height)))
    x2, y2 = (int(v) for v in np.clip(np.ceil(polygon.max(0)) + 1, 0, (width, height)))
    if x1 >= x2 or y1 >= y2:
        return
    sheet = Image.new("L", (FINE * (x2 - x1), FINE * (y2 - y1)))
    # ImageDraw's coordinates are pixel centres, ours are pixel corners.
    ImageDraw.Draw(sheet).polygon((FINE * (polygon - (x1, y1)) - 0.5).ravel().tolist(), fill=255)
    share = np.asarray(sheet.reduce(FINE), np.float32) / np.float32(255)
    canvas[y1:y2, x1:x2] = paint(canvas[y1:y2, x1:x2], share)


def darken(depth: float) -> Callable[[Canvas, Canvas], Canvas]:
    """A paint that takes away `depth` of the brightness, 0 to 1."""
    return lambda window, share: window * _spread(1 - np.float32(depth) * share, window)


def cover(colour: tuple[float, ...] | float, strength: float = 1.0) -> Callable[[Canvas, Canvas], Canvas]:
    """A paint of one colour, in the canvas's own units."""
    tone = np.asarray(colour, np.float32)

    def paint(window: Canvas, share: Canvas) -> Canvas:
        alpha = _spread(np.float32(strength) * share, window)
        return np.asarray(window + alpha * (tone - window))

    return paint


def stroke(points: FloatArray, width: float) -> FloatArray:
    """The outline of a line that tapers to its ends.

    Args:
        points: (k, 2) float64, x y pixels, k >= 2.
        width: in its middle, pixels.

    Returns:
        (2k, 2) float64, x y pixels.
    """
    ahead = np.gradient(points, axis=0)
    length = np.hypot(ahead[:, 0], ahead[:, 1])[:, None]
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], 1) / np.maximum(length, 1e-9)
    half = width / 2 * (0.55 + 0.45 * np.sin(np.pi * np.linspace(0, 1, len(points))))[:, None]
    return np.concatenate([points + half * aside, (points - half * aside)[::-1]])


def wander(
    rng: np.random.Generator, start: FloatArray, angle: float, length: float, steps: int, bend: float
) -> FloatArray:
    """(steps + 1, 2) x y pixels: a path that changes its direction by about `bend` radians a step."""
    angles = angle + np.cumsum(rng.normal(0, bend, steps)) - rng.normal(0, bend)
    pieces = length / steps * rng.uniform(0.6, 1.4, steps)
    moves = pieces[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.concatenate([start[None], start + np.cumsum(moves, 0)])


def blob(
    rng: np.random.Generator, centre: FloatArray, radii: FloatArray, corners: int, roughness: float
) -> FloatArray:
    """(corners, 2) x y pixels: the outline of an ellipse that is turned anyhow and more or less rough."""
    turn = rng.uniform(0, np.pi)
    angles = np.sort(
        np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.normal(0, 0.15 / corners, corners)
    )
    reach = 1 + roughness * rng.uniform(-1, 1, corners)
    x, y = radii[0] * reach * np.cos(angles), radii[1] * reach * np.sin(angles)
    return np.stack(
        [centre[0] + x * np.cos(turn) - y * np.sin(turn), centre[1] + x * np.sin(turn) + y * np.cos(turn)], 1
    )


def to_uint8(canvas: Canvas) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 of a canvas in [0, 1], grey or colour."""
    pixels = (np.clip(canvas, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def _spread(share: Canvas, window: Canvas) -> Canvas:
    return share if window.ndim == 2 else share[:, :, None]
