"""Drawn scenes with known faults."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter


def scene(seed, size=160):
    """Return a scene of shapes of many sizes, in RGB, as a sharp camera shows it."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (2 * size, 2 * size), tuple(rng.integers(90, 150, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for side in (120, 60, 30, 15, 8, 4):
        for _ in range(2000 // side):
            x, y = rng.integers(-side, 2 * size, 2).tolist()
            color = tuple(rng.integers(40, 215, 3).tolist())
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape((x, y, x + side, y + side), fill=color)
    small = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float64)
    return Image.fromarray(np.clip(small + rng.normal(0, 1.5, small.shape), 0, 255).astype(np.uint8))


def blur(image, sigma):
    return image.filter(ImageFilter.GaussianBlur(sigma))


def motion(image, length, direction):
    """Return the mean of shifted images along a direction (dy, dx) in pixels."""
    array = np.asarray(image, np.float64)
    shifts = [i - length // 2 for i in range(length)]
    moved = [np.roll(array, (direction[0] * i, direction[1] * i), (0, 1)) for i in shifts]
    return Image.fromarray(np.mean(moved, 0).round().astype(np.uint8))


def gain(image, factor):
    return Image.fromarray(np.clip(np.asarray(image, np.float64) * factor, 0, 255).astype(np.uint8))


def with_bars(image, top, left=0):
    framed = Image.new("RGB", image.size, (0, 0, 0))
    inside = image.resize((image.width - 2 * left, image.height - 2 * top))
    framed.paste(inside, (left, top))
    return framed


def with_glare(image, count=4, radius=6):
    bright = image.copy()
    draw = ImageDraw.Draw(bright)
    for i in range(count):
        x, y = 30 + 30 * i, 40 + 20 * i
        draw.ellipse((x, y, x + 2 * radius, y + 2 * radius), fill=(255, 255, 255))
    return bright


class Drawing:
    scene, blur, motion, gain = (
        staticmethod(scene),
        staticmethod(blur),
        staticmethod(motion),
        staticmethod(gain),
    )
    with_bars, with_glare = staticmethod(with_bars), staticmethod(with_glare)


@pytest.fixture(scope="session")
def drawing():
    return Drawing


@pytest.fixture(scope="session")
def scenes():
    return [scene(seed) for seed in range(60)]
