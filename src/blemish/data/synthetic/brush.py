"""Drawing primitives of the generators: noise, paths, and polygons with smooth edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.arrays import FloatArray

Canvas = NDArray[np.float32]
SUPERSAMPLING = 4  # edges are drawn at this multiple of the resolution


def smooth_noise(rng: np.random.Generator, size_hw: tuple[int, int], waves: int) -> Canvas:
    """Return smooth random noise.

    Args:
        rng: the random generator.
        size_hw: height and width, in pixels.
        waves: number of bumps across the image; larger values give finer noise.

    Returns:
        (h, w) float32 with a mean of about 0 and a standard deviation of about 1.
    """
    coarse = rng.standard_normal((waves + 1, waves + 1), np.float32)
    small = Image.fromarray(coarse)
    return np.asarray(small.resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC))


def pixel_grid(size_hw: tuple[int, int]) -> tuple[Canvas, Canvas]:
    """Return x, (1, w), and y, (h, 1), of the pixel centers, float32 in (0, 1)."""
    height, width = size_hw
    x: Canvas = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(width)
    y: Canvas = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    return x[None, :], y[:, None]


def fill(
    canvas: Canvas, polygon: FloatArray, paint: Callable[[Canvas, Canvas], Canvas | NDArray[np.float32]]
) -> None:
    """Paint the inside of a polygon with smooth edges, in place.

    Args:
        canvas: (h, w) or (h, w, c) float32.
        polygon: (k, 2) float64, x y in pixels; parts outside the canvas are ignored.
        paint: a function of the window around the polygon and the covered fraction of each of its pixels,
            (h, w) float32 in [0, 1], that returns the painted window.
    """
    height, width = canvas.shape[:2]
    x1, y1 = (int(v) for v in np.clip(np.floor(polygon.min(0)) - 1, 0, (width, height)))
    x2, y2 = (int(v) for v in np.clip(np.ceil(polygon.max(0)) + 1, 0, (width, height)))
    if x1 >= x2 or y1 >= y2:
        return
    layer = Image.new("L", (SUPERSAMPLING * (x2 - x1), SUPERSAMPLING * (y2 - y1)))
    # Integer coordinates are pixel centers in ImageDraw, and pixel corners here.
    ImageDraw.Draw(layer).polygon((SUPERSAMPLING * (polygon - (x1, y1)) - 0.5).ravel().tolist(), fill=255)
    coverage = np.asarray(layer.reduce(SUPERSAMPLING), np.float32) / np.float32(255)
    canvas[y1:y2, x1:x2] = paint(canvas[y1:y2, x1:x2], coverage)


def darken(depth: float) -> Callable[[Canvas, Canvas], Canvas]:
    """Return a paint that removes the fraction `depth`, in [0, 1], of the brightness."""
    return lambda window, coverage: window * _as_channels(1 - np.float32(depth) * coverage, window)


def paint_over(color: tuple[float, ...] | float, strength: float = 1.0) -> Callable[[Canvas, Canvas], Canvas]:
    """Return a paint of one color, in the units of the canvas, with an opacity `strength` in [0, 1]."""
    tone = np.asarray(color, np.float32)

    def paint(window: Canvas, coverage: Canvas) -> Canvas:
        alpha = _as_channels(np.float32(strength) * coverage, window)
        return np.asarray(window + alpha * (tone - window))

    return paint


def stroke_outline(points: FloatArray, width: float) -> FloatArray:
    """Return the outline of a line that tapers at its ends.

    Args:
        points: (k, 2) float64, x y in pixels, k >= 2.
        width: width in the middle, in pixels.

    Returns:
        (2k, 2) float64 polygon, x y in pixels.
    """
    direction = np.gradient(points, axis=0)
    length = np.hypot(direction[:, 0], direction[:, 1])[:, None]
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1) / np.maximum(length, 1e-9)
    half = width / 2 * (0.55 + 0.45 * np.sin(np.pi * np.linspace(0, 1, len(points))))[:, None]
    return np.concatenate([points + half * normal, (points - half * normal)[::-1]])


def random_path(
    rng: np.random.Generator, start: FloatArray, angle: float, length: float, steps: int, bend: float
) -> FloatArray:
    """Return a random path, (steps + 1, 2) x y in pixels, that turns by about `bend` radians per step."""
    angles = angle + np.cumsum(rng.normal(0, bend, steps)) - rng.normal(0, bend)
    pieces = length / steps * rng.uniform(0.6, 1.4, steps)
    moves = pieces[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.concatenate([start[None], start + np.cumsum(moves, 0)])


def random_blob(
    rng: np.random.Generator, center: FloatArray, radii: FloatArray, corners: int, roughness: float
) -> FloatArray:
    """Return the outline of a randomly rotated, rough ellipse: (corners, 2) x y in pixels."""
    turn = rng.uniform(0, np.pi)
    angles = np.sort(
        np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.normal(0, 0.15 / corners, corners)
    )
    reach = 1 + roughness * rng.uniform(-1, 1, corners)
    x, y = radii[0] * reach * np.cos(angles), radii[1] * reach * np.sin(angles)
    return np.stack(
        [center[0] + x * np.cos(turn) - y * np.sin(turn), center[1] + x * np.sin(turn) + y * np.cos(turn)], 1
    )


def to_uint8(canvas: Canvas) -> NDArray[np.uint8]:
    """Return the (h, w, 3) uint8 image of a gray or color canvas in [0, 1]."""
    pixels = (np.clip(canvas, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)


def _as_channels(coverage: Canvas, window: Canvas) -> Canvas:
    return coverage if window.ndim == 2 else coverage[:, :, None]
