"""torchvision's classification backbones, `torchvision/<name>`, for weights with torchvision's keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from blemish.config.image_level_options import ImageOptions
from blemish.errors import BadRecipe, UnknownName
from blemish.models._image_level import ImageNetwork, image_input, stages_of
from blemish.models._weights import from_torchvision
from blemish.structures import Task


class PooledFeatures(nn.Module):
    """The `features` of a torchvision network with average pooling."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, channels) features of images (b, 3, h, w)."""
        pooled: Tensor = self.features(x).mean((2, 3))
        return pooled


class FeatureMaps(nn.Module):
    """The feature maps of a torchvision network at given strides, the last one of each stride.

    Args:
        name: `torchvision/NAME`.
        strides: pixels of the input per cell.

    Raises:
        BadRecipe: the network has no map at one of the strides ("bad-recipe.unsuitable-backbone").
    """

    def __init__(self, name: str, strides: Sequence[int]) -> None:
        super().__init__()
        features = _features(name)
        side = 32 * max(strides)
        with torch.device("meta"):  # only the shapes of its maps are read
            shapes = _shapes(_features(name), torch.zeros(1, 3, side, side))
        by_stride = {side // shape[2]: (at, shape[1]) for at, shape in enumerate(shapes)}
        if missing := [s for s in strides if s not in by_stride]:
            raise BadRecipe(
                f"model.options.backbone: {name} has no map at stride {missing[0]}. Use another backbone.",
                reason="unsuitable-backbone",
            )
        self.taken = tuple(by_stride[s][0] for s in strides)
        self.channels = [by_stride[s][1] for s in strides]
        self.features = features[: self.taken[-1] + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of images (b, 3, h, w), the largest first."""
        maps = []
        for at, layer in enumerate(self.features):
            x = layer(x)
            if at in self.taken:
                maps.append(x)
        return maps


def default_weights(name: str) -> tuple[Path, ...]:
    """Return torchvision's newest weights, downloaded if they are not in the hub cache."""
    published = models.get_model_weights(_plain_name(name)).DEFAULT
    return (from_torchvision(published.url.rpartition("/")[2]),)


def build(name: str, *, task: Task, label_count: int, options: ImageOptions) -> ImageNetwork:
    """Return a torchvision classifier with random weights; its stages are `features.0`, …, and `head`."""
    features = _features(name)
    backbone = PooledFeatures(features)
    width = _width(features)
    return ImageNetwork(
        backbone,
        width,
        task=task,
        label_count=label_count,
        options=options,
        inputs=(image_input(options, size_hw=(224, 224)),),
        stages=stages_of(backbone),
        feature_layers=(f"features.{len(features) - 1}",),
    )


def _features(name: str) -> nn.Sequential:
    """Return the convolutional part of a classifier, with random weights."""
    features = getattr(models.get_model(_plain_name(name), weights=None), "features", None)
    if not isinstance(features, nn.Sequential):
        raise BadRecipe(
            f"{name} has no `features`. Use timm's version, timm/{_plain_name(name)}.",
            reason="unsuitable-backbone",
        )
    return features


def _shapes(features: nn.Sequential, x: Tensor) -> list[tuple[int, ...]]:
    """Return the shape after each layer."""
    shapes = []
    for layer in features:
        x = layer(x)
        shapes.append(tuple(x.shape))
    return shapes


def _plain_name(name: str) -> str:
    plain = name.removeprefix("torchvision/")
    known = models.list_models(module=models)
    if plain not in known:
        raise UnknownName("torchvision architecture", plain, known)
    return plain


def _width(features: nn.Module) -> int:
    """Return the number of output channels of the last convolution."""
    convolutions = [m for m in features.modules() if isinstance(m, nn.Conv2d)]
    return int(convolutions[-1].out_channels)
