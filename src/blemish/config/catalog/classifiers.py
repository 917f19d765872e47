"""The built-in architectures that give one answer for a whole image."""

from __future__ import annotations

from blemish.config.architectures import register
from blemish.config.image_level_options import ImageOptions
from blemish.pretrained import PRETRAINED

MODULES = "blemish.models.architectures"
IMAGE_TASKS = ("classification", "multilabel", "localization")
TIMM = "Apache-2.0 (timm)"
TORCHVISION = "BSD-3-Clause (torchvision)"

register(
    *(f"resnet{depth}-scratch" for depth in (18, 34, 50, 101, 152)),
    builder=f"{MODULES}.resnet_scratch:build",
    weight_finder=f"{MODULES}.resnet_scratch:default_weights",
    tasks=IMAGE_TASKS,
    options=ImageOptions,
    summary="residual network written out in this project; loads torchvision's weights",
    license="Apache-2.0",
    weights_license=TORCHVISION,
    input_size=224,
)
register(
    "resnet18",
    builder=f"{MODULES}.timm_backbone:build_resnet",
    weight_finder=f"{MODULES}.timm_backbone:resnet_weights",
    tasks=IMAGE_TASKS,
    options=ImageOptions,
    summary="ResNet-18 (timm) with a dropout head; the fastest to train",
    license=TIMM,
    weights_license="Apache-2.0 (timm), BSD-3-Clause (torchvision's file)",
    input_size=128,
)
register(
    "resnet50",
    builder=f"{MODULES}.timm_backbone:build_resnet",
    weight_finder=f"{MODULES}.timm_backbone:resnet_weights",
    tasks=IMAGE_TASKS,
    options=ImageOptions,
    summary="ResNet-50 (timm) with a configurable head",
    license=TIMM,
    weights_license="Apache-2.0 (timm), BSD-3-Clause (torchvision's file)",
    input_size=224,
    smallest=None,
)
for lite in PRETRAINED.values():
    register(
        lite.name,
        builder=f"{MODULES}.timm_backbone:build_lite",
        weight_finder="blemish.models._efficientnet_lite:default_weights",
        tasks=IMAGE_TASKS,
        options=ImageOptions,
        summary="EfficientNet-Lite (timm), whose weights are a package",
        license=TIMM,
        weights_license=f"{lite.license} (EfficientNet-Lite)",
        input_size=lite.input_size,
        smallest=lite.name if lite.name == "efficientnet-lite0" else None,
    )
register(
    "timm/*",
    builder=f"{MODULES}.timm_backbone:build_timm",
    weight_finder=f"{MODULES}.timm_backbone:timm_weights",
    tasks=IMAGE_TASKS,
    options=ImageOptions,
    summary="any timm architecture by its timm name, such as timm/convnext_tiny",
    license=TIMM,
    weights_license="depends on the model: see its card on huggingface.co/timm",
    input_size=224,
    example="timm/test_resnet",
)
register(
    "torchvision/*",
    builder=f"{MODULES}.torchvision_backbone:build",
    weight_finder=f"{MODULES}.torchvision_backbone:default_weights",
    tasks=IMAGE_TASKS,
    options=ImageOptions,
    summary="any torchvision classifier that has `features`, such as torchvision/mobilenet_v2",
    license=TORCHVISION,
    weights_license=TORCHVISION,
    input_size=224,
    example="torchvision/mobilenet_v2",
)
register(
    "fusion",
    builder=f"{MODULES}.fusion:build",
    weight_finder=f"{MODULES}.fusion:default_weights",
    tasks=("classification", "multilabel"),
    options=ImageOptions,
    summary="EfficientNetV2-S at 260 px and ConvNeXt-Small at 224 px with one head",
    license="Apache-2.0; backbones BSD-3-Clause (torchvision)",
    weights_license=TORCHVISION,
    input_size=260,
)
