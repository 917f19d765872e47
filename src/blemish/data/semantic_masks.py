"""Read masks whose pixel values are labels, and divide them into objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.arrays import IntArray, Mask
from blemish.errors import BadDataset
from blemish.geometry import connected_components
from blemish.imaging import LIMITS

MAX_VALUES = 64  # distinct values of a mask; more are those of an ordinary image
BINARY_TOLERANCE = 48  # gray values around 0 and 255 of a mask that was saved as JPEG
MIN_BINARY_SHARE = 0.97
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif")
MODES = ("1", "L", "P", "I", "I;16", "RGB", "RGBA", "LA")
FORMATS = ("PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "DIB")


@dataclass(frozen=True)
class SemanticMask:
    """The objects of one mask file.

    Attributes:
        size_hw: height and width in pixels.
        objects: value -> connected regions with this value; 0 is background. The value of a color is
            65536 R + 256 G + B.
        is_color: whether values are colors.
        thresholded: whether gray values between black and white were rounded to them.
    """

    size_hw: tuple[int, int]
    objects: dict[int, list[Mask]]
    is_color: bool = False
    thresholded: bool = False


def read_semantic_mask(path: Path) -> SemanticMask:
    """Return the objects of a mask file.

    Raises:
        BadDataset: the file cannot be read, is too large, or has more values than a mask.
    """
    values, is_color = _values(path)
    found = np.unique(values)
    thresholded = False
    is_lossy = path.suffix.casefold() in LOSSY_SUFFIXES and found.size > 2
    if found.size > MAX_VALUES or is_lossy:
        near = (values <= BINARY_TOLERANCE) | (values >= 255 - BINARY_TOLERANCE)
        if is_color or near.mean() < MIN_BINARY_SHARE or found[-1] > 255:
            raise BadDataset(
                f"expected a mask, got {found.size} {'colors' if is_color else 'gray values'}",
                where=path,
                remedy="save the mask as PNG without smoothing",
                reason="mask-file",
            )
        values, thresholded = np.where(values > 127, 255, 0), True
        found = np.unique(values)
    objects = {int(v): connected_components(values == v) for v in found.tolist() if v != 0}
    height, width = values.shape
    return SemanticMask((height, width), objects, is_color, thresholded)


def _values(path: Path) -> tuple[IntArray, bool]:
    """Return the value of each pixel, (h, w) int64, and whether they are colors."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > LIMITS.max_pixels:
                raise BadDataset(
                    f"expected at most {LIMITS.max_pixels:,} pixels, got {image.width * image.height:,}",
                    where=path,
                    remedy="divide the image and its mask into parts",
                    reason="mask-file",
                )
            if image.mode not in MODES:
                raise ValueError(f"pixels of mode {image.mode}")
            array = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "LA") else image).astype(
                np.int64
            )
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadDataset):
            raise
        raise BadDataset(
            f"cannot be read as a mask ({error})",
            where=path,
            remedy="save it again as PNG",
            reason="mask-file",
        ) from error
    if array.ndim == 2:
        return array, False
    if (array[..., 0] == array[..., 1]).all() and (array[..., 1] == array[..., 2]).all():
        return array[..., 0], False
    return array @ np.array([65536, 256, 1], np.int64), True


def color_code(value: int) -> str:
    """Return the name of a color value.

    Example:
        >>> color_code(0xFF8000)
        '#ff8000'
    """
    return f"#{value:06x}"
