"""torchvision's SSDs with the same state dict, for checkpoints trained with torchvision, such as COCO's."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from blemish.config.detector_options import TorchvisionSSDOptions
from blemish.models._anchors import to_centers
from blemish.models._network import Network
from blemish.models._weights import from_torchvision
from blemish.models.architectures.ssd import SSD
from blemish.structures import Task

# Input side in pixels, NMS threshold, mean and standard deviation: those of torchvision's weights.
VGG, LITE = "ssd300-vgg16", "ssdlite320-mobilenet-v3"
SIDES = {VGG: 300, LITE: 320}
NMS_IOU = {VGG: 0.45, LITE: 0.55}
NORMALIZATION = {VGG: ((0.48235, 0.45882, 0.40784), (1 / 255,) * 3), LITE: ((0.5,) * 3, (0.5,) * 3)}
BUILDERS = {VGG: detection.ssd300_vgg16, LITE: detection.ssdlite320_mobilenet_v3_large}
FILES = {VGG: "ssd300_vgg16_coco-b556d3b4.pth", LITE: "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"}


class TorchvisionSSD(SSD):
    """torchvision's backbone and heads with the forward pass and loss of `SSD`."""

    def __init__(self, name: str, *, label_count: int, options: TorchvisionSSDOptions) -> None:
        Network.__init__(self)  # not SSD's: the layers have other names
        mean, std = NORMALIZATION[name]
        side = SIDES[name]
        self.inputs = (options.input_spec((side, side), "stretch", mean=mean, std=std),)
        self.task, self.label_count = Task.DETECTION, label_count
        self.match_iou, self.neg_pos_ratio = options.match_iou, options.neg_pos_ratio
        model = BUILDERS[name](weights=None, weights_backbone=None, num_classes=label_count + 1)
        self.backbone, self.head = model.backbone, model.head
        center, _, size, _ = model.box_coder.weights
        self.variances = (1 / center, 1 / size)
        blank = torch.zeros(1, 3, side, side)
        was = self.backbone.training
        with torch.no_grad():
            maps = list(self.backbone.eval()(blank).values())
        self.backbone.train(was)
        corners = model.anchor_generator(ImageList(blank, [(side, side)]), maps)[0]
        self.set_anchors(to_centers(corners), options, options.nms_iou or NMS_IOU[name])
        layers = dict(self.backbone.features.named_children())  # type: ignore[union-attr]
        self.feature_layers = (f"backbone.features.{len(layers) - 1}",)
        scale = ("backbone.scale_weight",) if name == VGG else ()
        self.stages = {
            **{
                f"features.{at}": (f"backbone.features.{at}",)
                for at, layer in layers.items()
                if any(True for _ in layer.parameters())
            },
            "head": (*scale, "backbone.extra", "head"),
        }

    def aliases(self, name: str) -> tuple[str, ...]:
        """Return the name itself: torchvision's files use the same names."""
        return (name,)

    def heads(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (b, n, 1 + L), background first, and offsets (b, n, 4), of images (b, 3, h, w)."""
        outputs: dict[str, Tensor] = self.head(list(self.backbone(image).values()))
        return outputs["cls_logits"], outputs["bbox_regression"]


def build(name: str, *, task: Task, label_count: int, options: TorchvisionSSDOptions) -> TorchvisionSSD:
    """Return the network with random weights."""
    return TorchvisionSSD(name, label_count=label_count, options=options)


def default_weights(name: str) -> tuple[Path, ...]:
    """Return torchvision's COCO weights of the network."""
    return (from_torchvision(FILES[name]),)
