"""From an image to a network's input, and the way back for coordinates.

Every room comes through here: training, validation, prediction and the service share one resize,
Pillow's, which is antialiased, so that what a network learned from is what it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.arrays import FloatArray
from blemish.errors import BadInput
from blemish.model_file import InputSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blemish.imaging import LoadedImage

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a network's input: network = image * scale + offset.

    Attributes:
        size_hw: of the upright image, pixels.
        input_hw: of the network's input, pixels.
        scale_xy: network pixels an image's pixel, along x and y.
        offset_xy: network pixels; negative where a crop cut something off, positive for a border.

    Example:
        >>> half = Placement((100, 200), (64, 64), (0.32, 0.32), (0.0, 16.0))
        >>> half.to_network(np.array([[0, 0, 200, 100]])).tolist()
        [[0.0, 16.0, 64.0, 48.0]]
    """

    size_hw: tuple[int, int]
    input_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def to_network(self, boxes_xyxy: NDArray[Any]) -> FloatArray:
        """(n, 4) float64 in network pixels, from (n, 4) in pixels of the image; nothing is clipped."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return boxes * (self.scale_xy * 2) + (self.offset_xy * 2)

    def to_image(self, boxes_xyxy: NDArray[Any]) -> FloatArray:
        """(n, 4) float64 in pixels of the image, from (n, 4) in network pixels; nothing is clipped."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return (boxes - (self.offset_xy * 2)) / (self.scale_xy * 2)


def resize(
    photo: LoadedImage, spec: InputSpec, crop_xyxy: Sequence[float] | None = None
) -> tuple[NDArray[Any], Placement]:
    """An image at the size a network takes, before its values are normalised.

    Args:
        photo: upright; (h, w, 3) uint8 or (h, w) uint16.
        spec: the network's input.
        crop_xyxy: the part to take instead of the whole, pixels of the image, inside it; training
            uses it. With `shortest` it takes the place of the centre crop and is stretched.

    Returns:
        (H, W, C) contiguous: uint8 for 8-bit images, float32 in [0, 1] for 16-bit ones, where
        `spec.white_level` became 1; and where the image lies in it.

    Raises:
        BadInput: the crop leaves the image or holds nothing.
    """
    image = _image(photo, spec)
    region = _region(crop_xyxy, photo.size_hw)
    size_wh, start_wh, box = _plan(region, spec, cropped=crop_xyxy is not None)
    if box == (0.0, 0.0, *map(float, image.size)) and size_wh == image.size:
        small = image
    else:
        small = image.resize(size_wh, FILTERS[spec.interpolation], box=box)
    pixels = np.asarray(small)
    if image.mode == "F":
        # Bicubic and Lanczos overshoot at edges, and an image may be brighter than the white level.
        pixels = np.clip(pixels * np.float32(1 / spec.white_level), 0, 1)
    pixels = np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], spec.channels))
    height, width = spec.size_hw
    if pixels.shape[:2] != (height, width):
        border = spec.pad_value if pixels.dtype == np.uint8 else np.float32(spec.pad_value / 255)
        canvas = np.full((height, width, spec.channels), border, pixels.dtype)
        canvas[start_wh[1] : start_wh[1] + size_wh[1], start_wh[0] : start_wh[0] + size_wh[0]] = pixels
        pixels = canvas
    return np.ascontiguousarray(pixels), _placement(photo.size_hw, spec, size_wh, start_wh, box)


def place(size_hw: tuple[int, int], spec: InputSpec) -> Placement:
    """Where a whole image lies in a network's input: what `resize` would say, without the pixels.

    Args:
        size_hw: of the upright image, pixels.
        spec: the network's input.
    """
    return _placement(size_hw, spec, *_plan(_region(None, size_hw), spec, cropped=False))


