"""`LoadedImage`: the pixels of an opened image with its header; size limits; EXIF orientation of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BadInput


@dataclass(frozen=True)
class Limits:
    """The largest image that is decoded.

    Attributes:
        max_pixels: largest width x height, in pixels.
        max_bytes: largest size of the file, in bytes.
    """

    max_pixels: int = 64_000_000
    max_bytes: int = 200_000_000


LIMITS = Limits()


@dataclass(frozen=True)
class Header:
    """The properties of an image that are known before it is decoded.

    Attributes:
        format: `JPEG`, `PNG`, `WEBP`, `TIFF` or `BMP`.
        mode: Pillow's name for the stored pixels: `RGB`, `L`, `P`, `CMYK`, `I;16`, ...
        size_hw: height and width of the upright image, in pixels.
        stored_size_hw: height and width as stored in the file, before the EXIF orientation is applied.
        orientation: the EXIF orientation, 1 to 8; 1 is upright.
        bits: bits per channel: 1, 8, 16 or 32.
        frames: number of frames in the file; only the first is read.
    """

    format: str
    mode: str
    size_hw: tuple[int, int]
    stored_size_hw: tuple[int, int]
    orientation: int
    bits: int
    frames: int


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """The pixels of an opened image, upright and read-only.

    Attributes:
        pixels: (h, w, 3) uint8 RGB in [0, 255], or (h, w) uint16 in [0, 65535] for a 16-bit grayscale image.
        path: the file, or None for an image from memory.
        header: the header of the file, or None for pixels that were not read from a file.

    Raises:
        BadInput: the pixels have another shape or dtype.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    path: Path | None = None
    header: Header | None = None

    def __post_init__(self) -> None:
        array = np.ascontiguousarray(self.pixels)
        rgb = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
        gray = array.dtype == np.uint16 and array.ndim == 2
        if not (rgb or gray) or 0 in array.shape:
            raise BadInput(
                f"pixels: expected (h, w, 3) uint8 or (h, w) uint16, got {array.shape} {array.dtype}",
                reason="pixels",
            )
        if array is self.pixels and array.flags.writeable:
            array = array.view()
        array.setflags(write=False)
        object.__setattr__(self, "pixels", array)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def is_16bit(self) -> bool:
        """Whether the pixels are 16-bit grayscale."""
        return bool(self.pixels.dtype == np.uint16)

    def to_pil(self, white_level: int = 65535) -> Image.Image:
        """Return the image as an 8-bit RGB PIL image for display.

        Args:
            white_level: the value of a 16-bit image that becomes white, in [1, 65535]; larger values become
                white too. It has no effect on an RGB image.
        """
        if not self.is_16bit:
            return Image.fromarray(self.pixels)
        gray = np.clip(self.pixels.astype(np.float32) * np.float32(255 / white_level) + 0.5, 0, 255)
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")


def apply_orientation(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an array of stored pixels as an upright image.

    Args:
        array: (h, w, ...) as stored in the file.
        orientation: the EXIF orientation, 1 to 8.

    Returns:
        A view of `array`: (h, w, ...), or (w, h, ...) for the orientations 5 to 8.

    Source:
        EXIF 2.32, tag 0x0112; equals PIL.ImageOps.exif_transpose.

    Example:
        >>> apply_orientation(np.array([[1, 2, 3]]), 6).tolist()
        [[1], [2], [3]]
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
