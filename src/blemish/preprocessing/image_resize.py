"""The one resize: stretch, letterbox or shorter side, computed by Pillow with antialiasing.

Imported weights may need OpenCV's plain linear filter instead, which this module computes itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BadInput
from blemish.model_file import InputSpec
from blemish.preprocessing.placement import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blemish.imaging import LoadedImage, Reduction

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}
MAX_ROWS_AT_ONCE = 8  # of plain interpolation
FACTORS = (8, 4, 2)  # by which `decode="scaled"` reduces an image before it is resized
MIN_OVERSAMPLING = 2  # reduced pixels per pixel of the input, along each side

Region = tuple[float, float, float, float]  # x1 y1 x2 y2, image pixels


class _Plan(NamedTuple):
    """A resize before it is computed.

    Attributes:
        size_wh: size of the resized region in the network's input, pixels.
        start_wh: its left and top edge in the network's input, pixels.
        region: the part of the image that is resized.
    """

    size_wh: tuple[int, int]
    start_wh: tuple[int, int]
    region: Region


def resize(
    image: LoadedImage, spec: InputSpec, crop_xyxy: Sequence[float] | None = None
) -> tuple[NDArray[Any], Placement]:
    """Return an image at the size of a network's input, before its values are normalized.

    Args:
        image: upright; (h, w, 3) uint8 or (h, w) uint16.
        spec: the network's input.
        crop_xyxy: the part to resize instead of the whole image, in image pixels, inside the image; used in
            training. With `resize="shortest"` it replaces the center crop and is stretched.

    Returns:
        (H, W, C) contiguous: uint8 for 8-bit images, float32 in [0, 1] for 16-bit ones, in which
        `spec.white_level` (or, if that is 65535, the level that the file states) became 1; and the image's
        placement in it.

    Raises:
        BadInput: the crop is empty or leaves the image.
    """
    plan = _plan(_crop_region(crop_xyxy, image.size_hw), spec, is_cropped=crop_xyxy is not None)
    placement = _placement(image.size_hw, spec, plan)
    source, plan = _source(image, spec, plan)
    if plan.region == (0.0, 0.0, *map(float, source.size)) and plan.size_wh == source.size:
        pixels = np.asarray(source)
    elif spec.interpolation == "linear-plain":
        pixels = _resize_plain(source, plan)
    else:
        pixels = np.asarray(source.resize(plan.size_wh, FILTERS[spec.interpolation], box=plan.region))
    if source.mode == "F":
        # Bicubic and Lanczos overshoot at edges, and an image may be brighter than the white level.
        pixels = np.clip(pixels * np.float32(1 / image.choose_white_level(spec.white_level)), 0, 1)
    pixels = np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], spec.channels))
    if pixels.shape[:2] != spec.size_hw:
        pixels = _pad(pixels, plan, spec)
    return np.ascontiguousarray(pixels), placement


def place(size_hw: tuple[int, int], spec: InputSpec) -> Placement:
    """Return the placement of a whole image in a network's input, as `resize` does, without its pixels.

    Args:
        size_hw: size of the upright image in pixels.
        spec: the network's input.
    """
    return _placement(size_hw, spec, _plan(_crop_region(None, size_hw), spec, is_cropped=False))


def decode_factor(size_hw: tuple[int, int], spec: InputSpec, crop_xyxy: Sequence[float] | None = None) -> int:
    """Return how many times `resize` reduces an image before it resizes it: 1, 2, 4 or 8.

    It is the largest number that leaves at least two pixels per pixel of the input along each side, and 1 for
    `decode="full"`.

    Args:
        size_hw: size of the upright image in pixels.
        spec: the network's input.
        crop_xyxy: the part that is resized; see `resize`.
    """
    if spec.decode == "full":
        return 1
    return _factor(_plan(_crop_region(crop_xyxy, size_hw), spec, is_cropped=crop_xyxy is not None))


def reduction_for(specs: Sequence[InputSpec]) -> Reduction | None:
    """Return the size at which a file is best opened for a network's inputs, as `open_image` takes it.

    Args:
        specs: the inputs; a file is opened for the first, and decoded again if another needs another size.

    Returns:
        None if the first input is made from the full image.
    """
    spec = specs[0]
    return None if spec.decode == "full" else lambda size_hw: decode_factor(size_hw, spec)


def factor_for(shrinkage: float) -> int:
    """Return how many times an image that becomes `shrinkage` times smaller is reduced first.

    Example:
        >>> [factor_for(shrinkage) for shrinkage in (3.9, 4, 15.9, 100)]
        [1, 2, 4, 8]
    """
    return next((factor for factor in FACTORS if shrinkage >= MIN_OVERSAMPLING * factor), 1)


def _factor(plan: _Plan) -> int:
    """Return the reduction before a resize with `decode="scaled"`."""
    left, top, right, bottom = plan.region
    return factor_for(min((right - left) / plan.size_wh[0], (bottom - top) / plan.size_wh[1]))


def _source(image: LoadedImage, spec: InputSpec, plan: _Plan) -> tuple[Image.Image, _Plan]:
    """Return the image in the mode in which Pillow resizes it, RGB, L, or F for 16 bits; and the plan for it.

    Pillow's 16-bit integer modes clip.
    """
    factor = 1 if spec.decode == "full" else _factor(plan)
    if factor > 1:
        source, factor, offset = image.reduced(factor)
        x1, y1, x2, y2 = ((x + o) / factor for x, o in zip(plan.region, offset * 2, strict=True))
        plan = plan._replace(region=(x1, y1, x2, y2))
    elif image.is_16bit:
        source = Image.fromarray(image.pixels.astype(np.float32))
    else:
        source = image.rgb_image()
    return source.convert("L") if spec.channels == 1 and source.mode == "RGB" else source, plan


def _resize_plain(image: Image.Image, plan: _Plan) -> NDArray[Any]:
    """Return a part of an image resized by linear interpolation between the four nearest pixels.

    Nothing is averaged, however much the image shrinks: details between the sampled pixels are lost. Shares
    of 8-bit pixels are rounded to 1/2048, so that every value equals OpenCV's.

    Args:
        image: of mode RGB, L or F. Only the rows that are sampled become an array: few of a large image.
        plan: the part and the new size.

    Returns:
        (H, W) or (H, W, C), uint8 or float32.

    Source:
        OpenCV's `resize` with `INTER_LINEAR`.
    """
    left, top, right, bottom = plan.region
    x0, x1, dx = _neighbors(left, right, plan.size_wh[0], image.width)
    y0, y1, dy = _neighbors(top, bottom, plan.size_wh[1], image.height)
    channels = () if image.mode != "RGB" else (3,)
    dx = dx.reshape(-1, *(1,) * len(channels))
    resized = np.empty((len(y0), len(x0), *channels), np.float32 if image.mode == "F" else np.uint8)
    if image.mode == "F":
        for row, (above, below, share) in enumerate(zip(y0, y1, dy, strict=True)):
            lines = _lines(image, above, below)
            first, second = (line[x0] + dx * (line[x1] - line[x0]) for line in lines)
            resized[row] = first + share * (second - first)
        return resized
    one = np.float32(2048)
    channel = np.arange(3 if channels else 1)
    columns = np.concatenate([(x[:, None] * len(channel) + channel).ravel() for x in (x0, x1)])
    shares = np.rint(np.concatenate([1 - dx, dx]).ravel() * one).astype(np.int32)
    weights = np.repeat(shares, len(channel)).reshape(2, -1)
    row_weights = np.rint(np.stack([1 - dy, dy], 1) * one).astype(np.int32)[:, :, None]
    sampled_rows = np.stack([y0, y1], 1)
    flat = resized.reshape(len(y0), -1)
    # A few rows at a time fit a cache; with wide gaps, most rows between the sampled ones would be copied.
    count = max(1, min(MAX_ROWS_AT_ONCE, int(3 * MAX_ROWS_AT_ONCE * len(y0) / max(bottom - top, 1))))
    for at in range(0, len(y0), count):
        block = sampled_rows[at : at + count]
        first = int(block[0, 0])
        near = np.asarray(image.crop((0, first, image.width, int(block[-1, 1]) + 1)))
        sampled = near.reshape(len(near), -1)[(block - first).ravel()]
        parts = sampled.take(columns, 1).reshape(len(block), 2, 2, -1) * weights
        blended = parts[:, :, 0] + parts[:, :, 1]  # (rows, 2, W * C) int32
        blended >>= 4
        blended *= row_weights[at : at + count]
        blended >>= 16
        flat[at : at + count] = (blended[:, 0] + blended[:, 1] + 2) >> 2
    return resized


def _lines(image: Image.Image, above: int, below: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two rows of an image that are the same or follow each other."""
    rows = np.asarray(image.crop((0, int(above), image.width, int(below) + 1)))
    return rows[0], rows[-1]


