"""The pictures behind an answer's links, drawn when somebody looks, without the image's metadata."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from blemish.service.result_links import Kind, LinkedResult
from blemish.service.served_model import open_upload
from blemish.service.settings import Settings


def paint(record: LinkedResult, kind: Kind, settings: Settings) -> tuple[bytes, str]:
    """A picture of an answer, and its media type.

    Args:
        record: the image and what was said of it.
        kind: `image`: upright, JPEG; `overlay`: with the answer drawn on it; `map`: grey, white where
            it mattered most; `map_overlay`: the image under the map in colours.
        settings: the limits that the image passed once already.
    """
    if kind == "map":
        return _png(_heat(record)), "image/png"
    # A new image from the pixels alone: EXIF, and with it the place, stays behind.
    upright = open_upload(record.image, settings).to_pil().convert("RGB")
    if kind == "photograph":
        with io.BytesIO() as buffer:
            Image.fromarray(np.asarray(upright)).save(buffer, "JPEG", quality=90)
            return buffer.getvalue(), "image/jpeg"
    if kind == "overlay":
        from blemish.drawing import draw

        # Boxes are drawn in place, pixel for pixel; bars on a strip below want room for their words.
        smallest = 0 if record.prediction.task.has_boxes else 480

        return _png(draw(record.prediction, upright, min_side=smallest)), "image/png"
    from blemish.explanation.colormaps import overlay

    values = np.asarray(_heat(record), np.float64) / 255
    return _png(overlay(upright, values, colormap="jet" if record.jet else "viridis")), "image/png"


def _heat(record: LinkedResult) -> Image.Image:
    """The map in the size of the image."""
    height, width = record.prediction.size_hw or record.heat.shape
    image = Image.fromarray(record.heat)
    return (
        image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    )


def _png(image: Image.Image) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, "PNG", compress_level=1)  # a tenth of the time for a fifth more bytes
        return buffer.getvalue()
