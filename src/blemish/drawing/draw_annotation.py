"""Draw a ground truth or a prediction on its image, and reduce large images."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.drawing.heat_tint import tint_image
from blemish.drawing.label_strip import append_label_strip
from blemish.drawing.object_overlay import draw_objects
from blemish.errors import BadInput
from blemish.imaging import LoadedImage, open_image
from blemish.structures import Annotation, Prediction

MAX_FULL_SIZE_LABELS = 30  # with more objects, the font size follows the size of the objects
BAND_ROWS = 256  # rows of the reduced image that are computed at once


def draw(
    annotation: Annotation,
    image: Any = None,
    *,
    min_side: int = 480,
    on_object: Callable[[], None] | None = None,
) -> Image.Image:
    """Return a copy of the image with the annotation drawn on it.

    Boxes and masks get an outline and a label. Image-level labels are written on a strip below the image: for
    a prediction a bar with score and threshold per label, for a ground truth the labels alone.

    Args:
        annotation: a GroundTruth or a Prediction.
        image: a LoadedImage, a PIL image, an array ((h, w, 3) uint8, or (h, w) uint8 or uint16) or a path,
            with the EXIF orientation applied. Boxes and masks are scaled if its size differs from
            `annotation.size_hw`. Default: the image at `annotation.path`.
        min_side: images whose longer side is below it are enlarged, in pixels.
        on_object: called before each object is drawn; an exception of it ends the drawing.

    Returns:
        A new PIL image, RGB.

    Raises:
        BadInput: there is no image, its type or shape is not supported, or its aspect ratio is not that of
            `annotation.size_hw`.
        BadImage: the file cannot be opened.

    Example:
        >>> from blemish.data.synthetic import panels
        >>> panel = next(panels(1, size_hw=(96, 128)))
        >>> draw(panel.ground_truth, panel.image).size
        (480, 360)
    """
    canvas = _rgb_copy(annotation, image)
    longer = max(canvas.size)
    if longer < min_side:
        zoom = min_side / longer
        size = (max(round(canvas.width * zoom), 1), max(round(canvas.height * zoom), 1))
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
        longer = max(canvas.size)
    if isinstance(annotation, Prediction) and annotation.heatmap is not None:
        canvas = tint_image(canvas, annotation.heatmap, float(annotation.thresholds.max(initial=0.5)))
    # On an elongated image, such as a weld, the shorter side limits the size of labels.
    font_size = min(int(np.clip(longer / 45, 13, 160)), max(min(canvas.size) // 9, 13))
    if not annotation.task.has_boxes:
        return append_label_strip(canvas, annotation, font_size)
    zoom = _zoom(canvas, annotation)
    boxes = annotation.boxes_xyxy
    if (
        boxes is not None and len(boxes) > MAX_FULL_SIZE_LABELS
    ):  # labels at full size would hide small objects
        median_side = float(np.median((boxes[:, 2:] - boxes[:, :2]).min(1))) * zoom
        font_size = max(min(font_size, round(median_side / 6)), min(font_size, 13))
    line = max(round(min(longer / 400, font_size / 5)), 2)
    draw_objects(canvas, annotation, zoom, line, font_size, on_object=on_object)
    return canvas


def reduce_image(image: LoadedImage, max_pixels: int, max_side: int | None = None) -> LoadedImage:
    """Return an image reduced by an integer factor to at most `max_pixels`, or `image` if it is small enough.

    A PIL image of 100 megapixels takes 400 MB of memory, and drawing needs two. This function computes the
    reduced image in bands of rows and so needs memory only for the result.

    Args:
        image: any loaded image.
        max_pixels: the largest number of pixels of the result, > 0.
        max_side: the longest side of the result, in pixels.

    Returns:
        An image whose sides are divided by the factor and rounded up; pixels are averaged.

    Example:
        >>> reduce_image(LoadedImage(np.zeros((100, 60, 3), np.uint8)), 2000).size_hw
        (50, 30)
    """
    height, width = image.size_hw
    factor = reduction_factor(image.size_hw, max_pixels, max_side)
    if factor < 2:
        return image
    rows = factor * BAND_ROWS
    bands = []
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        is_16bit = band.is_16bit
        pil_band = Image.fromarray(band.pixels.astype(np.float32)) if is_16bit else band.rgb_image()
        bands.append(np.asarray(pil_band.reduce(factor)))
    pixels = np.concatenate(bands)
    return image.with_pixels(pixels.round().astype(np.uint16) if image.is_16bit else pixels)


def reduction_factor(size_hw: tuple[int, int], max_pixels: int, max_side: int | None = None) -> int:
    """Return the factor by which `reduce_image` divides the sides of an image; 1 if it is small enough.

    Args:
        size_hw: height and width of the image, in pixels.
        max_pixels: the largest number of pixels of the result, > 0.
        max_side: the longest side of the result, in pixels.

    Example:
        >>> reduction_factor((100, 60), 2000), reduction_factor((1, 1_000_000), 2_000_000, 16_000)
        (2, 63)
    """
    factor = max(math.ceil(math.sqrt(size_hw[0] * size_hw[1] / max_pixels)), 1)
    return factor if max_side is None else max(factor, math.ceil(max(size_hw) / max_side))


def _zoom(canvas: Image.Image, annotation: Annotation) -> float:
    """Return the pixels of the canvas per pixel of the annotated image, from the longer side."""
    if annotation.size_hw is not None:
        height, width = annotation.size_hw
        # Rounding a resized image to whole pixels changes each side by less than a pixel.
        if abs(canvas.height * width - canvas.width * height) > max(canvas.size) * max(width, height) / 50:
            raise BadInput(
                f"image: expected the aspect ratio of the annotated image, {width} x {height} pixels, got "
                f"{canvas.width} x {canvas.height}. Pass the same image with its EXIF orientation applied.",
                reason="image-size",
            )
        return canvas.width / width if width >= height else canvas.height / height
    return 1.0


def _rgb_copy(annotation: Annotation, image: Any) -> Image.Image:
    """Return an RGB copy to draw on."""
    if image is None:
        path = annotation.path if isinstance(annotation, Prediction) else None
        if path is None:
            raise BadInput("the annotation has no image path. Pass the image as `image`.", reason="no-image")
        image = path
    if isinstance(image, (str, Path)):
        image = open_image(image)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, 2)
        image = LoadedImage(image)
    if isinstance(image, LoadedImage):
        # Cameras seldom use all 16 bits: stretch the values for the display.
        white = int(max(np.percentile(image.pixels[::4, ::4], 99.8), 1)) if image.is_16bit else 65535
        return image.to_pil(white)
    if isinstance(image, Image.Image):
        return image.convert("RGB") if image.mode != "RGB" else image.copy()
    raise BadInput(
        f"image: expected a path, an array, a LoadedImage or a PIL image, got {type(image).__name__}",
        reason="image-type",
    )
