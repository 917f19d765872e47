"""Tint an image where the heatmap of a prediction is above its threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TINT = (230, 30, 30)
MAX_OPACITY = 0.65


def tint_image(canvas: Image.Image, heatmap: NDArray[np.floating], threshold: float) -> Image.Image:
    """Return the image, tinted red where the heatmap is above the threshold.

    Args:
        canvas: RGB, of any size.
        heatmap: (h, w) in [0, 1], evenly over the image.
        threshold: no tint up to this value; the strongest one at 1.
    """
    above = np.clip((heatmap - threshold) / max(1 - threshold, 1e-6), 0, 1)
    alpha = Image.fromarray((np.sqrt(above) * MAX_OPACITY * 255).astype(np.uint8))
    alpha = alpha.resize(canvas.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", canvas.size, TINT), canvas, alpha)
