"""Augmentation of whole images: parameters are drawn once per image and applied to each of its inputs.

`AugmentationParams` depend on the recipe and a random generator alone. They are applied with torchvision's v2
kernels to the resized uint8 image, so that two inputs of one image change alike and the boxes change with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as kernels

from blemish.arrays import FloatArray
from blemish.config.schema import AugmentationConfig, CropConfig
from blemish.training.augmentation.color_transforms import (
    COLORS,
    HSVGains,
    adjust_color,
    adjust_hsv,
    draw_amount,
    draw_hsv_gains,
)
from blemish.training.augmentation.transforms import BuiltTransform, PixelFunction, draw_transforms

CROP_ATTEMPTS = 50  # a few are enough to find a crop that shows enough of every box


@dataclass(frozen=True)
class AugmentationParams:
    """The changes of one image in one epoch, in the order of the attributes.

    Attributes:
        crop_xyxy: the part that is resized to the input, in pixels of the image; None for the whole image.
        flip_horizontal: whether left and right are mirrored.
        flip_vertical: whether top and bottom are mirrored.
        quarter_turn: whether the input, a square, is rotated by 90 degrees counterclockwise.
        angle: rotation about the center of the input, degrees counterclockwise.
        shear_xy: shear about the center along x and y, degrees; before the rotation.
        color: (name, factor or shift), in the order of application.
        hsv: shift of the hue, factors of saturation and value; None changes nothing.
        transforms: further changes of the pixels, from the registry.
    """

    crop_xyxy: tuple[float, float, float, float] | None = None
    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turn: bool = False
    angle: float = 0.0
    shear_xy: tuple[float, float] = (0.0, 0.0)
    color: tuple[tuple[str, float], ...] = ()
    hsv: HSVGains | None = None
    transforms: tuple[PixelFunction, ...] = ()

    @property
    def is_warped(self) -> bool:
        """Return whether pixels do not stay pixels: whether the input is rotated or sheared."""
        return bool(self.angle or any(self.shear_xy))

    def matrix(self) -> FloatArray:
        """Return the (2, 2) map of rotation and shear, of column vectors from the center of the input.

        Source:
            torchvision.transforms.v2.functional.affine, whose angle is clockwise.
        """
        angle, (x, y) = -math.radians(self.angle), map(math.radians, self.shear_xy)
        a, c = math.cos(angle - y) / math.cos(y), math.sin(angle - y) / math.cos(y)
        return np.array([[a, -a * math.tan(x) - math.sin(angle)], [c, -c * math.tan(x) + math.cos(angle)]])


def draw_params(
    config: AugmentationConfig,
    random: np.random.Generator,
    size_hw: tuple[int, int] | None = None,
    boxes_xyxy: FloatArray | None = None,
    transforms: Sequence[BuiltTransform] = (),
) -> AugmentationParams:
    """Draw the changes of one image.

    Args:
        config: probabilities and ranges.
        random: the source of every draw; the order of the draws is fixed.
        size_hw: height and width of the image in pixels; None draws no crop.
        boxes_xyxy: (n, 4) pixels of the image; the crop shows enough of each box.
        transforms: `config.transforms`, built.
    """
    crop = None
    if config.random_resized_crop is not None and size_hw is not None:
        crop = draw_crop(config.random_resized_crop, random, size_hw, boxes_xyxy)
    flip_horizontal = bool(random.random() < config.horizontal_flip)
    flip_vertical = bool(random.random() < config.vertical_flip)
    quarter_turn = bool(config.quarter_turn) and bool(random.random() < config.quarter_turn)
    angle = 0.0
    if config.rotation_degrees and _is_applied(config, "rotation", random):
        angle = float(random.uniform(-config.rotation_degrees, config.rotation_degrees))
    shear_xy = (0.0, 0.0)
    if config.shear_degrees and _is_applied(config, "shear", random):
        x, y = random.uniform(-config.shear_degrees, config.shear_degrees, 2)
        shear_xy = (float(x), float(y))
    color = []
    enabled = [name for name in COLORS if getattr(config, name)]
    if enabled:
        for position in random.permutation(len(enabled)):  # in random order, as torchvision's ColorJitter
            name = enabled[position]
            if _is_applied(config, name, random):
                color.append((name, draw_amount(name, getattr(config, name), random)))
    hsv = None
    if config.hsv_gains is not None and _is_applied(config, "hsv_gains", random):
        hsv = draw_hsv_gains(config.hsv_gains, random)
    further = draw_transforms(transforms, random)
    return AugmentationParams(
        crop, flip_horizontal, flip_vertical, quarter_turn, angle, shear_xy, tuple(color), hsv, further
    )


def augment_pixels(params: AugmentationParams, pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels after every change but the crop, which `preprocessing.resize` makes.

    Args:
        params: the changes.
        pixels: (H, W, C) uint8, or float32 in [0, 1].

    Returns:
        Pixels of the same shape and type.
    """
    if params.flip_horizontal:
        pixels = pixels[:, ::-1]
    if params.flip_vertical:
        pixels = pixels[::-1]
    if params.quarter_turn:
        pixels = np.rot90(pixels)
    if params.is_warped or params.color:
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # (C, H, W)
        if any(params.shear_xy):
            image = kernels.affine_image(
                image, -params.angle, [0, 0], 1.0, list(params.shear_xy), InterpolationMode.BILINEAR
            )
        elif params.angle:
            image = kernels.rotate_image(image, params.angle, interpolation=InterpolationMode.BILINEAR)
        for name, amount in params.color:
            image = adjust_color(image, name, amount)
        pixels = image.numpy().transpose(1, 2, 0)
    if params.hsv is not None:
        pixels = adjust_hsv(pixels, params.hsv)
    for change in params.transforms:
        pixels = change(pixels)
    return np.ascontiguousarray(pixels)


