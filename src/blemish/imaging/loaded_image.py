"""`LoadedImage`: the pixels of an opened image with its header; size limits; EXIF orientation of arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BadInput

MAX_WHITE = 65535  # of 16 bits


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
        format: `JPEG`, `PNG`, `WEBP`, `TIFF`, `BMP` or `AVIF`.
        mode: Pillow's name for the stored pixels: `RGB`, `L`, `P`, `CMYK`, `I;16`, ...
        size_hw: height and width of the upright image, in pixels.
        stored_size_hw: height and width as stored in the file, before the EXIF orientation is applied.
        orientation: the EXIF orientation, 1 to 8; 1 is upright.
        bits: bits per channel: 1, 8, 16 or 32.
        frames: number of frames in the file; only the first is read.
        white_level: the sample value of white that the file states, of a 16-bit gray image; None if it states
            none below 65535.
    """

    format: str
    mode: str
    size_hw: tuple[int, int]
    stored_size_hw: tuple[int, int]
    orientation: int
    bits: int
    frames: int
    white_level: int | None = None


class ReducedImage(NamedTuple):
    """An upright image at a half, a quarter or an eighth of its size.

    Attributes:
        image: mode RGB, or mode F with the samples of a 16-bit image.
        factor: image pixels per reduced pixel.
        offset_xy: image pixels by which the first reduced pixel begins left of and above the image; not 0
            only if a JPEG file is rotated or mirrored and its side is no multiple of `factor`.
    """

    image: Image.Image
    factor: int
    offset_xy: tuple[int, int]


Decode = Callable[[int], Image.Image]
Reduction = Callable[[tuple[int, int]], int]


