"""Classification backbones of torchvision, `torchvision/<name>`: for weights that come in its layout."""

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
    """A torchvision network's `features`, averaged over the map."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, h, w) to (b, channels)."""
        pooled: Tensor = self.features(x).mean((2, 3))
        return pooled


class FeatureMaps(nn.Module):
    """Maps from the middle of a torchvision network: the last at each of some strides.

    Raises:
        BadRecipe: the network has none at one of them.
    """

    def __init__(self, name: str, strides: Sequence[int]) -> None:
        super().__init__()
        features = _features(name)
        side = 32 * max(strides)
        with torch.device("meta"):  # only asked where its maps are
            shapes = _shapes(_features(name), torch.zeros(1, 3, side, side))
        found = {side // shape[2]: (at, shape[1]) for at, shape in enumerate(shapes)}
        if missing := [s for s in strides if s not in found]:
            raise BadRecipe(f"{name} gives no map at stride {missing[0]}; take another backbone")
        self.taken = tuple(found[s][0] for s in strides)
        self.channels = [found[s][1] for s in strides]
        self.features = features[: self.taken[-1] + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps, the finest first, from (b, 3, h, w)."""
        maps = []
        for at, layer in enumerate(self.features):
            x = layer(x)
            if at in self.taken:
                maps.append(x)
        return maps


def default_weights(name: str) -> tuple[Path, ...]:
    """Torchvision's newest file for `torchvision/NAME`, from the hub cache or downloaded."""
    published = models.get_model_weights(_bare(name)).DEFAULT
    return (from_torchvision(published.url.rpartition("/")[2]),)


def build(name: str, *, task: Task, label_count: int, options: ImageOptions) -> ImageNetwork:
    """Return a torchvision classifier with random weights; its stages are `features.0`, `features.1`, …, `head`."""
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
    """The convolutions of a classifier, with random weights."""
    features = getattr(models.get_model(_bare(name), weights=None), "features", None)
    if not isinstance(features, nn.Sequential):
        raise BadRecipe(f"{name} has no `features`; take it from timm, as timm/{_bare(name)}")
    return features


def _shapes(features: nn.Sequential, x: Tensor) -> list[tuple[int, ...]]:
    """The shape after each layer."""
    shapes = []
    for layer in features:
        x = layer(x)
        shapes.append(tuple(x.shape))
    return shapes


def _bare(name: str) -> str:
    bare = name.removeprefix("torchvision/")
    known = models.list_models(module=models)
    if bare not in known:
        raise UnknownName("torchvision architecture", bare, known)
    return bare


def _width(features: nn.Module) -> int:
    """Channels that come out of the last convolution."""
    convolutions = [m for m in features.modules() if isinstance(m, nn.Conv2d)]
    return int(convolutions[-1].out_channels)