def normalize(pixels: NDArray[Any], spec: InputSpec) -> NDArray[np.float32]:
    """Pixels as the network takes them: scaled, less the mean, divided by the standard deviation.

    Args:
        pixels: (H, W, C) uint8, or float32 in [0, 1].
        spec: the network's input.

    Returns:
        (C, H, W) float32, contiguous.
    """
    height, width, channels = pixels.shape
    white = 255.0 if pixels.dtype == np.uint8 else 1.0
    unit = white if spec.scale == "unit" else white / 255.0
    out = np.empty((channels, height, width), np.float32)
    # A channel at a time with scalars: four times as fast as whole-array broadcasting over (H, W, C).
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        plane = out[channel]
        plane[...] = pixels[..., channel]
        plane *= np.float32(1 / (unit * std))
        plane -= np.float32(mean / std)
    return out


def prepare(photo: LoadedImage, spec: InputSpec) -> tuple[NDArray[np.float32], Placement]:
    """(C, H, W) float32 as the network takes it, and where the image lies in it."""
    pixels, placement = resize(photo, spec)
    return normalize(pixels, spec), placement


def _image(photo: LoadedImage, spec: InputSpec) -> Image.Image:
    """The image as Pillow resizes it: RGB, L, or F for 16 bits, which Pillow's integers clip."""
    if photo.is_16bit:
        return Image.fromarray(photo.pixels.astype(np.float32))
    image = Image.fromarray(photo.pixels)
    return image.convert("L") if spec.channels == 1 else image


def _region(crop_xyxy: Sequence[float] | None, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = size_hw
    if crop_xyxy is None:
        return 0.0, 0.0, float(width), float(height)
    left, top, right, bottom = (float(x) for x in crop_xyxy)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise BadInput(
            f"the crop {left:g} {top:g} {right:g} {bottom:g} is not a part of an image of "
            f"{width} x {height} pixels"
        )
    return left, top, right, bottom


def _placement(
    size_hw: tuple[int, int],
    spec: InputSpec,
    size_wh: tuple[int, int],
    start_wh: tuple[int, int],
    box: tuple[float, float, float, float],
) -> Placement:
    scale = (size_wh[0] / (box[2] - box[0]), size_wh[1] / (box[3] - box[1]))
    offset = (start_wh[0] - box[0] * scale[0], start_wh[1] - box[1] * scale[1])
    return Placement(size_hw, spec.size_hw, scale, offset)


def _plan(
    region: tuple[float, float, float, float], spec: InputSpec, *, cropped: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[float, float, float, float]]:
    """What is resized to what: size and start in the network's input, both (w, h), and the part taken."""
    height, width = spec.size_hw
    left, top, right, bottom = region
    if spec.resize == "stretch" or (spec.resize == "shortest" and cropped):
        return (width, height), (0, 0), region
    if spec.resize == "letterbox":
        ratio = min(height / (bottom - top), width / (right - left))
        size = (
            min(max(round((right - left) * ratio), 1), width),
            min(max(round((bottom - top) * ratio), 1), height),
        )
        centred = spec.letterbox_align == "center"
        start = ((width - size[0]) // 2, (height - size[1]) // 2) if centred else (0, 0)
        return size, start, region
    # Shorter side to `resize_to`, longer side cut to whole pixels as torchvision does, then the centre.
    # Only the part under the crop is computed: a long strip would otherwise grow beyond memory.
    shorter = spec.resize_to or min(height, width)
    ratio = shorter / min(bottom - top, right - left)
    whole = (max(int((right - left) * ratio), shorter), max(int((bottom - top) * ratio), shorter))
    scale = (whole[0] / (right - left), whole[1] / (bottom - top))
    size = (min(width, whole[0]), min(height, whole[1]))
    cut = (round((whole[0] - size[0]) / 2), round((whole[1] - size[1]) / 2))
    start = (round((width - size[0]) / 2), round((height - size[1]) / 2))
    box = (
        left + cut[0] / scale[0],
        top + cut[1] / scale[1],
        min(left + (cut[0] + size[0]) / scale[0], right),
        min(top + (cut[1] + size[1]) / scale[1], bottom),
    )
    return size, start, box
