"""Augmentation for detectors: random crops and canvases, with the boxes and masks in them.

A region of the image, or a larger one, is drawn and rendered with `preprocessing.resize`; flips, rotation and
color changes follow as for whole images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as kernels

from blemish.arrays import FloatArray, Mask
from blemish.config.schema import AugmentationConfig
from blemish.geometry import pairwise_iou
from blemish.geometry.masks import crop_window
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement
from blemish.structures import Sample
from blemish.training.augmentation.image_augmentation import (
    AugmentationParams,
    augment_boxes,
    augment_pixels,
    draw_crop,
    draw_params,
    visible_share,
)
from blemish.training.augmentation.transforms import BuiltTransform
from blemish.training.image_source import ImageSource

Region = tuple[float, float, float, float]

MIN_IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)  # SSD's choices; None keeps the whole image
CROP_ATTEMPTS = 40  # crops drawn for one minimum IoU
MAX_IOU_DRAWS = 20  # minimum IoUs drawn before the whole image is kept


@dataclass(frozen=True)
class CropParams:
    """The crop and the changes of one image in one epoch.

    Attributes:
        region_xyxy: the region that becomes the input, in pixels of the image; the part outside the image
            becomes a border. None for the whole image.
        change: flips, rotation and color changes of the region.
    """

    region_xyxy: Region | None = None
    change: AugmentationParams = field(default_factory=AugmentationParams)


def draw_crop_params(
    config: AugmentationConfig,
    random: np.random.Generator,
    size_hw: tuple[int, int],
    boxes_xyxy: FloatArray,
    transforms: Sequence[BuiltTransform] = (),
) -> CropParams:
    """Draw the crop and the changes of one image.

    Args:
        config: probabilities and ranges.
        random: the source of every draw; the order of the draws is fixed.
        size_hw: height and width of the image in pixels.
        boxes_xyxy: (n, 4) pixels of the image.
        transforms: `config.transforms`, built.
    """
    height, width = size_hw
    whole: Region = (0.0, 0.0, float(width), float(height))
    region = whole
    if config.zoom_out and random.random() < config.zoom_out:
        region = _zoomed_out(whole, random.uniform(1, config.max_zoom_out), random)
    if config.iou_crop and random.random() < config.iou_crop:
        region = _iou_crop(region, random, boxes_xyxy)
    if region == whole and (config.scale_jitter is not None or config.translate):
        scale = random.uniform(*(config.scale_jitter or (1, 1)))
        if config.translate is None:
            region = _scaled(region, scale, random)
        else:
            region = _centered(region, scale, random.uniform(-config.translate, config.translate, 2))
    if config.random_resized_crop is not None and region == whole:
        region = draw_crop(config.random_resized_crop, random, size_hw, boxes_xyxy) or whole
    return CropParams(None if region == whole else region, draw_params(config, random, transforms=transforms))


def render_crop(
    source: ImageSource, sample: Sample, spec: InputSpec, crop: CropParams
) -> tuple[NDArray[Any], Placement, Region]:
    """Return the pixels of one input after a crop and its changes.

    Args:
        source: gives the image.
        sample: the image.
        spec: the network's input.
        crop: without a region the pixels equal those of prediction, except for `crop.change`.

    Returns:
        The pixels, (H, W, C) uint8, or float32 in [0, 1]; the placement of the image in them before flips
        and rotation; and the region of the input that shows the image, x1 y1 x2 y2 in pixels of the input.
    """
    height, width = spec.size_hw
    if crop.region_xyxy is None:
        pixels, placement = source.resized(sample, spec)
        shown = placement.to_network(np.array([[0, 0, placement.size_hw[1], placement.size_hw[0]]]))[0]
        shown = np.clip(shown, 0, [width, height, width, height])
        return augment_pixels(crop.change, pixels), placement, (shown[0], shown[1], shown[2], shown[3])
    size_hw = source.size_hw(sample)
    left, top, right, bottom = crop.region_xyxy
    scale_xy, offset_xy = scale_and_offset(spec, right - left, bottom - top)
    visible = (max(left, 0.0), max(top, 0.0), min(right, float(size_hw[1])), min(bottom, float(size_hw[0])))
    origin_xy = (offset_xy[0] - left * scale_xy[0], offset_xy[1] - top * scale_xy[1])
    content, placement, shown = render_part(source, sample, spec, visible, scale_xy, origin_xy)
    pixels = blank_input(spec, content)
    paste(pixels, content, shown)
    return augment_pixels(crop.change, pixels), placement, shown


def render_part(
    source: ImageSource,
    sample: Sample,
    spec: InputSpec,
    part_xyxy: Region,
    scale_xy: tuple[float, float],
    origin_xy: tuple[float, float],
) -> tuple[NDArray[Any], Placement, Region]:
    """Return a part of an image at its size in the input, the placement of the image, and where the part is.

    The part gets whole pixels, at least one, and the placement of the boxes is computed from them.

    Args:
        source: gives the image.
        sample: the image.
        spec: the network's input.
        part_xyxy: pixels of the image, inside it.
        scale_xy: pixels of the input per pixel of the image.
        origin_xy: where the image's corner is, pixels of the input.
    """
    height, width = spec.size_hw
    left, top, right, bottom = part_xyxy
    x1, x2 = _pixel_span(origin_xy[0], scale_xy[0], left, right, width)
    y1, y2 = _pixel_span(origin_xy[1], scale_xy[1], top, bottom, height)
    part_spec = spec.model_copy(update={"size_hw": (y2 - y1, x2 - x1), "resize": "stretch"})
    content, _ = source.resized(sample, part_spec, part_xyxy)
    scale = ((x2 - x1) / (right - left), (y2 - y1) / (bottom - top))
    offset = (x1 - left * scale[0], y1 - top * scale[1])
    placement = Placement(source.size_hw(sample), spec.size_hw, scale, offset)
    return content, placement, (float(x1), float(y1), float(x2), float(y2))


def blank_input(spec: InputSpec, like: NDArray[Any]) -> NDArray[Any]:
    """Return an input that is border everywhere, in the type of other pixels."""
    border = spec.pad_value if like.dtype == np.uint8 else np.float32(spec.pad_value / 255)
    return np.full((*spec.size_hw, like.shape[2]), border, like.dtype)


def paste(pixels: NDArray[Any], content: NDArray[Any], shown: Region) -> None:
    """Copy the pixels of a part to its place in the input."""
    x1, y1, x2, y2 = map(int, shown)
    pixels[y1:y2, x1:x2] = match_type(content, pixels)


def match_type(pixels: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """Return pixels in the type of others: uint8, or float32 in [0, 1] of 16-bit images."""
    if pixels.dtype == like.dtype:
        return pixels
    is_8bit = like.dtype == np.uint8
    same: NDArray[Any] = np.rint(pixels * 255).astype(np.uint8) if is_8bit else pixels / np.float32(255)
    return same


@dataclass(frozen=True)
class TrainingObjects:
    """The objects of one image as targets of a detector.

    Attributes:
        boxes: (n, 4) float64 xyxy in pixels of the input, each with a positive area.
        labels: (n,) int64, from 0.
        masks: (n, H, W) bool, or None.
    """

    boxes: FloatArray
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None

    def select(self, rows: NDArray[Any] | slice) -> TrainingObjects:
        """Return some of the objects.

        Args:
            rows: (n,) bool, indices, or a slice.
        """
        masks = None if self.masks is None else self.masks[rows]
        return TrainingObjects(self.boxes[rows], self.labels[rows], masks)

    def as_target(self) -> dict[str, torch.Tensor]:
        """Return the target of one image as `Network.loss` takes it."""
        target = {
            "boxes": torch.as_tensor(self.boxes, dtype=torch.float32),
            "labels": torch.as_tensor(self.labels),
        }
        if self.masks is not None:
            target["masks"] = torch.as_tensor(self.masks.astype(np.uint8))
        return target


def visible_objects(
    sample: Sample,
    placement: Placement,
    shown: Region,
    change: AugmentationParams,
    *,
    masks: bool,
    min_visibility: float | None = None,
) -> TrainingObjects:
    """Return the objects of an image after a crop and its changes.

    An object stays if its center is visible, or enough of its box; its box and mask are clipped to the
    visible region. A crowd is left out, because the number of its objects is unknown.

    Args:
        sample: the image with its ground truth.
        placement: of the image in the input, before `change`.
        shown: the region of the input that shows the image, x1 y1 x2 y2 in pixels of the input.
        change: flips and rotation.
        masks: whether to rasterize the masks.
        min_visibility: share of a box that must be visible; None demands its center.
    """
    ground_truth = sample.ground_truth
    height, width = placement.input_hw
    if ground_truth is None or ground_truth.boxes_xyxy is None:
        none = np.zeros((0, height, width), bool) if masks else None
        return TrainingObjects(np.zeros((0, 4)), np.zeros(0, np.int64), none)
    placed = placement.to_network(ground_truth.boxes_xyxy)
    if min_visibility is None:
        center = (placed[:, :2] + placed[:, 2:]) / 2
        inside = (center >= shown[:2]).all(1) & (center <= shown[2:]).all(1) & ~ground_truth.crowd
    else:
        inside = (visible_share(placed, shown) >= min_visibility) & ~ground_truth.crowd
    clipped = np.clip(placed, (shown[0], shown[1]) * 2, (shown[2], shown[3]) * 2)
    is_changed = (clipped != placed).any(1) | change.is_warped
    boxes = np.clip(augment_boxes(change, clipped, placement.input_hw), 0, (width, height) * 2)
    rasters = None
    if masks:
        rasters = np.zeros((len(boxes), height, width), bool)
        for row in np.flatnonzero(inside):
            if ground_truth.masks is None:
                x1, y1, x2, y2 = clipped[row].round().astype(int)
                rasters[row, y1:y2, x1:x2] = True
            else:
                rasterize_mask(rasters[row], ground_truth.masks[row], placement, shown)
            rasters[row] = _augment_mask(change, rasters[row])
            if not rasters[row].any():
                inside[row] = False
            elif is_changed[row]:
                boxes[row] = raster_box(rasters[row])
    keep = inside & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return TrainingObjects(boxes, ground_truth.label_index, rasters).select(keep)


def rasterize_mask(canvas: NDArray[np.bool_], mask: Mask, placement: Placement, shown: Region) -> None:
    """Set the pixels of an input that a mask covers by at least half, inside the visible region.

    A mask that is thinner than a pixel of the input covers none by half: then the threshold is half of the
    largest coverage, so that a crack neither breaks into dots nor vanishes with its object.

    Args:
        canvas: (H, W) bool, changed in place.
        mask: in pixels of the image.
        placement: of the image in the input.
        shown: the region of the input that shows the image, x1 y1 x2 y2 in pixels of the input.
    """
    window, (left, top) = crop_window(mask)
    if not window.size:
        return
    corners = np.array([[left, top, left + window.shape[1], top + window.shape[0]]], np.float64)
    x1, y1, x2, y2 = placement.to_network(corners)[0]
    first = (max(math.floor(x1), round(shown[0])), max(math.floor(y1), round(shown[1])))
    last = (min(math.ceil(x2), round(shown[2])), min(math.ceil(y2), round(shown[3])))
    if first[0] >= last[0] or first[1] >= last[1]:
        return
    # A margin of zeros wider than a pixel of the input, whose pixel grid need not start at the window.
    margin = [math.ceil(1 / s) + 1 for s in placement.scale_xy]
    padded = np.pad(window, ((margin[1],) * 2, (margin[0],) * 2))
    back = placement.to_image(np.array([[*first, *last]], np.float64))[0]
    box = back - np.array([left - margin[0], top - margin[1]] * 2)
    box = np.clip(box, 0, (padded.shape[1], padded.shape[0]) * 2)
    image = Image.fromarray(padded.astype(np.uint8) * np.uint8(255))
    size = (last[0] - first[0], last[1] - first[1])
    coverage = np.asarray(image.resize(size, Image.Resampling.BOX, box=(box[0], box[1], box[2], box[3])))
    largest = int(coverage.max())
    if largest:
        canvas[first[1] : last[1], first[0] : last[0]] |= 2 * coverage.astype(np.int64) >= largest


def _augment_mask(change: AugmentationParams, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if change.flip_horizontal:
        mask = mask[:, ::-1]
    if change.flip_vertical:
        mask = mask[::-1]
    if change.is_warped:
        raster = torch.from_numpy(mask[None].astype(np.uint8))
        if any(change.shear_xy):
            raster = kernels.affine_mask(raster, -change.angle, [0, 0], 1.0, list(change.shear_xy))
        else:
            raster = kernels.rotate_mask(raster, change.angle)
        mask = raster.numpy()[0] > 0
    return mask


def raster_box(mask: NDArray[np.bool_]) -> FloatArray:
    """Return the smallest box around the pixels of a mask that has some, (4,) xyxy."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _zoomed_out(region: Region, times: float, random: np.random.Generator) -> Region:
    """Return a canvas `times` as wide and high, with the region at a random position in it."""
    left, top, right, bottom = region
    width, height = right - left, bottom - top
    x = left - random.uniform(0, (times - 1) * width)
    y = top - random.uniform(0, (times - 1) * height)
    return x, y, x + times * width, y + times * height


