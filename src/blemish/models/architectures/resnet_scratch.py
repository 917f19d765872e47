"""The residual network written out: `resnet{18,34,50,101,152}-scratch`.

State dicts have torchvision's keys, so that its files load, such as `resnet50-19c8e357.pth`.

Source:
    He et al. 2015, "Deep Residual Learning for Image Recognition", table 1; the 3 x 3 convolution has the
    stride, as in torchvision.models.resnet, which this equals bit for bit with copied weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from blemish.config.image_level_options import ImageOptions
from blemish.models._image_level import RESNET_STAGES, ImageNetwork, image_input
from blemish.models._weights import RESNET_FILES, from_torchvision
from blemish.structures import Task


class BasicBlock(nn.Module):
    """A block of two 3 x 3 convolutions and a shortcut, for 18 and 34 layers."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, width, h / stride, w / stride) of (b, c, h, w)."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A block of 1 x 1, 3 x 3 and four times wider 1 x 1 convolutions and a shortcut, from 50 layers on."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, 4 x width, h / stride, w / stride) of (b, c, h, w)."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)  # type: ignore[no-any-return]


def shortcut(channels: int, width: int, stride: int) -> nn.Sequential | None:
    """Return the 1 x 1 projection of a block's input to its output; None if both have the same shape."""
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResidualNetwork(nn.Module):
    """A stem, four layers of blocks, and average pooling.

    Args:
        block: BasicBlock or Bottleneck.
        depths: number of blocks in each layer.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for position, depth in enumerate(depths):
            width = 64 * 2**position
            blocks = []
            for number in range(depth):
                blocks.append(block(channels, width, 2 if position and number == 0 else 1))
                channels = width * block.expansion
            self.add_module(f"layer{position + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.feature_count = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, `feature_count`) features of images (b, 3, h, w) float32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (b, 64, h / 4, w / 4)
        x = self.layer1(x)
        x = self.layer2(x)  # (b, …, h / 8, w / 8)
        x = self.layer3(x)  # (b, …, h / 16, w / 16)
        x = self.layer4(x)  # (b, feature_count, h / 32, w / 32)
        pooled: Tensor = self.avgpool(x).flatten(1)
        return pooled


# The kind of block, and the number of blocks in each of the four layers (He et al., table 1).
LAYERS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18-scratch": (BasicBlock, (2, 2, 2, 2)),
    "resnet34-scratch": (BasicBlock, (3, 4, 6, 3)),
    "resnet50-scratch": (Bottleneck, (3, 4, 6, 3)),
    "resnet101-scratch": (Bottleneck, (3, 4, 23, 3)),
    "resnet152-scratch": (Bottleneck, (3, 8, 36, 3)),
}


def default_weights(name: str) -> tuple[Path, ...]:
    """Return torchvision's file of the network's depth."""
    return (from_torchvision(*RESNET_FILES[name.removesuffix("-scratch")]),)


def build(name: str, *, task: Task, label_count: int, options: ImageOptions) -> ImageNetwork:
    """Return the network with random weights; its stages are `stem`, `layer1` to `layer4`, and `head`."""
    block, depths = LAYERS[name]
    backbone = ResidualNetwork(block, depths)
    return ImageNetwork(
        backbone,
        backbone.feature_count,
        task=task,
        label_count=label_count,
        options=options,
        inputs=(image_input(options, size_hw=(224, 224)),),
        stages=RESNET_STAGES,
        feature_layers=(f"layer4.{depths[-1] - 1}",),
    )
