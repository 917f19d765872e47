"""Whatever Python callers hold, as an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BadImage, BadInput
from blemish.imaging import LIMITS, Limits, LoadedImage, apply_orientation, open_image

ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a film.

    Attributes:
        path: of the film.
        index: in the film, from 0.
        time_seconds: from the film's beginning.
        image: upright; None where it could not be read.
        error: why.
    """

    path: Path
    index: int
    time_seconds: float
    image: LoadedImage | None
    error: BadImage | None = None

    def __str__(self) -> str:
        return f"{self.path} frame {self.index}"


Source = Path | str | bytes | Image.Image | NDArray[Any] | LoadedImage | Frame


def as_image(source: Source, limits: Limits = LIMITS) -> LoadedImage:
    """An image from a path, the bytes of a file, a PIL image, an array, or an image.

    Args:
        source: arrays are (h, w, 3) RGB, (h, w, 4) RGBA or (h, w) grey of uint8, or (h, w) grey of uint16;
            a PIL image is turned upright as its EXIF says, as a file would be.
        limits: for files and their bytes.

    Raises:
        BadImage: a file that cannot be used.
        BadInput: an object that is no image.
    """
    if isinstance(source, LoadedImage):
        return source
    if isinstance(source, Path | str | bytes):
        return open_image(source, limits)
    if isinstance(source, Frame):
        if source.image is None:
            raise source.error or BadImage(source.path, f"frame {source.index} cannot be read")
        return source.image
    if isinstance(source, Image.Image):
        try:  # an image that Pillow has not decoded yet may turn out to be broken
            orientation = source.getexif().get(ORIENTATION_TAG, 1)
            array = np.asarray(_plain(source))
        except (OSError, SyntaxError) as error:
            raise BadImage(getattr(source, "filename", None), f"Pillow cannot decode it ({error})") from error
        return _from_array(apply_orientation(array, orientation if orientation in range(1, 9) else 1))
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise BadInput(f"a {type(source).__name__} is no image; give a path, bytes, a PIL image or a NumPy array")


def _plain(image: Image.Image) -> Image.Image:
    """RGB, RGBA, or grey of 16 bits."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        return image
    if image.mode in ("I", "F"):
        raise BadInput(
            f"a PIL image of mode {image.mode} says not what is white; give uint16 or uint8 pixels"
        )
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _from_array(array: NDArray[Any]) -> LoadedImage:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype.kind == "u" and array.dtype.itemsize == 2 and array.ndim == 2:
        return LoadedImage(array.astype(np.uint16, copy=False))
    if array.dtype == np.uint8 and array.ndim == 2:
        return LoadedImage(np.repeat(array[..., None], 3, axis=2))
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 4:
        image = Image.fromarray(np.ascontiguousarray(array))
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return LoadedImage(np.asarray(Image.alpha_composite(white, image).convert("RGB")))
    return LoadedImage(array)  # says itself what it takes
