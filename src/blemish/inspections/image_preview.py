"""Small upright copies of images, for pages that show many of them."""

from __future__ import annotations

import io

from PIL import Image

from blemish.imaging import LIMITS, Limits, open_image

QUALITY = 85  # of the JPEG files


def encode_preview(data: bytes, max_side: int, limits: Limits = LIMITS) -> bytes:
    """Return an image as an upright JPEG file without metadata.

    Args:
        data: the file of the image.
        max_side: longest side of the result, in pixels; a smaller image keeps its size.
        limits: the largest image that is decoded.

    Raises:
        BadImage: the file is not an image or is over a limit.
    """
    loaded = open_image(data, limits, lambda size_hw: _factor(size_hw, max_side))
    factor = _factor(loaded.size_hw, max_side)
    is_reduced = factor > 1 and not loaded.is_16bit
    image = loaded.reduced(factor).image.copy() if is_reduced else loaded.to_pil()
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()


def _factor(size_hw: tuple[int, int], max_side: int) -> int:
    """Return by how much libjpeg may reduce an image: the result is at least `max_side` long."""
    return next(factor for factor in (8, 4, 2, 1) if factor == 1 or max(size_hw) >= max_side * factor)