def _scaled(region: Region, scale: float, random: np.random.Generator) -> Region:
    """Return a part of the region for a scale above 1, and a canvas around it for a scale below 1."""
    if scale <= 1:
        return _zoomed_out(region, 1 / scale, random)
    left, top, right, bottom = region
    width, height = (right - left) / scale, (bottom - top) / scale
    x = left + random.uniform(0, right - left - width)
    y = top + random.uniform(0, bottom - top - height)
    return x, y, x + width, y + height


def _centered(region: Region, scale: float, shift_xy: FloatArray) -> Region:
    """Return the region that shows the whole at a scale, shifted by up to half of its width and height.

    The center of the whole is always visible.
    """
    left, top, right, bottom = region
    width, height = (right - left) / scale, (bottom - top) / scale
    x = (left + right - width) / 2 - shift_xy[0] * width
    y = (top + bottom - height) / 2 - shift_xy[1] * height
    return float(x), float(y), float(x + width), float(y + height)


def _iou_crop(region: Region, random: np.random.Generator, boxes_xyxy: FloatArray) -> Region:
    """Return a crop whose IoU with some box reaches a random minimum, and which contains the box's center.

    Source:
        SSD, section 2.2; torchvision.transforms.v2.RandomIoUCrop.
    """
    left, top, right, bottom = region
    for _ in range(MAX_IOU_DRAWS):
        min_iou = MIN_IOUS[random.integers(len(MIN_IOUS))]
        if min_iou is None or not len(boxes_xyxy):
            return region
        for _ in range(CROP_ATTEMPTS):
            width, height = random.uniform(0.3, 1, 2) * (right - left, bottom - top)
            if not 0.5 <= width / height <= 2:
                continue
            x = left + random.uniform(0, right - left - width)
            y = top + random.uniform(0, bottom - top - height)
            crop = (float(x), float(y), float(x + width), float(y + height))
            center = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
            is_centered = (center > crop[:2]).all(1) & (center < crop[2:]).all(1)
            if is_centered.any() and pairwise_iou(boxes_xyxy[is_centered], np.array([crop])).max() >= min_iou:
                return crop
    return region


def scale_and_offset(
    spec: InputSpec, width: float, height: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the scale and the offset, along x and y, of a region in the input."""
    input_height, input_width = spec.size_hw
    if spec.resize != "letterbox":
        return (input_width / width, input_height / height), (0.0, 0.0)
    ratio = min(input_width / width, input_height / height)
    if spec.letterbox_align == "corner":
        return (ratio, ratio), (0.0, 0.0)
    return (ratio, ratio), (
        float((input_width - round(width * ratio)) // 2),
        float((input_height - round(height * ratio)) // 2),
    )


def _pixel_span(start: float, scale: float, low: float, high: float, side: int) -> tuple[int, int]:
    """Return the first and the past-the-last pixel of [low, high) in an input side, at least one pixel."""
    first = min(max(round(start + low * scale), 0), side - 1)
    return first, min(max(round(start + high * scale), first + 1), side)
