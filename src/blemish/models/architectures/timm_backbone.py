"""timm backbones with Blemish's head: `resnet18`, `resnet50` and any `timm/<name>`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from blemish.config.image_level_options import HeadSpec, ImageOptions
from blemish.errors import MissingExtra, UnknownName
from blemish.models._efficientnet_lite import timm_name
from blemish.models._image_level import RESNET_STAGES, ImageNetwork, image_input, stages_of
from blemish.models._weights import RESNET_FILES, from_timm, in_hub_cache
from blemish.pretrained import MEAN, PRETRAINED, STD
from blemish.structures import Task

RESNET18_HEAD = HeadSpec(hidden=(256,), dropout=(0.5, 0.3))


def build_resnet(name: str, *, task: Task, label_count: int, options: ImageOptions) -> ImageNetwork:
    """Return a timm ResNet with random weights; its stages are `stem`, `layer1` to `layer4`, and `head`."""
    if name == "resnet18" and options.head is None:
        options = options.model_copy(update={"head": RESNET18_HEAD})
    backbone = _create_backbone(name, None)
    last = f"layer4.{len(backbone.layer4) - 1}"
    return ImageNetwork(
        backbone,
        backbone.num_features,
        task=task,
        label_count=label_count,
        options=options,
        inputs=(image_input(options, size_hw=(128, 128) if name == "resnet18" else (224, 224)),),
        stages=RESNET_STAGES,
        feature_layers=(last,),
    )


def build_lite(name: str, *, task: Task, label_count: int, options: ImageOptions) -> ImageNetwork:
    """Return an EfficientNet-Lite with random weights; its stages are the blocks of the backbone."""
    side = PRETRAINED[name].input_size
    backbone = _create_backbone(timm_name(name), None)
    return ImageNetwork(
        backbone,
        backbone.num_features,
        task=task,
        label_count=label_count,
        options=options,
        inputs=(image_input(options, size_hw=(side, side), mean=MEAN, std=STD),),
        stages=stages_of(backbone),
        # The map that is pooled: behind an earlier layer, the gradient of ReLU6 has no operator in ONNX.
        feature_layers=("bn2",),
    )


def build_timm(name: str, *, task: Task, label_count: int, options: ImageOptions) -> ImageNetwork:
    """Return any timm network with random weights; its stages are the blocks of the backbone."""
    timm_name = name.removeprefix("timm/")
    _check_name(timm_name)
    timm = _import_timm()
    card = timm.get_pretrained_cfg(timm_name)
    size_hw = options.size_hw("image", tuple(card.input_size[1:]) if card else (224, 224))
    backbone = _create_backbone(timm_name, size_hw)
    info = getattr(backbone, "feature_info", None)
    has_tokens = hasattr(backbone, "patch_embed")  # tokens are not feature maps
    spec = image_input(
        options,
        size_hw=size_hw,
        **({"mean": card.mean, "std": card.std} if card and len(card.mean) == 3 else {}),
    )
    return ImageNetwork(
        backbone,
        getattr(backbone, "head_hidden_size", None) or backbone.num_features,
        task=task,
        label_count=label_count,
        options=options,
        inputs=(spec,),
        stages=stages_of(backbone),
        feature_layers=() if has_tokens or not info else (info[-1]["module"],),
    )


def timm_weights(name: str) -> tuple[Path, ...]:
    """Return timm's published weights, downloaded if they are not in the cache."""
    return (from_timm(name.removeprefix("timm/")),)


def resnet_weights(name: str) -> tuple[Path, ...]:
    """Return torchvision's file if it is in the hub cache, because its keys are timm's; else timm's own."""
    return (in_hub_cache(*RESNET_FILES[name]) or from_timm(name),)


def _import_timm() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import timm
    except ImportError as error:
        raise MissingExtra("train", "a timm architecture") from error
    return timm


def _check_name(timm_name: str) -> None:
    timm = _import_timm()
    if not timm.is_model(timm_name.partition(".")[0]):
        raise UnknownName("timm architecture", timm_name, timm.list_models())


def _create_backbone(timm_name: str, size_hw: tuple[int, int] | None) -> Any:
    """Return timm's network without its classifier and with random weights."""
    timm = _import_timm()
    backbone: nn.Module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if size_hw is not None:
            try:  # transformers have a fixed input size; convolutional networks do not accept the argument
                return timm.create_model(timm_name, pretrained=False, num_classes=0, img_size=size_hw)
            except TypeError:
                pass
        backbone = timm.create_model(timm_name, pretrained=False, num_classes=0)
    return backbone
