"""Classification backbones of torchvision, `torchvision/<name>`: for weights that come in its layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models

from blemish.errors import BadRecipe, UnknownName
from blemish.models.image_level import IMAGE_TASKS, ImageNetwork, image_input, stages_of
from blemish.models.options import ImageOptions
from blemish.models.registry import register
from blemish.models.weights import from_torchvision
from blemish.vocabulary import Task


class PooledFeatures(nn.Module):
    """A torchvision network's `features`, averaged over the map."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, h, w) to (b, channels)."""
        pooled: Tensor = self.features(x).mean((2, 3))
        return pooled


def _default_weights(name: str) -> tuple[Path, ...]:
    published = models.get_model_weights(_bare(name)).DEFAULT
    return (from_torchvision(published.url.rpartition("/")[2]),)


@register(
    "torchvision/*",
    tasks=IMAGE_TASKS,
    summary="any of torchvision's classifiers that has `features`, such as torchvision/mobilenet_v2",
    licence="BSD-3-Clause (torchvision)",
    weights_licence="BSD-3-Clause (torchvision)",
    input_size=224,
    example="torchvision/mobilenet_v2",
    default_weights=_default_weights,
)
def any_torchvision(name: str, *, task: Task, label_count: int, **options: Any) -> ImageNetwork:
    """A torchvision classifier's features; stages are `features.0`, `features.1`, …, `head`."""
    chosen = ImageOptions.of(name, options)
    features = getattr(models.get_model(_bare(name), weights=None), "features", None)
    if not isinstance(features, nn.Sequential):
        raise BadRecipe(f"{name} has no `features` to pool; take it from timm, as timm/{_bare(name)}")
    backbone = PooledFeatures(features)
    width = _width(features)
    return ImageNetwork(
        backbone,
        width,
        task=task,
        label_count=label_count,
        options=chosen,
        inputs=(image_input(chosen, size_hw=(224, 224)),),
        stages=stages_of(backbone),
        feature_layers=(f"features.{len(features) - 1}",),
    )


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