class LoadedImage:
    """The pixels of an opened image, upright and read-only.

    A decoded 8-bit image stays as Pillow decoded it until its array is needed: a network's input is
    resized from it without two conversions of all pixels. A JPEG file may be opened at a reduced size only;
    its full size is decoded when it is needed.

    Attributes:
        path: the file, or None for an image from memory.
        header: the header of the file, or None for pixels that were not read from a file.
        white_level: the sample value of white that the file of a 16-bit image states, or None.

    Raises:
        BadInput: the pixels have another shape or dtype.
    """

    __slots__ = ("_decode", "_pil", "_pixels", "_reduced", "_size_hw", "header", "path", "white_level")

    def __init__(
        self,
        pixels: NDArray[np.uint8] | NDArray[np.uint16] | Image.Image,
        path: Path | None = None,
        header: Header | None = None,
        white_level: int | None = None,
        *,
        decode: Decode | None = None,
        factor: int = 1,
    ) -> None:
        """Take pixels, which must not be changed afterwards.

        Args:
            pixels: (h, w, 3) uint8 RGB in [0, 255], (h, w) uint16 in [0, 65535] for a 16-bit grayscale image,
                or an upright PIL image of mode RGB.
            path: the file, or None for an image from memory.
            header: the header of the file, or None.
            white_level: the sample value of white that the file of a 16-bit image states, or None.
            decode: returns the upright image of a JPEG file at one `factor`th of its size.
            factor: 1, or how many times smaller than the image of `header` the pixels are.
        """
        pil = pixels if isinstance(pixels, Image.Image) else None
        if pil is not None and (pil.mode != "RGB" or 0 in pil.size):
            raise BadInput(
                f"pixels: expected a PIL image of mode RGB, got {pil.mode} of {pil.size}", reason="pixels"
            )
        self._pixels = None if isinstance(pixels, Image.Image) else _read_only(pixels)
        self.path, self.header, self.white_level = path, header, white_level
        self._decode = decode
        self._reduced: dict[int, ReducedImage] = {}
        self._pil = pil
        self._size_hw: tuple[int, int]
        if self._pixels is not None:
            self._size_hw = (int(self._pixels.shape[0]), int(self._pixels.shape[1]))
        elif pil is not None:
            self._size_hw = (pil.height, pil.width)
        if pil is not None and factor > 1:
            assert header is not None  # noqa: S101  (a file has a header)
            self._pil, self._size_hw = None, header.size_hw
            self._reduced[factor] = self._placed(pil, factor)

    @property
    def pixels(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """(h, w, 3) uint8 RGB in [0, 255], or (h, w) uint16 in [0, 65535] for a 16-bit grayscale image."""
        if self._pixels is None:
            self._pixels = _read_only(np.asarray(self.rgb_image()))
            self._pil = None  # one copy of the pixels is enough
        pixels: NDArray[np.uint8] | NDArray[np.uint16] = self._pixels
        return pixels

    def with_pixels(self, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> LoadedImage:
        """Return other pixels with the same path, header and white level."""
        return LoadedImage(pixels, self.path, self.header, self.white_level)

    def crop(self, region_xyxy: tuple[int, int, int, int]) -> LoadedImage:
        """Return a part of the image, without its file and header; only its pixels are copied.

        Args:
            region_xyxy: in pixels, inside the image.
        """
        left, top, right, bottom = region_xyxy
        if self._pixels is None:
            return LoadedImage(self.rgb_image().crop(region_xyxy), white_level=self.white_level)
        return LoadedImage(self._pixels[top:bottom, left:right], white_level=self.white_level)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self._size_hw

    @property
    def is_16bit(self) -> bool:
        """Whether the pixels are 16-bit grayscale."""
        return self._pixels is not None and bool(self._pixels.dtype == np.uint16)

    def rgb_image(self) -> Image.Image:
        """Return an 8-bit image as a PIL image of mode RGB, which must not be changed."""
        if (pil := self._pil) is not None:
            return pil
        if self._pixels is not None:
            return Image.fromarray(self._pixels)
        assert self._decode is not None  # noqa: S101  (it was opened at a reduced size)
        self._pil = pil = self._decode(1)
        return pil

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that its decoded pixels take, at full and at reduced sizes."""
        images = [self._pil, *(reduced.image for reduced in self._reduced.values())]
        pil = sum(4 * image.width * image.height for image in images if image is not None)  # RGBX, or F
        return pil + (0 if self._pixels is None else self._pixels.nbytes)

    def load(self) -> None:
        """Decode the full size now, if the file was opened at a reduced size."""
        if self._pixels is None:
            self.rgb_image()

    def reduced(self, factor: int) -> ReducedImage:
        """Return the image at a half, a quarter or an eighth of its size, sides rounded up.

        libjpeg decodes JPEG files at that size. Of all other images, every square of `factor` x `factor`
        pixels is averaged, which is what libjpeg does but for rounding and its finer brightness.

        Args:
            factor: 2, 4 or 8.

        Raises:
            BadImage: the JPEG file is gone, or was damaged since it was opened.
        """
        if (known := self._reduced.get(factor)) is not None:
            return known
        if self._decode is not None:
            reduced = self._placed(self._decode(factor), factor)
        elif self.is_16bit:
            whole = Image.fromarray(self.pixels.astype(np.float32))
            reduced = ReducedImage(whole.reduce(factor), factor, (0, 0))
        else:
            reduced = ReducedImage(self.rgb_image().reduce(factor), factor, (0, 0))
        self._reduced[factor] = reduced
        return reduced

    def _placed(self, image: Image.Image, factor: int) -> ReducedImage:
        """Return the upright image of a JPEG file that was decoded at a reduced size, with its position."""
        height, width = self.size_hw
        orientation = 1 if self.header is None else self.header.orientation
        # The columns and rows that complete the last block are on the left or on top after the rotation.
        beyond = image.width * factor - width, image.height * factor - height
        offset_x = beyond[0] if orientation in MIRRORED_COLUMNS else 0
        offset_y = beyond[1] if orientation in MIRRORED_ROWS else 0
        return ReducedImage(image, factor, (offset_x, offset_y))

    def choose_white_level(self, white_level: int = MAX_WHITE) -> int:
        """Return the sample value that becomes white: `white_level`, or the file's own if that is 65535.

        Args:
            white_level: of the model file, in [1, 65535]; 65535 states nothing.
        """
        return white_level if white_level != MAX_WHITE else self.white_level or MAX_WHITE

    def unused_bits(self, white_level: int = MAX_WHITE) -> str:
        """Return a sentence if a 16-bit image uses less than a quarter of its range, else "".

        Such an image usually has samples of 10, 12 or 14 bits, and looks nearly black if 65535 is white.

        Args:
            white_level: of the model file; see `choose_white_level`.
        """
        if self.header is not None and self.header.bits == 16 and not self.is_16bit:
            brightest = int(self.pixels.max())
            if 0 < brightest * 4 < 255:
                return f"its channels have 16 bits, and the brightest uses {brightest / 255:.0%} of the range"
            return ""
        white = self.choose_white_level(white_level)
        brightest = int(self.pixels.max()) if self.is_16bit else 0
        if not 0 < brightest * 4 < white:
            return ""
        likely = max((1 << brightest.bit_length()) - 1, 255)
        return (
            f"the brightest of its 16-bit samples is {brightest:,}, and white is {white:,}; "
            f"if it has {likely.bit_length()} bits, white is {likely}"
        )

    def to_pil(self, white_level: int = MAX_WHITE) -> Image.Image:
        """Return the image as an 8-bit RGB PIL image for display.

        Args:
            white_level: the value of a 16-bit image that becomes white, in [1, 65535]; larger values become
                white too. It has no effect on an RGB image. 65535 leaves it to `choose_white_level`.
        """
        if not self.is_16bit:
            return self.rgb_image().copy()  # the caller may draw on it
        white = self.choose_white_level(white_level)
        gray = np.clip(self.pixels.astype(np.float32) * np.float32(255 / white) + 0.5, 0, 255)
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")


def _read_only(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels as a contiguous, read-only array; raise `BadInput` if they are not those of an image."""
    array = np.ascontiguousarray(pixels)
    rgb = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    gray = array.dtype == np.uint16 and array.ndim == 2
    if not (rgb or gray) or 0 in array.shape:
        raise BadInput(
            f"pixels: expected (h, w, 3) uint8 or (h, w) uint16, got {array.shape} {array.dtype}",
            reason="pixels",
        )
    if array is pixels and array.flags.writeable:
        array = array.view()
    array.setflags(write=False)
    return array


UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # how Pillow turns an image upright, by its EXIF orientation
MIRRORED_COLUMNS = (2, 3, 6, 7)  # orientations whose last stored column or row becomes the first column
MIRRORED_ROWS = (3, 4, 7, 8)


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
    if orientation in MIRRORED_COLUMNS:
        array = array[:, ::-1]
    if orientation in MIRRORED_ROWS:
        array = array[::-1]
    return array