def _neighbors(
    start: float, stop: float, count: int, length: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return for each new pixel the two old pixels around its center, and its share of the second.

    Args:
        start: where the resized part begins, in old pixels.
        stop: where it ends.
        count: number of new pixels.
        length: number of old pixels.
    """
    centers = (start + (np.arange(count) + 0.5) * ((stop - start) / count) - 0.5).astype(np.float32)
    first = np.floor(centers).astype(np.intp)
    share = (centers - first).astype(np.float32)
    return np.clip(first, 0, length - 1), np.clip(first + 1, 0, length - 1), share


def _pad(pixels: NDArray[Any], plan: _Plan, spec: InputSpec) -> NDArray[Any]:
    """Return (H, W, C): the resized region on a canvas of the padding value."""
    (width, height), (left, top) = plan.size_wh, plan.start_wh
    padding = spec.pad_value if pixels.dtype == np.uint8 else np.float32(spec.pad_value / 255)
    canvas = np.full((*spec.size_hw, spec.channels), padding, pixels.dtype)
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def _crop_region(crop_xyxy: Sequence[float] | None, size_hw: tuple[int, int]) -> Region:
    """Return the crop, or the whole image; raise `BadInput` for a crop that is not inside the image."""
    height, width = size_hw
    if crop_xyxy is None:
        return 0.0, 0.0, float(width), float(height)
    left, top, right, bottom = (float(x) for x in crop_xyxy)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise BadInput(
            f"crop {left:g} {top:g} {right:g} {bottom:g}: expected x1 y1 x2 y2 inside an image of "
            f"{width} x {height} pixels, with x1 < x2 and y1 < y2",
            reason="crop-outside-image",
        )
    return left, top, right, bottom


def _placement(size_hw: tuple[int, int], spec: InputSpec, plan: _Plan) -> Placement:
    """Return the placement that a plan leads to."""
    left, top, right, bottom = plan.region
    scale = (plan.size_wh[0] / (right - left), plan.size_wh[1] / (bottom - top))
    offset = (plan.start_wh[0] - left * scale[0], plan.start_wh[1] - top * scale[1])
    return Placement(size_hw, spec.size_hw, scale, offset)


def _plan(region: Region, spec: InputSpec, *, is_cropped: bool) -> _Plan:
    """Return which part of the image is resized to what."""
    height, width = spec.size_hw
    left, top, right, bottom = region
    if spec.resize == "stretch" or (spec.resize == "shortest" and is_cropped):
        return _Plan((width, height), (0, 0), region)
    if spec.resize == "letterbox":
        ratio = min(height / (bottom - top), width / (right - left))
        size = (
            min(max(round((right - left) * ratio), 1), width),
            min(max(round((bottom - top) * ratio), 1), height),
        )
        is_centered = spec.letterbox_align == "center"
        start = ((width - size[0]) // 2, (height - size[1]) // 2) if is_centered else (0, 0)
        return _Plan(size, start, region)
    # The shorter side becomes `resize_to`, the longer side is truncated to whole pixels as in torchvision,
    # then the center is cropped. Only the part under the crop is computed: a long strip would otherwise
    # grow beyond memory.
    shorter = spec.resize_to or min(height, width)
    ratio = shorter / min(bottom - top, right - left)
    whole = (max(int((right - left) * ratio), shorter), max(int((bottom - top) * ratio), shorter))
    scale = (whole[0] / (right - left), whole[1] / (bottom - top))
    size = (min(width, whole[0]), min(height, whole[1]))
    cut = (round((whole[0] - size[0]) / 2), round((whole[1] - size[1]) / 2))
    start = ((width - size[0]) // 2, (height - size[1]) // 2)
    visible = (
        left + cut[0] / scale[0],
        top + cut[1] / scale[1],
        min(left + (cut[0] + size[0]) / scale[0], right),
        min(top + (cut[1] + size[1]) / scale[1], bottom),
    )
    return _Plan(size, start, visible)
