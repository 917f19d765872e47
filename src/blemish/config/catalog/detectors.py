"""The built-in architectures that find objects: boxes, or boxes and masks."""

from __future__ import annotations

from blemish.config.architectures import register
from blemish.config.detector_options import (
    HybridOptions,
    RCNNOptions,
    RFDETROptions,
    SSDOptions,
    TorchvisionSSDOptions,
    YOLO26Options,
    YOLOOptions,
)
from blemish.pretrained import PRETRAINED

MODULES = "blemish.models.architectures"
TORCHVISION = "BSD-3-Clause (torchvision)"
LITE_LICENSE = f"{PRETRAINED['efficientnet-lite0'].license} (EfficientNet-Lite)"
IMAGENET_BACKBONE = "BSD-3-Clause (torchvision's ImageNet backbone)"
ROBOFLOW = "Apache-2.0 (Roboflow)"
ULTRALYTICS = "AGPL-3.0 (Ultralytics): a program or service that uses it must offer its source"

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
YOLOS = tuple(f"{generation}{size}" for generation in ("yolov8", "yolo11", "yolo12") for size in "nsmlx")
RFDETR_SIZES = ("nano", "small", "medium")
PLAIN = {"interpolation": "linear-plain"}  # how their own packages resize

register(
    "ssd300-resnet50",
    builder=f"{MODULES}.ssd:build",
    weight_finder=f"{MODULES}.ssd:default_weights",
    tasks=["detection"],
    options=SSDOptions,
    summary="SSD on layer2, layer3 and layer4 of ResNet-50 (or any timm backbone) and auxiliary maps",
    license="Apache-2.0",
    weights_license=IMAGENET_BACKBONE,
    input_size=300,
    preset="ssd",
)
register(
    *(f"ssd300-{lite}" for lite in PRETRAINED),
    builder=f"{MODULES}.ssd:build",
    weight_finder=f"{MODULES}.ssd:default_weights",
    tasks=["detection"],
    options=SSDOptions,
    summary="SSD on EfficientNet-Lite, whose weights are a package",
    license="Apache-2.0",
    weights_license=LITE_LICENSE,
    input_size=300,
    preset="ssd",
)
register(
    "ssd300-vgg16",
    "ssdlite320-mobilenet-v3",
    builder=f"{MODULES}.torchvision_ssd:build",
    weight_finder=f"{MODULES}.torchvision_ssd:default_weights",
    tasks=["detection"],
    options=TorchvisionSSDOptions,
    summary="torchvision's SSDs, for checkpoints trained with torchvision",
    license=TORCHVISION,
    weights_license=TORCHVISION,
    input_size=300,
    smallest="ssdlite320-mobilenet-v3",
    preset="ssd",
)
for family, task, title in (
    ("fasterrcnn", "detection", "Faster R-CNN"),
    ("maskrcnn", "segmentation", "Mask R-CNN"),
):
    register(
        *(f"{family}-{backbone}-fpn{version}" for backbone in RESNETS for version in ("", "-v2")),
        builder=f"{MODULES}.torchvision_detectors:build",
        weight_finder=f"{MODULES}.torchvision_detectors:default_weights",
        tasks=[task],
        options=RCNNOptions,
        summary=f"{title} with a feature pyramid (torchvision); v2 has deeper heads with batch normalization",
        license=TORCHVISION,
        weights_license=IMAGENET_BACKBONE,
        input_size=800,
        preset="rcnn",
    )
for family, task, title in (
    ("fasterrcnn", "detection", "Faster R-CNN"),
    ("maskrcnn", "segmentation", "Mask R-CNN"),
):
    register(
        *(f"{family}-{lite}-fpn" for lite in PRETRAINED),
        builder=f"{MODULES}.torchvision_detectors:build",
        weight_finder=f"{MODULES}.torchvision_detectors:default_weights",
        tasks=[task],
        options=RCNNOptions,
        summary=f"{title} with a feature pyramid on EfficientNet-Lite, whose weights are a package",
        license=TORCHVISION,
        weights_license=LITE_LICENSE,
        input_size=800,
        preset="rcnn",
    )
for suffix, task, title in (("", "detection", "YOLO"), ("-seg", "segmentation", "YOLO with masks")):
    register(
        *(f"{name}{suffix}" for name in YOLOS),
        builder=f"{MODULES}.yolo:build",
        weight_finder=f"{MODULES}.yolo:default_weights",
        tasks=[task],
        options=YOLOOptions,
        summary=f"{title} from Ultralytics, an extra under the AGPL-3.0",
        license=ULTRALYTICS,
        weights_license="AGPL-3.0 (Ultralytics)",
        copyleft=True,
        input_size=640,
        smallest=f"yolo11n{suffix}",
        extra="yolo",
        imported_options=PLAIN,
        preset="yolo",
    )
for suffix, task in (("", "detection"), ("-seg", "segmentation")):
    register(
        *(f"yolo26{size}{suffix}" for size in "nsmlx"),
        builder=f"{MODULES}.yolo26:build",
        weight_finder=f"{MODULES}.yolo:default_weights",
        tasks=[task],
        options=YOLO26Options,
        summary="YOLO26 from Ultralytics, without NMS, an extra under the AGPL-3.0",
        license=ULTRALYTICS,
        weights_license="AGPL-3.0 (Ultralytics)",
        copyleft=True,
        input_size=640,
        smallest=f"yolo26n{suffix}",
        extra="yolo",
        imported_options=PLAIN,
        preset="yolo",
    )
register(
    *(f"rfdetr-{size}" for size in RFDETR_SIZES),
    builder=f"{MODULES}.rfdetr:build",
    weight_finder=f"{MODULES}.rfdetr:default_weights",
    tasks=["detection"],
    options=RFDETROptions,
    summary="RF-DETR (Roboflow): DINOv2 features and a set of queries, without NMS",
    license=ROBOFLOW,
    weights_license=ROBOFLOW,
    input_size=384,
    extra="rfdetr",
    imported_options=PLAIN,
    preset="rfdetr",
)
register(
    *(f"rfdetr-seg-{size}" for size in RFDETR_SIZES),
    builder=f"{MODULES}.rfdetr:build",
    weight_finder=f"{MODULES}.rfdetr:default_weights",
    tasks=["segmentation"],
    options=RFDETROptions,
    summary="RF-DETR with masks (Roboflow)",
    license=ROBOFLOW,
    weights_license=ROBOFLOW,
    input_size=312,
    extra="rfdetr",
    imported_options=PLAIN,
    preset="rfdetr",
)
register(
    "hybrid",
    builder=f"{MODULES}.hybrid:build",
    weight_finder=f"{MODULES}.hybrid:default_weights",
    tasks=["segmentation"],
    options=HybridOptions,
    summary="boxes of any registered detector (default: yolov8s), masks of U-Net++ inside them",
    license="MIT (segmentation_models_pytorch), and the detector's: yolov8s is AGPL-3.0",
    weights_license="the detector's, and BSD-3-Clause (torchvision's encoder)",
    input_size=640,
    extra="segment",
    preset="ssd",
)
