"""`fusion`: EfficientNetV2-S and ConvNeXt-Small on one image at two sizes, with one head.

torchvision's EfficientNetV2-S, averaged to 1280 features, beside its ConvNeXt-Small, averaged and then
layer-normalized to 768: the pooled output of Hugging Face's ConvNextModel. The weights of each backbone load
from torchvision's or Hugging Face's files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from blemish.config.image_level_options import HeadSpec, ImageOptions
from blemish.models._image_level import build_head, image_input, output_specs, output_width
from blemish.models._network import Network
from blemish.models._weights import from_torchvision
from blemish.structures import Task

DEFAULT_HEAD = HeadSpec(hidden=(512, 256), dropout=(0.4, 0.3, 0.2), activation="gelu", norm="layer")
EFFICIENTNET_FILE = "efficientnet_v2_s-dd5fe13b.pth"
CONVNEXT_FILE = "convnext_small-0c510722.pth"


class Fusion(Network):
    """Two backbones and one head; the inputs are `efficientnet` (260 px) and `convnext` (224 px).

    Stages: `efficientnet.0` to `efficientnet.7`; `convnext.stem`, `convnext.0` to `convnext.3` (each with the
    downsampling before it, as in Hugging Face's numbering) and `convnext.norm`; `head`.
    """

    def __init__(self, *, task: Task, label_count: int, options: ImageOptions) -> None:
        super().__init__()
        self.task, self.label_count = task, label_count
        self.inputs = (
            image_input(options, name="efficientnet", size_hw=(260, 260)),
            image_input(options, name="convnext", size_hw=(224, 224)),
        )
        self.outputs, self.decoder = output_specs(task, options)
        self.efficientnet = models.efficientnet_v2_s(weights=None).features
        convnext = models.convnext_small(weights=None)
        self.convnext = convnext.features
        self.convnext_norm = nn.LayerNorm(768, eps=1e-6)
        self.head = build_head(1280 + 768, output_width(task, label_count), options.head or DEFAULT_HEAD)
        # torchvision's ConvNeXt alternates: 0 stem, 1 stage 0, 2 downsampling, 3 stage 1, …, 7 stage 3.
        self.stages = {
            **{f"efficientnet.{i}": (f"efficientnet.{i}",) for i in range(8)},
            "convnext.stem": ("convnext.0",),
            "convnext.0": ("convnext.1",),
            **{f"convnext.{i}": (f"convnext.{2 * i}", f"convnext.{2 * i + 1}") for i in (1, 2, 3)},
            "convnext.norm": ("convnext_norm",),
            "head": ("head",),
        }
        self.feature_layers = ("convnext.7", "efficientnet.7")

    def features(self, *inputs: Tensor) -> Tensor:
        """Return (b, 2048) pooled features: 1280 of EfficientNet, then 768 of ConvNeXt."""
        first = self.efficientnet(inputs[0]).mean((2, 3))  # (b, 1280)
        second = self.convnext_norm(self.convnext(inputs[1]).mean((2, 3)))  # (b, 768)
        return torch.cat([first, second], 1)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return (b, L) logits, from (b, 3, 260, 260) and (b, 3, 224, 224)."""
        return (self.head(self.features(*inputs)),)

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names of a tensor in torchvision's and Hugging Face's files."""
        part, _, rest = name.partition(".")
        if part == "efficientnet":
            return (name, f"features.{rest}")
        if part == "convnext":
            hugging_face, torchvision = hugging_face_key(rest), f"features.{rest}"
        elif part == "convnext_norm":  # torchvision's is part of its classifier
            hugging_face, torchvision = f"layernorm.{rest}", f"classifier.0.{rest}"
        else:
            return (name,)
        # ConvNextModel by itself, and inside Hugging Face's classifier.
        return (name, hugging_face, f"convnext.{hugging_face}", torchvision)


_BLOCK_PARTS = {
    "block.0.": "dwconv.",
    "block.2.": "layernorm.",
    "block.3.": "pwconv1.",
    "block.5.": "pwconv2.",
}


def hugging_face_key(name: str) -> str:
    """Return the name in Hugging Face's ConvNextModel of a tensor of torchvision's ConvNeXt `features`.

    Only `layer_scale` also differs in shape: (c, 1, 1) in torchvision, (c,) in Hugging Face.

    Example:
        >>> hugging_face_key("5.3.block.2.weight")
        'encoder.stages.2.layers.3.layernorm.weight'
        >>> hugging_face_key("0.1.bias"), hugging_face_key("4.1.weight")
        ('embeddings.layernorm.bias', 'encoder.stages.2.downsampling_layer.1.weight')
    """
    number, _, rest = name.partition(".")
    stage = int(number)
    if stage == 0:
        return "embeddings." + rest.replace("0.", "patch_embeddings.", 1).replace("1.", "layernorm.", 1)
    if stage % 2 == 0:
        return f"encoder.stages.{stage // 2}.downsampling_layer.{rest}"
    block, _, inner = rest.partition(".")
    for torchvision, hugging_face in _BLOCK_PARTS.items():
        inner = re.sub(f"^{re.escape(torchvision)}", hugging_face, inner)
    inner = "layer_scale_parameter" if inner == "layer_scale" else inner
    return f"encoder.stages.{stage // 2}.layers.{block}.{inner}"


def default_weights(name: str) -> tuple[Path, ...]:
    """Return torchvision's ImageNet weights of both backbones."""
    return (from_torchvision(EFFICIENTNET_FILE), from_torchvision(CONVNEXT_FILE))


def build(name: str, *, task: Task, label_count: int, options: ImageOptions) -> Fusion:
    """Return the network with random weights."""
    return Fusion(task=task, label_count=label_count, options=options)