def augment_boxes(
    params: AugmentationParams, boxes_xyxy: FloatArray, input_hw: tuple[int, int]
) -> FloatArray:
    """Return boxes after the flips, the shear and the rotation.

    Args:
        params: the changes.
        boxes_xyxy: (n, 4) pixels of the input, after the crop.
        input_hw: height and width of the input in pixels.

    Returns:
        (n, 4) float64 pixels of the input, not clipped: the upright box around each rotated box.

    Source:
        torchvision.transforms.v2.functional.affine_bounding_boxes, before clamping.
    """
    height, width = input_hw
    boxes = np.array(boxes_xyxy, np.float64)
    if params.flip_horizontal:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if params.flip_vertical:
        boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    if params.is_warped:
        center = np.array([width / 2, height / 2])
        corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] - center  # (n, 4, 2)
        rotated = corners @ params.matrix().T + center
        boxes = np.concatenate([rotated.min(1), rotated.max(1)], 1)
    return boxes


def draw_crop(
    config: CropConfig, random: np.random.Generator, size_hw: tuple[int, int], boxes_xyxy: FloatArray | None
) -> tuple[float, float, float, float] | None:
    """Draw a part of the image with random area and aspect ratio.

    Args:
        config: ranges of area and aspect ratio.
        random: the source of every draw.
        size_hw: height and width of the image in pixels.
        boxes_xyxy: (n, 4) pixels of the image, or None.

    Returns:
        x1 y1 x2 y2 in pixels of the image; None, or the whole image if there are boxes, if no crop was found.

    Source:
        torchvision.transforms.RandomResizedCrop.get_params, with a condition on the boxes.
    """
    height, width = size_hw
    for _ in range(CROP_ATTEMPTS):
        area = height * width * random.uniform(*config.scale)
        ratio = math.exp(random.uniform(math.log(config.ratio[0]), math.log(config.ratio[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if not (0 < w <= width and 0 < h <= height):
            continue
        left, top = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
        crop = (float(left), float(top), float(left + w), float(top + h))
        if boxes_xyxy is None or (visible_share(boxes_xyxy, crop) >= config.min_box_visibility).all():
            return crop
    # Without a crop, the resize mode `shortest` would cut off the boxes of a wide image.
    return None if boxes_xyxy is None else (0.0, 0.0, float(width), float(height))


def visible_share(boxes_xyxy: FloatArray, crop_xyxy: tuple[float, float, float, float]) -> FloatArray:
    """Return the share of each box's area inside the crop, (n,); 1 for a box inside it without area."""
    left, top, right, bottom = crop_xyxy
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    clipped = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    visible = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    is_inside = (clipped == boxes).all(1)
    return np.where(is_inside, 1.0, np.divide(visible, area, out=np.zeros_like(area), where=area > 0))


def _is_applied(config: AugmentationConfig, name: Any, random: np.random.Generator) -> bool:
    return bool(random.random() < config.probability.get(name, 1.0))
