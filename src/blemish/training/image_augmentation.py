"""Random changes of training images: drawn once an image, then made in each of its inputs.

An `AugmentationParams` is drawn from (recipe, generator) alone and made with torchvision's v2 kernels on the
small uint8 picture, so that two inputs of one image are changed alike and boxes move with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as kernels

from blemish.arrays import FloatArray
from blemish.config.schema import AugmentationConfig, CropConfig

CROP_ATTEMPTS = 50  # a crop that keeps enough of the box is found in a few, or the whole image is taken
COLOUR = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class AugmentationParams:
    """What happens to one image in one epoch.

    Attributes:
        crop_xyxy: the part that is stretched to the input, pixels of the image; None for the whole.
        flip_horizontal: left becomes right.
        flip_vertical: top becomes bottom.
        angle: degrees counter-clockwise, about the centre of the input.
        colour: (name, factor or shift), in the order they are made.
    """

    crop_xyxy: tuple[float, float, float, float] | None = None
    flip_horizontal: bool = False
    flip_vertical: bool = False
    angle: float = 0.0
    colour: tuple[tuple[str, float], ...] = ()


def draw_change(
    part: AugmentationConfig,
    random: np.random.Generator,
    size_hw: tuple[int, int] | None = None,
    boxes_xyxy: FloatArray | None = None,
) -> AugmentationParams:
    """What happens to one image.

    Args:
        part: probabilities and ranges.
        random: every draw comes from it, in one order.
        size_hw: of the image, pixels; needed for a crop.
        boxes_xyxy: (n, 4) pixels of the image; enough of each must stay in the crop.
    """
    crop = None
    if part.random_resized_crop is not None and size_hw is not None:
        crop = draw_crop(part.random_resized_crop, random, size_hw, boxes_xyxy)
    flip_horizontal = bool(random.random() < part.horizontal_flip)
    flip_vertical = bool(random.random() < part.vertical_flip)
    angle = 0.0
    if part.rotation_degrees and _happens(part, "rotation", random):
        angle = float(random.uniform(-part.rotation_degrees, part.rotation_degrees))
    colour = []
    wanted = [name for name in COLOUR if getattr(part, name)]
    if wanted:
        for position in random.permutation(len(wanted)):  # as torchvision's ColorJitter: in a random order
            name = wanted[position]
            reach = getattr(part, name)
            if _happens(part, name, random):
                middle = 0.0 if name == "hue" else 1.0
                colour.append((name, float(random.uniform(middle - reach, middle + reach))))
    return AugmentationParams(crop, flip_horizontal, flip_vertical, angle, tuple(colour))


def change_pixels(change: AugmentationParams, pixels: NDArray[Any]) -> NDArray[Any]:
    """The picture after everything but the crop, which `preprocessing.resize` makes.

    Args:
        change: what to do.
        pixels: (H, W, C) uint8, or float32 in [0, 1].

    Returns:
        Likewise.
    """
    if not (change.flip_horizontal or change.flip_vertical or change.angle or change.colour):
        return pixels
    if change.flip_horizontal:
        pixels = pixels[:, ::-1]
    if change.flip_vertical:
        pixels = pixels[::-1]
    if not (change.angle or change.colour):
        return np.ascontiguousarray(pixels)
    picture = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # (C, H, W)
    if change.angle:
        picture = kernels.rotate_image(picture, change.angle, interpolation=InterpolationMode.BILINEAR)
    for name, amount in change.colour:
        picture = _colour(name, amount, picture)
    return np.ascontiguousarray(picture.numpy().transpose(1, 2, 0))


def move_boxes(change: AugmentationParams, boxes_xyxy: FloatArray, input_hw: tuple[int, int]) -> FloatArray:
    """Where boxes lie after the flips and the rotation.

    Args:
        change: what was done.
        boxes_xyxy: (n, 4) pixels of the input, after the crop.
        input_hw: its height and width.

    Returns:
        (n, 4) float64 pixels of the input: the upright box around each turned box; nothing is clipped.

    Source:
        torchvision.transforms.v2.functional.rotate_bounding_boxes, before clamping.
    """
    height, width = input_hw
    boxes = np.array(boxes_xyxy, np.float64)
    if change.flip_horizontal:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if change.flip_vertical:
        boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    if change.angle:
        centre = np.array([width / 2, height / 2])
        corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] - centre  # (n, 4, 2)
        cosine, sine = math.cos(math.radians(change.angle)), math.sin(math.radians(change.angle))
        turned = corners @ np.array([[cosine, -sine], [sine, cosine]]) + centre  # y points down
        boxes = np.concatenate([turned.min(1), turned.max(1)], 1)
    return boxes


def _happens(part: AugmentationConfig, name: Any, random: np.random.Generator) -> bool:
    return bool(random.random() < part.probability.get(name, 1.0))


def _colour(name: str, amount: float, picture: Tensor) -> Tensor:
    if name == "hue" and picture.shape[0] == 1:
        return picture  # grey has none
    if name == "saturation" and picture.shape[0] == 1:
        return picture
    kernel = {
        "brightness": kernels.adjust_brightness_image,
        "contrast": kernels.adjust_contrast_image,
        "saturation": kernels.adjust_saturation_image,
        "hue": kernels.adjust_hue_image,
    }[name]
    changed: Tensor = kernel(picture, amount)
    return changed


def draw_crop(
    part: CropConfig, random: np.random.Generator, size_hw: tuple[int, int], boxes_xyxy: FloatArray | None
) -> tuple[float, float, float, float] | None:
    """A part of the image of random area and shape; None for the whole.

    Source:
        torchvision.transforms.RandomResizedCrop.get_params, with the boxes' condition added.
    """
    height, width = size_hw
    for _ in range(CROP_ATTEMPTS):
        area = height * width * random.uniform(*part.scale)
        ratio = math.exp(random.uniform(math.log(part.ratio[0]), math.log(part.ratio[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if not (0 < w <= width and 0 < h <= height):
            continue
        left, top = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
        crop = (float(left), float(top), float(left + w), float(top + h))
        if boxes_xyxy is None or (kept_share(boxes_xyxy, crop) >= part.min_box_visibility).all():
            return crop
    # Without a crop, `shortest` would cut a wide image's boxes away.
    return None if boxes_xyxy is None else (0.0, 0.0, float(width), float(height))


def kept_share(boxes_xyxy: FloatArray, crop_xyxy: tuple[float, float, float, float]) -> FloatArray:
    """(n,) share of each box's area that lies inside the crop; 1 for a box without area inside it."""
    left, top, right, bottom = crop_xyxy
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    inside = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    whole = (inside == boxes).all(1)
    return np.where(whole, 1.0, np.divide(kept, area, out=np.zeros_like(area), where=area > 0))
