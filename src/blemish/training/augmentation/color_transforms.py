"""Brightness, contrast, saturation and hue with torchvision's kernels, and gains in the HSV color space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as kernels

HSVGains = tuple[float, float, float]  # shift of the hue, factor of the saturation, factor of the value
_KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": kernels.adjust_brightness_image,
    "contrast": kernels.adjust_contrast_image,
    "saturation": kernels.adjust_saturation_image,
    "hue": kernels.adjust_hue_image,
}
COLORS = tuple(_KERNELS)
_ONLY_COLOR = ("saturation", "hue")  # a gray image has neither


def adjust_color(image: Tensor, name: str, amount: float) -> Tensor:
    """Return an image with one color property changed.

    Args:
        image: (C, H, W) uint8, or float32 in [0, 1].
        name: one of `COLORS`.
        amount: for `hue` a shift in [-0.5, 0.5] of the color circle; otherwise a factor.
    """
    if name in _ONLY_COLOR and image.shape[0] == 1:
        return image
    return _KERNELS[name](image, amount)


def draw_amount(name: str, max_change: float, random: np.random.Generator) -> float:
    """Return a random amount for `adjust_color`: within `max_change` of the amount that changes nothing."""
    neutral = 0.0 if name == "hue" else 1.0
    return float(random.uniform(neutral - max_change, neutral + max_change))


def draw_hsv_gains(max_change: HSVGains, random: np.random.Generator) -> HSVGains:
    """Return a random shift of the hue and random factors of saturation and value.

    Args:
        max_change: largest shift of the hue, in shares of the color circle; largest changes of the factors.
        random: the source of the draws.
    """
    hue, saturation, value = (float(x) for x in random.uniform(-1, 1, 3) * max_change)
    return hue, 1 + saturation, 1 + value


def adjust_hsv(pixels: NDArray[Any], gains: HSVGains) -> NDArray[Any]:
    """Return an image with its hue shifted, and its saturation and value multiplied.

    Args:
        pixels: (H, W, C) uint8, or float32 in [0, 1]: gray, so that only its value changes.
        gains: shift of the hue in [-0.5, 0.5], factors of saturation and value.

    Returns:
        Pixels of the same shape and type. 8-bit colors pass through Pillow's HSV with 8 bits per channel.
    """
    hue, saturation, value = gains
    if pixels.dtype != np.uint8:
        clipped: NDArray[Any] = np.clip(pixels * np.float32(value), 0, 1)
        return clipped
    levels = np.arange(256)
    brighter = np.clip(np.rint(levels * value), 0, 255)
    if pixels.shape[2] != 3:
        gray: NDArray[Any] = brighter.astype(np.uint8)[pixels]
        return gray
    tables = ((levels + round(hue * 256)) % 256, np.clip(np.rint(levels * saturation), 0, 255), brighter)
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("HSV")
    return np.asarray(image.point(np.concatenate(tables).astype(int).tolist()).convert("RGB"))


@dataclass(frozen=True)
class ColorTransform:
    """A random change of one color property.

    Attributes:
        name: one of `COLORS`.
        max_change: largest change of the factor, or of the shift for `hue`.
    """

    name: str
    max_change: float = 0.2

    def __post_init__(self) -> None:
        limit = 0.5 if self.name == "hue" else 1.0
        if not 0 <= self.max_change <= limit:
            raise ValueError(f"max_change: expected a number in [0, {limit:g}], got {self.max_change}")

    def draw(self, random: np.random.Generator) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Return the change of one image."""
        return partial(_apply, self.name, draw_amount(self.name, self.max_change, random))


def _apply(name: str, amount: float, pixels: NDArray[Any]) -> NDArray[Any]:
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # (C, H, W)
    return np.ascontiguousarray(adjust_color(image, name, amount).numpy().transpose(1, 2, 0))
