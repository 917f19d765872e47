"""Brightness, contrast, saturation and hue, with torchvision's kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as kernels

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
