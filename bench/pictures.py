"""Drawn images with grain, so that decoding them costs what decoding a phone's images costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

MEGAPIXELS_12 = (3024, 4032)  # height and width in pixels, as phones take them


def photo(seed: int, size_hw: tuple[int, int], *, grain: float = 5.0) -> Image.Image:
    """Return an RGB image: smooth shapes of several sizes and Gaussian grain.

    Args:
        seed: the same seed gives the same pixels.
        size_hw: height and width in pixels.
        grain: standard deviation of the grain, in units of 0 to 255.
    """
    random = np.random.default_rng(seed)
    height, width = size_hw
    total = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((512, 0.5), (64, 0.3), (12, 0.2)):
        side = max(2, -(-height // cell)), max(2, -(-width // cell))
        coarse = Image.fromarray(random.integers(0, 256, (*side, 3), dtype=np.uint8))
        total += weight * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    total += grain * random.standard_normal((height, width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def enlarged(path: Path, size_hw: tuple[int, int], *, grain: float = 5.0) -> Image.Image:
    """Return an image file at another size, with Gaussian grain.

    Args:
        path: the image.
        size_hw: see `photo`.
        grain: see `photo`.
    """
    height, width = size_hw
    with Image.open(path) as image:
        large = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    random = np.random.default_rng(0)
    noise = grain * random.standard_normal((height, width, 1), dtype=np.float32)
    return Image.fromarray(np.clip(np.asarray(large, np.float32) + noise, 0, 255).astype(np.uint8))


def save_jpeg(image: Image.Image, path: Path, quality: int = 90) -> Path:
    """Write a JPEG with halved color resolution, as phones do, and return its path."""
    image.save(path, "JPEG", quality=quality, subsampling="4:2:0")
    return path
