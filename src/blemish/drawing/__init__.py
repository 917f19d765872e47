"""A Truth or a Prediction on its image."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.drawing.label_strip import side_by_side, with_strip
from blemish.drawing.object_overlay import draw_objects, place_labels
from blemish.drawing.palette import PALETTE, label_colour
from blemish.errors import BadInput
from blemish.imaging import LoadedImage, open_image
from blemish.structures import Annotation, Prediction

__all__ = ["PALETTE", "draw", "label_colour", "place_labels", "reduced", "side_by_side"]

CROWDED = 30  # objects, from which labels take the size of the things they name
BAND = 256  # rows of the smaller picture that are made at once


def draw(annotation: Annotation, image: Any = None, *, min_side: int = 480) -> Image.Image:
    """The image with everything an annotation says of it.

    Boxes and masks are outlined and named where they are; what concerns the whole image stands on a
    strip below it: bars with the verdict for a prediction, the labels for a truth.

    Args:
        annotation: a Truth or a Prediction.
        image: a Image, a PIL image, an array ((h, w, 3) uint8, or (h, w) uint8 or uint16), or a path;
            `annotation.path` is opened where it is not given. Upright; where its size differs from
            `annotation.size_hw`, boxes and masks are scaled along.
        min_side: images whose longer side is shorter are drawn enlarged to it, pixels.

    Returns:
        A new PIL image in RGB.

    Raises:
        BadInput: no image at hand, or one of another shape.
        BadImage: a path that cannot be opened.

    Example:
        >>> from blemish.data.synthetic import panels
        >>> panel = next(panels(1, size_hw=(96, 128)))
        >>> draw(panel.ground_truth, panel.image).size
        (480, 360)
    """
    picture = _picture(annotation, image)
    longer = max(picture.size)
    if longer < min_side:
        zoom = min_side / longer
        size = (max(round(picture.width * zoom), 1), max(round(picture.height * zoom), 1))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        longer = max(picture.size)
    letters = int(np.clip(longer / 45, 13, 160))
    if not annotation.task.has_boxes:
        return with_strip(picture, annotation, letters)
    # Of a long strip, such as a weld's, the shorter side says how much room labels have.
    letters = min(letters, max(min(picture.size) // 9, 13))
    width = picture.width if annotation.size_hw is None else annotation.size_hw[1]
    zoom = _zoom(picture, annotation, width)
    boxes = annotation.boxes_xyxy
    if boxes is not None and len(boxes) > CROWDED:  # small things among many: their labels would hide them
        usual = float(np.median((boxes[:, 2:] - boxes[:, :2]).min(1))) * zoom
        letters = max(min(letters, round(usual / 6)), min(letters, 13))
    draw_objects(picture, annotation, zoom, max(round(min(longer / 400, letters / 5)), 2), letters)
    return picture


def reduced(photo: LoadedImage, max_pixels: int) -> LoadedImage:
    """The image by a whole factor smaller, such that it has at most `max_pixels`; itself where it has.

    An image of 100 megapixels takes 400 MB as a picture, and drawing needs two of them. This makes the
    smaller one band by band, so that only it takes memory.

    Example:
        >>> reduced(LoadedImage(np.zeros((100, 60, 3), np.uint8)), 2000).size_hw
        (50, 30)
    """
    height, width = photo.size_hw
    factor = math.ceil(math.sqrt(height * width / max_pixels))
    if factor < 2:
        return photo
    rows = factor * BAND
    bands = []
    for top in range(0, height, rows):
        band = photo.pixels[top : top + rows]
        image = Image.fromarray(band.astype(np.float32) if photo.is_16bit else band)
        bands.append(np.asarray(image.reduce(factor)))
    pixels = np.concatenate(bands)
    return replace(photo, pixels=pixels.round().astype(np.uint16) if photo.is_16bit else pixels)


def _zoom(picture: Image.Image, annotation: Annotation, width: int) -> float:
    if annotation.size_hw is not None:
        height = annotation.size_hw[0]
        # Rounding to whole pixels bends the shape of a small picture by less than a pixel on either side.
        if abs(picture.height * width - picture.width * height) > max(picture.size) * max(width, height) / 50:
            raise BadInput(
                f"the image has {picture.width} x {picture.height} pixels and the annotation was made on "
                f"{width} x {height}; give the same image, upright"
            )
    return picture.width / width


def _picture(annotation: Annotation, image: Any) -> Image.Image:
    """A fresh RGB picture to draw on."""
    if image is None:
        path = annotation.path if isinstance(annotation, Prediction) else None
        if path is None:
            raise BadInput("there is no image to draw on; give it as image")
        image = path
    if isinstance(image, (str, Path)):
        image = open_image(image)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, 2)
        image = LoadedImage(image)
    if isinstance(image, LoadedImage):
        # For the eye a 16-bit image is stretched: cameras seldom use all of the range.
        white = int(max(np.percentile(image.pixels[::4, ::4], 99.8), 1)) if image.is_16bit else 65535
        return image.to_pil(white)
    if isinstance(image, Image.Image):
        return image.convert("RGB") if image.mode != "RGB" else image.copy()
    raise BadInput(f"an image cannot be {type(image).__name__}; give a path, an array, or a PIL image")
