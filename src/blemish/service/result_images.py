"""Images behind the links of an answer, rendered when a link is opened, without the original's metadata."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from blemish.service.result_links import ArtifactKind, LinkedResult
from blemish.service.served_model import open_upload
from blemish.service.settings import Settings

_MIN_SIDE = 480  # of an image with bars below it, so that the text on them has enough space


def render(result: LinkedResult, kind: ArtifactKind, settings: Settings) -> tuple[bytes, str]:
    """Return one image of an answer as a file, and its media type.

    Args:
        result: the image, the prediction and the heatmap.
        kind: `image`: the upright image as JPEG; `overlay`: the same with the prediction drawn on it, as PNG;
            `heatmap`: 8-bit gray, white where the influence is highest, as PNG; `heatmap_overlay`: the image
            under the colored heatmap, as PNG.
        settings: the limits, which the image has passed once already.
    """
    if kind == "heatmap":
        return _encode_png(_full_size_heatmap(result)), "image/png"
    # A new image from the pixels alone: EXIF, which contains the location, is left behind.
    upright = open_upload(result.image, settings).to_pil(result.white_level).convert("RGB")
    if kind == "image":
        with io.BytesIO() as buffer:
            Image.fromarray(np.asarray(upright)).save(buffer, "JPEG", quality=90)
            return buffer.getvalue(), "image/jpeg"
    if kind == "overlay":
        from blemish.drawing import draw

        # Boxes are drawn in place, pixel for pixel; bars on a strip below need space for their text.
        min_side = 0 if result.prediction.task.has_boxes else _MIN_SIDE
        return _encode_png(draw(result.prediction, upright, min_side=min_side)), "image/png"
    from blemish.explanation.colormaps import overlay

    values = np.asarray(_full_size_heatmap(result), np.float64) / 255
    return _encode_png(overlay(upright, values, colormap=result.colormap)), "image/png"


def _full_size_heatmap(result: LinkedResult) -> Image.Image:
    if result.heatmap is None:
        raise ValueError("the result has no heatmap")
    height, width = result.prediction.size_hw or result.heatmap.shape
    image = Image.fromarray(result.heatmap)
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _encode_png(image: Image.Image) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, "PNG", compress_level=1)  # a tenth of the time for a fifth more bytes
        return buffer.getvalue()
