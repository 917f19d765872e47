"""Images behind the links of an answer, rendered when a link is opened, without the original's metadata.

The size of each is bounded before it is made: a larger image is reduced by an integer factor.
"""

from __future__ import annotations

import io

from PIL import Image

from blemish.drawing import reduce_image, reduction_factor
from blemish.service.fair_executor import StopSignal
from blemish.service.result_links import ArtifactKind, LinkedResult
from blemish.service.served_model import open_upload
from blemish.service.settings import Settings

MAX_SIDE = 16_384  # of a rendered image; JPEG ends at 65,500, and browsers earlier
_MIN_SIDE = 480  # of an image with bars below it, so that the text on them has enough space


def render(
    result: LinkedResult, kind: ArtifactKind, settings: Settings, stop: StopSignal
) -> tuple[bytes, str]:
    """Return one image of an answer as a file, and its media type.

    Args:
        result: the image, the prediction and the heatmap.
        kind: `image`: the upright image as JPEG; `overlay`: the same with the prediction drawn on it, as PNG;
            `heatmap`: 8-bit gray, white where the influence is highest, as PNG; `heatmap_overlay`: the image
            under the colored heatmap, as PNG.
        settings: the limits, which the image has passed once already.
        stop: checked between the steps, each of which takes about a second at most.

    Raises:
        WorkStopped: `stop` requires it.
    """
    stop.check()
    if kind == "heatmap":
        height, width = result.prediction.size_hw or _levels(result).size[::-1]
        factor = reduction((height, width), settings)
        return _encode_png(_resized_levels(result, (-(-width // factor), -(-height // factor)))), "image/png"
    # A new image from the pixels alone: EXIF, which contains the location, is left behind.
    opened = open_upload(result.image, settings)
    stop.check()
    reduced = reduce_image(opened, settings.max_linked_pixels, MAX_SIDE)
    del opened  # its memory is needed for the reduced image
    upright = reduced.to_pil(result.white_level)
    del reduced
    stop.check()
    if kind == "image":
        return _encode_jpeg(upright), "image/jpeg"
    if kind == "overlay":
        from blemish.drawing import draw

        # Boxes are drawn in place, pixel for pixel; bars on a strip below need space for their text.
        min_side = 0 if result.prediction.task.has_boxes else _MIN_SIDE
        drawn = draw(result.prediction, upright, min_side=min_side, on_object=stop.check)
    else:
        from blemish.explanation.colormaps import blend_levels

        drawn = blend_levels(upright, _resized_levels(result, upright.size), colormap=result.colormap)
    del upright
    stop.check()
    return _encode_png(drawn), "image/png"


def reduction(size_hw: tuple[int, int], settings: Settings) -> int:
    """Return the integer factor by which the sides of the rendered images of an image are divided."""
    return reduction_factor(size_hw, settings.max_linked_pixels, MAX_SIDE)


def _levels(result: LinkedResult) -> Image.Image:
    if result.heatmap is None:
        raise ValueError("the result has no heatmap")
    return Image.fromarray(result.heatmap)


def _resized_levels(result: LinkedResult, size_wh: tuple[int, int]) -> Image.Image:
    levels = _levels(result)
    return levels if levels.size == size_wh else levels.resize(size_wh, Image.Resampling.BILINEAR)


def _encode_png(image: Image.Image) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, "PNG", compress_level=1)  # a tenth of the time for a fifth more bytes
        return buffer.getvalue()


def _encode_jpeg(image: Image.Image) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()
